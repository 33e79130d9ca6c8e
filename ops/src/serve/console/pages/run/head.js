// Who the run is, and what can be done with it.
import { html } from "../../lib/ui.js";
import { VERBS, allowed, steer, act } from "../../lib/acts.js";
import { go } from "../../lib/router.js";
import { short } from "../../lib/text.js";
import { confirm, Menu } from "../../parts/dialog.js";
import { Button, RunId, Text, Time, Lasted, Pill, Meter } from "../../parts/basics.js";
import { State } from "../../parts/state.js";

const MAIN = ["retry", "resume", "begin", "pause"];

const ask = (run, verb, reload) => () => {
  if (!VERBS[verb].danger) return steer(run, verb, { after: reload });
  return confirm({
    title: `${VERBS[verb].text} this run?`,
    act: `${VERBS[verb].text} the run`,
    danger: true,
    body: html`<p>What it runs is stopped, what it has finished stays finished, and its children are cancelled with it. It can be retried later.</p>`,
    fields: [{ name: "reason", label: "Why", hint: "It stands in the audit.", placeholder: "optional" }],
    run: ({ reason }) => steer(run, verb, { reason, after: reload, quiet: true }),
  });
};

const rename = (run, reload) => confirm({
  title: "Rename the run", act: "Rename",
  fields: [{ name: "name", label: "Name", value: run.name ?? "", hint: "For people; empty takes it away." }],
  run: ({ name }) => act("PATCH", `runs/${run.id}`, { body: { name: name || null }, done: "The run is renamed", after: reload, quiet: true }),
});

const compare = (run) => confirm({
  title: "Compare with another run", act: "Compare", signed: false,
  fields: [{ name: "other", label: "Id of the other run", placeholder: "01a2…", value: run.forked_from ?? "" }],
  run: async ({ other }) => go(`/runs/${run.id}/compare?with=${encodeURIComponent(other.trim())}`),
});

/** All that can be done with a run now. */
export const actsOf = (run, reload) => [
  ...Object.keys(VERBS).filter((verb) => allowed(verb, run)).map((verb) => ({ verb, icon: VERBS[verb].icon, text: VERBS[verb].text, danger: VERBS[verb].danger, run: ask(run, verb, reload) })),
  { icon: "edit", text: "Rename…", run: () => rename(run, reload) },
  { icon: "compare", text: "Compare with…", run: () => compare(run) },
];

const Fact = ({ name, children }) => html`<span><span class="name">${name}</span>${children}</span>`;

export function Head({ run, acts }) {
  const main = MAIN.map((verb) => acts.find((one) => one.verb === verb)).find(Boolean);
  const stop = acts.find((one) => one.verb === "stop");
  const rest = acts.filter((one) => one !== main && one !== stop);
  const done = run.steps_total - run.steps_open;
  return html`<div class="stack tight">
    <div class="run-head">
      <${State} state=${run.state} more=${run.paused_for && run.paused_for !== "operator" ? "for an answer" : null} />
      <h2><${Text} value=${run.name} most=${200} cut=${false} fallback=${html`<span>${short(run.flow, 80)}</span>`} /></h2>
      ${run.compensated && html`<${Pill} tone="hold" title="Its completed steps were undone">undone<//>`}
      ${run.dismissed_at && html`<${Pill}>dismissed<//>`}
      <div class="row push">
        ${main && html`<${Button} kind="main" icon=${main.icon} onClick=${main.run}>${main.text}<//>`}
        ${stop && html`<${Button} kind="danger" icon=${stop.icon} onClick=${stop.run}>${stop.text}<//>`}
        <${Menu} label="More to do with the run" items=${rest} />
      </div>
    </div>
    <div class="run-facts">
      <${Fact} name="flow"><a href=${`/flows/${encodeURIComponent(run.flow)}?version=${run.version}`}>${short(run.flow, 60)} v${run.version}</a><//>
      <${Fact} name="id"><${RunId} id=${run.id} linked=${false} always /><//>
      <${Fact} name="started"><${Time} at=${run.created_at} /><//>
      ${run.state === "pending" && run.start_at && html`<${Fact} name="begins"><${Time} at=${run.start_at} /><//>`}
      <${Fact} name=${run.ended_at ? "lasted" : "for"}><${Lasted} from=${run.created_at} to=${run.ended_at} /><//>
      <${Fact} name="steps"><${Meter} done used=${done} of=${run.steps_total} label=${`${done} of ${run.steps_total} steps have ended`} /><//>
      ${run.parent && html`<${Fact} name="child of"><${RunId} id=${run.parent} /><//>`}
      ${run.forked_from && html`<${Fact} name="forked from"><${RunId} id=${run.forked_from} /> <a href=${`/runs/${run.id}/compare?with=${run.forked_from}`}>compare</a><//>`}
    </div>
  </div>`;
}
