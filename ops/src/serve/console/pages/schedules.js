// Schedules, with their next ticks.
import { html } from "../lib/ui.js";
import { useResource, useLive } from "../lib/resource.js";
import { steerSchedule } from "../lib/acts.js";
import { now } from "../lib/clock.js";
import { exact, relative, several } from "../lib/format.js";
import { short, plain } from "../lib/text.js";
import { Loaded, Button, Empty, Time, Text } from "../parts/basics.js";
import { Table } from "../parts/table.js";
import { State } from "../parts/state.js";

/** Pausing, resuming and running one. */
export const ScheduleActs = ({ schedule, reload, size }) => html`
  <${Button} size=${size} icon="play" onClick=${() => steerSchedule(schedule.name, "trigger", { after: reload })} aria-label=${`Run now: ${short(schedule.name, 40)}`}>Run now<//>
  ${schedule.paused_at
    ? html`<${Button} size=${size} icon="play" kind=${!size && "main"} onClick=${() => steerSchedule(schedule.name, "resume", { after: reload })} aria-label=${`Resume ${short(schedule.name, 40)}`}>Resume<//>`
    : html`<${Button} size=${size} icon="pause" onClick=${() => steerSchedule(schedule.name, "pause", { after: reload })} aria-label=${`Pause ${short(schedule.name, 40)}`}>Pause<//>`}`;

const columns = (reload) => [
  { name: "Schedule", kind: "wide", cell: (one) => html`<a class="strong cut" href=${`/schedules/${encodeURIComponent(one.name)}`}>${short(one.name, 80)}</a>${one.last_error && html`<span class="under bad"><${Text} value=${one.last_error} most=${160} /></span>`}` },
  { name: "State", kind: "fit", cell: (one) => html`<${State} state=${one.paused_at ? "paused" : one.last_error ? "warning" : "active"} />` },
  { name: "When", kind: "fit", at: "at-middle", cell: (one) => html`<code>${plain(one.cron)}</code> <span class="quiet small">${short(one.zone, 40)}</span>` },
  { name: "Starts", kind: "fit", at: "at-middle", cell: (one) => html`${short(one.flow, 40)}${one.version ? html` <span class="quiet">v${one.version}</span>` : null}` },
  { name: "Next", kind: "fit", cell: (one) => (one.next.length ? html`<span title=${one.next.map(exact).join("\n")}>${relative(one.next[0], now.value)}<span class="quiet at-wide"> , ${one.next.slice(1, 3).map((tick) => relative(tick, now.value)).join(", ")}</span></span>` : html`<span class="quiet">${one.paused_at ? "paused" : "never again"}</span>`) },
  { name: "Last", kind: "num", at: "at-middle", cell: (one) => html`<${Time} at=${one.last_at} fallback="never" />` },
  { name: "What to do", hidden: true, kind: "fit", at: "at-middle", cell: (one) => html`<div class="acts"><${ScheduleActs} schedule=${one} reload=${reload} size="tiny" /></div>` },
];

export function Schedules() {
  const schedules = useResource("schedules");
  useLive({ topics: ["schedules"] }, (name, data) => name === "schedules" && schedules.set(data));
  return html`<${Loaded} of=${schedules} what="The schedules">${(data) => html`<div class="sheet">
    <${Table} label="Schedules" columns=${columns(schedules.reload)} rows=${data} rowKey=${(one) => one.name} href=${(one) => `/schedules/${encodeURIComponent(one.name)}`}
      empty=${html`<${Empty} icon="schedules" title="There are no schedules">A schedule starts runs of a flow at the ticks of a cron expression: <code>longhaul schedule put NAME '0 3 * * *' FLOW</code>.<//>`} />
  </div><p class="pages">${several(data.length, "schedule")}</p>`}<//>`;
}
