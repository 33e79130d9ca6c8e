// One schedule: its next ticks, and a calendar of what became of those that passed.
import { html } from "../lib/ui.js";
import { useResource, useLive } from "../lib/resource.js";
import { act } from "../lib/acts.js";
import { part } from "../lib/api.js";
import { go } from "../lib/router.js";
import { now } from "../lib/clock.js";
import { clock, day, exact, length, number, relative, several } from "../lib/format.js";
import { plain, short } from "../lib/text.js";
import { confirm } from "../parts/dialog.js";
import { Loaded, Button, Empty, Note, RunId, Sheet, Text, Time } from "../parts/basics.js";
import { Icon } from "../parts/icons.js";
import { Json } from "../parts/json.js";
import { State, StateIcon, tone, word } from "../parts/state.js";
import { Table } from "../parts/table.js";
import { ScheduleActs } from "./schedules.js";

const TICKS = [
  { name: "Tick", kind: "fit", cell: (tick) => html`<time datetime=${tick.tick} title=${exact(tick.tick)}>${day(tick.tick)} ${clock(tick.tick)}</time>` },
  { name: "Outcome", kind: "fit", cell: (tick) => html`<${State} state=${tick.outcome} />` },
  { name: "Run", kind: "wide", cell: (tick) => (tick.run ? html`<${RunId} id=${tick.run} />` : html`<${Text} value=${tick.error} most=${160} />`) },
  { name: "Late by", kind: "num", at: "at-middle", cell: (tick) => length(Date.parse(tick.fired_at) - Date.parse(tick.tick)) },
];

/** The ticks by day, the latest day first. */
const byDay = (ticks) => {
  const days = new Map();
  for (const tick of ticks) {
    const name = day(tick.tick);
    days.set(name, [tick, ...(days.get(name) ?? [])]);
  }
  return [...days];
};

const MOST_A_DAY = 96;

function Calendar({ ticks }) {
  return html`<div class="calendar">${byDay(ticks).map(([name, all]) => html`<div class="day" key=${name}>
    <span class="soft num">${name}</span>
    <span class="ticks">${all.slice(-MOST_A_DAY).map((tick) => {
      const text = `${clock(tick.tick)}: ${word(tick.outcome).toLowerCase()}`;
      const inner = html`<${StateIcon} state=${tick.outcome} silent />`;
      return tick.run
        ? html`<a key=${tick.tick} class=${`tick ${tone(tick.outcome)}`} href=${`/runs/${tick.run}`} title=${text} aria-label=${text}>${inner}</a>`
        : html`<span key=${tick.tick} class=${`tick ${tone(tick.outcome)}`} title=${text} role="img" aria-label=${text}>${inner}</span>`;
    })}${all.length > MOST_A_DAY && html`<span class="quiet small">and ${number(all.length - MOST_A_DAY)} before</span>`}</span>
  </div>`)}</div>`;
}

const askDelete = (schedule) => confirm({
  title: `Delete ${short(schedule.name, 60)}?`, act: "Delete the schedule", danger: true,
  body: html`<p>No more runs are started by it, and the record of its ticks goes with it. Its runs stay. It cannot be undone.</p>`,
  fields: [{ name: "reason", label: "Why", placeholder: "optional", hint: "It stands in the audit." }],
  run: ({ reason }) => act("DELETE", `schedules/${part(schedule.name)}`, { reason, quiet: true, done: `Schedule ${short(schedule.name, 60)} is deleted`, after: () => go("/schedules") }),
});

function Settings({ schedule }) {
  return html`<dl class="facts">
    <dt>cron</dt><dd><code>${plain(schedule.cron)}</code> <span class="quiet">${plain(schedule.zone)}</span></dd>
    <dt>starts</dt><dd><a href=${`/flows/${encodeURIComponent(schedule.flow)}`}>${short(schedule.flow, 60)}</a> ${schedule.version ? `v${schedule.version}` : html`<span class="quiet">the latest version</span>`}</dd>
    <dt>missed ticks</dt><dd>${{ skip: "are left out", once: "start one run for all of them", all: "start a run each" }[schedule.missed]}</dd>
    <dt>while its run lives</dt><dd>${{ allow: "another one is started", skip: "the tick is left out", queue: "the next run waits behind it" }[schedule.overlap]}</dd>
    ${schedule.jitter_ms > 0 && html`<dt>jitter</dt><dd>up to ${length(schedule.jitter_ms)}</dd>`}
    ${schedule.starts_at && html`<dt>not before</dt><dd>${exact(schedule.starts_at)}</dd>`}
    ${schedule.ends_at && html`<dt>not after</dt><dd>${exact(schedule.ends_at)}</dd>`}
    <dt>input</dt><dd><${Json} value=${schedule.input} label="input" /></dd>
  </dl>`;
}

export function Schedule({ name }) {
  const found = useResource(`schedules/${part(name)}`, { next: 12, limit: 500 });
  useLive({ topics: ["schedules"] }, () => found.reload());
  return html`<${Loaded} of=${found} what="The schedule">${(schedule) => html`<div class="stack">
    <div class="run-head"><h2>${short(schedule.name, 100)}</h2><${State} state=${schedule.paused_at ? "paused" : "active"} />
      <div class="row push"><${ScheduleActs} schedule=${schedule} reload=${found.reload} /><${Button} kind="danger" onClick=${() => askDelete(schedule)}>Delete…<//></div></div>
    ${schedule.paused_at && html`<${Note} tone="hold" icon="s_paused">It is paused since <${Time} at=${schedule.paused_at} /> and starts nothing. Ticks that pass meanwhile are ${schedule.missed === "skip" ? "left out" : "made up for when it goes on"}.<//>`}
    ${schedule.last_error && html`<${Note} tone="bad" icon="s_failed"><b>The last tick could start no run.</b><div class="text">${plain(schedule.last_error)}</div><//>`}
    <div class="columns">
      <div class="stack"><${Sheet} title="Past ticks" about=${`${several(schedule.past.length, "tick")}, by day`} pad>
        ${schedule.past.length ? html`<${Calendar} ticks=${schedule.past} />` : html`<${Empty} icon="schedules" title="No tick has passed yet" />`}
      <//>
      <${Sheet} title="The last of them"><${Table} label="Past ticks" columns=${TICKS} rows=${schedule.past.slice(0, 20)} rowKey=${(tick) => tick.tick} empty=${html`<${Empty} icon="schedules" title="No tick has passed yet" />`} /><//></div>
      <div class="stack">
        <${Sheet} title="Next ticks">${schedule.next.length
          ? html`<ul class="list">${schedule.next.slice(0, 8).map((tick) => html`<li key=${tick}><${Icon} name="clock" /><span class="words num">${day(tick)} ${clock(tick)}</span><span class="quiet small">${relative(tick, now.value)}</span></li>`)}</ul>`
          : html`<${Empty} icon="schedules" title=${schedule.paused_at ? "None while it is paused" : "No tick will come any more"} />`}<//>
        <${Sheet} title="Settings" pad><${Settings} schedule=${schedule} /><//>
      </div>
    </div>
  </div>`}<//>`;
}
