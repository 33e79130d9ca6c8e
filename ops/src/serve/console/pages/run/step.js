// The step that is looked at: its attempts, what it gave, what it reported; a fork from it.
import { html, useState } from "../../lib/ui.js";
import { useResource } from "../../lib/resource.js";
import { fork } from "../../lib/acts.js";
import { middle, short, plain, message } from "../../lib/text.js";
import { setQuery } from "../../lib/router.js";
import { confirm } from "../../parts/dialog.js";
import { Json } from "../../parts/json.js";
import { Button, Bones, Lasted, Meter, Sheet, Text, Time } from "../../parts/basics.js";
import { State, StateIcon } from "../../parts/state.js";

const readJson = (text) => {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw Object.assign(new Error(`The input is not JSON: ${error.message}`), { title: "It was not done" });
  }
};

const askFork = (run, step) => confirm({
  title: `Do ${short(step, 40)} again in a new run`,
  act: "Fork the run",
  body: html`<p>A new run takes over what was done before this step, and does the step and what follows it again. This run stays as it is.</p>`,
  fields: [
    { name: "input", label: "Input", kind: "json", value: JSON.stringify(run.input, null, 2), hint: "Change it to try again with other data." },
    { name: "reason", label: "Why", placeholder: "optional", hint: "It stands in the audit." },
  ],
  run: ({ input, reason }) => {
    const changed = input.trim() !== JSON.stringify(run.input, null, 2);
    return fork(run.id, { step, ...(changed ? { input: readJson(input) } : {}) }, {
      reason, quiet: true, done: "The fork has started", link: (answer) => ({ href: `/runs/${answer.id}`, text: "Look at it" }),
    });
  },
});

function Progress({ value }) {
  if (typeof value?.done === "number" && typeof value?.of === "number") {
    return html`<div class="row"><${Meter} done used=${value.done} of=${value.of} /><${Text} value=${value.message} most=${80} fallback="" /></div>`;
  }
  return html`<${Json} value=${value} label="progress" />`;
}

function Items({ run, step, node }) {
  const [from, setFrom] = useState(0);
  const found = useResource(`runs/${run.id}/steps/${encodeURIComponent(step.name)}/items`, { from, limit: 20 });
  const { total, ended } = node.items;
  return html`<div class="stack tight"><h3>Items</h3><${Meter} done used=${ended} of=${total} />
    <ul>${(found.data ?? []).map((item) => html`<li class="row" key=${item.index}><${StateIcon} state=${item.outcome ?? "blocked"} /><button type="button" class="button plain tiny mono" onClick=${() => setQuery({ step: `${step.name}[${item.index}]` }, { replace: true })}>${step.name}[${item.index}]</button><span class="cut quiet small">${short(message(item.error ?? item.output), 80)}</span></li>`)}</ul>
    ${total > 20 && html`<div class="row"><${Button} size="tiny" disabled=${from === 0} onClick=${() => setFrom(Math.max(0, from - 20))}>before<//><${Button} size="tiny" disabled=${from + 20 >= total} onClick=${() => setFrom(from + 20)}>next<//></div>`}
  </div>`;
}

const Attempt = ({ attempt }) => html`<li class="stack tight">
  <div class="row"><span class="quiet num">#${attempt.attempt}</span><${State} state=${attempt.outcome} /><span class="push quiet small"><${Lasted} from=${attempt.claimed_at} to=${attempt.ended_at} />, <${Time} at=${attempt.claimed_at} /></span></div>
  ${attempt.error && html`<details class="fold"><summary class="small text">${short(message(attempt.error), 200)}</summary><${Json} value=${attempt.error} label="error" /></details>`}
</li>`;

export function StepPanel({ all, name }) {
  const { run, steps, graph, attempts, progress } = all;
  const step = steps.data?.find((one) => one.name === name);
  if (!steps.data) return html`<aside class="sheet side"><div class="pad"><${Bones} /></div></aside>`;
  if (!step) return html`<aside class="sheet side" aria-label="Step"><div class="pad quiet">${name ? `${short(name, 60)} has not become a step yet.` : "Choose a step to see its attempts and data."}</div></aside>`;
  const node = graph.data?.find((one) => one.name === name);
  const tries = (attempts.data ?? []).filter((one) => one.step === name).reverse();
  const told = (progress.data ?? []).filter((one) => one.seq === step.seq);
  const item = /\[\d+\]$/.test(step.name);
  return html`<aside class="sheet side" aria-label=${`Step ${short(step.name, 60)}`}>
    <header><h2 class="cut">${short(step.name, 60)}</h2><div class="push"><${State} state=${step.state} /></div></header>
    <div class="pad stack">
      <dl class="facts">
        ${step.handler && html`<dt>handler</dt><dd class="mono">${short(step.handler, 80)}</dd>`}
        ${step.queue && html`<dt>queue</dt><dd><a href=${`/queues/${encodeURIComponent(step.queue)}`}>${step.queue}</a></dd>`}
        ${step.phase && html`<dt>phase</dt><dd>${short(step.phase, 60)}</dd>`}
        ${step.handler && html`<dt>attempts</dt><dd class="num">${step.attempt ?? 0}<span class="quiet"> so far, ${step.max_attempts} at most</span></dd>`}
        ${step.worker && html`<dt>worker</dt><dd class="mono" title=${String(step.worker)}>${middle(String(step.worker), 6, 4)}</dd>`}
        ${step.waits_for && html`<dt>waits for</dt><dd>${plain(step.waits_for)}</dd>`}
        ${step.fire_at && html`<dt>until</dt><dd><${Time} at=${step.fire_at} /></dd>`}
        ${step.ended_at && html`<dt>ended</dt><dd><${Time} at=${step.ended_at} /></dd>`}
      </dl>
      ${!item && run.data && html`<div><${Button} icon="fork" onClick=${() => askFork(run.data, step.name)}>Fork from here…<//></div>`}
      ${told.length > 0 && html`<div class="stack tight"><h3>Progress</h3>${told.map((one) => html`<${Progress} key=${one.key} value=${one.value} />`)}</div>`}
      ${step.error && html`<div class="stack tight"><h3>Error</h3><${Json} value=${step.error} label="error" /></div>`}
      ${step.output != null && html`<div class="stack tight"><h3>Output</h3><${Json} value=${step.output} label="output" /></div>`}
      ${node?.items && html`<${Items} run=${run.data} step=${step} node=${node} />`}
      ${tries.length > 0 && html`<div class="stack tight"><h3>Attempts</h3><ul class="stack tight">${tries.slice(0, 30).map((attempt) => html`<${Attempt} key=${attempt.attempt} attempt=${attempt} />`)}</ul></div>`}
    </div>
  </aside>`;
}
