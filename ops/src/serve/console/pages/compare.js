// Two runs side by side, with what differs marked.
import { html } from "../lib/ui.js";
import { useResource } from "../lib/resource.js";
import { place, setQuery } from "../lib/router.js";
import { length } from "../lib/format.js";
import { short } from "../lib/text.js";
import { Loaded, Empty, RunId, Time, Text, Button } from "../parts/basics.js";
import { Marked } from "../parts/difference.js";
import { State } from "../parts/state.js";

const same = (a, b) => JSON.stringify(a ?? null) === JSON.stringify(b ?? null);
const lasted = (from, to) => (from && to ? length(Date.parse(to) - Date.parse(from)) : "–");

/** A line of the comparison: `of` is what is compared, `cell` shows a run beside the other one. */
function Line({ name, a, b, of, cell, whole }) {
  const differs = !same(of(a), of(b));
  const field = (run, other) => html`<td class=${differs && whole && "differs"}>${run ? cell(run, other) : html`<span class="quiet">not there</span>`}</td>`;
  return html`<tr><th scope="row">${name}${differs ? html` <span title="differs">≠<span class="hidden-text"> differs</span></span>` : null}</th>${field(a, b)}${field(b, a)}</tr>`;
}

const stepNames = (a, b) => [...new Set([...a, ...b].map((step) => step.name))];

function Both({ a, b }) {
  const json = (name) => (run, other) => html`<${Marked} value=${run[name]} other=${other[name]} />`;
  const stepOf = (run, name) => run.steps.find((step) => step.name === name);
  return html`<div class="scroll compare" role="region" aria-label="Comparison" tabindex="0"><table>
    <thead><tr><th scope="col"><span class="hidden-text">What</span></th><th scope="col"><${RunId} id=${a.id} always /></th><th scope="col"><${RunId} id=${b.id} always /></th></tr></thead>
    <tbody>
      <${Line} whole name="State" a=${a} b=${b} of=${(run) => run.state} cell=${(run) => html`<${State} state=${run.state} />`} />
      <${Line} whole name="Name" a=${a} b=${b} of=${(run) => run.name} cell=${(run) => html`<${Text} value=${run.name} cut=${false} />`} />
      <${Line} whole name="Flow" a=${a} b=${b} of=${(run) => [run.flow, run.version]} cell=${(run) => `${short(run.flow, 60)} v${run.version}`} />
      <${Line} name="Started" a=${a} b=${b} of=${() => null} cell=${(run) => html`<${Time} at=${run.created_at} />`} />
      <${Line} name="Lasted" a=${a} b=${b} of=${() => null} cell=${(run) => lasted(run.created_at, run.ended_at)} />
      <${Line} name="Input" a=${a} b=${b} of=${(run) => run.input} cell=${json("input")} />
      <${Line} name="Output" a=${a} b=${b} of=${(run) => run.output} cell=${json("output")} />
      <${Line} name="Error" a=${a} b=${b} of=${(run) => run.error} cell=${json("error")} />
      <${Line} name="Metadata" a=${a} b=${b} of=${(run) => run.metadata} cell=${json("metadata")} />
      ${stepNames(a.steps, b.steps).slice(0, 200).map((name) => html`<${Line} key=${name} name=${html`Step ${short(name, 40)}`} a=${stepOf(a, name)} b=${stepOf(b, name)}
        of=${(step) => step && [step.state, step.output, step.error]}
        cell=${(step, other) => html`<div class="stack tight"><div class="row"><${State} state=${step.state} more=${step.attempt > 1 ? `try ${step.attempt}` : null} /><span class="quiet small push">${lasted(step.started_at, step.ended_at)}</span></div>
          ${step.error && html`<${Marked} value=${step.error} other=${other?.error} />`}${step.output != null && html`<${Marked} value=${step.output} other=${other?.output} />`}</div>`} />`)}
    </tbody>
  </table></div>`;
}

export function Compare({ id }) {
  const other = place.value.query.get("with");
  const first = useResource(`runs/${id}`);
  const firstSteps = useResource(`runs/${id}/steps`);
  const second = useResource(other ? `runs/${encodeURIComponent(other)}` : null);
  const secondSteps = useResource(other ? `runs/${encodeURIComponent(other)}/steps` : null);
  const submit = (event) => {
    event.preventDefault();
    setQuery({ with: new FormData(event.target).get("with").trim() });
  };
  const ready = [first, firstSteps, second, secondSteps];
  const broken = ready.find((one) => one.error && one.data === undefined);
  const waiting = { data: ready.every((one) => one.data !== undefined) ? true : undefined, error: broken?.error, reload: () => ready.forEach((one) => one.reload()) };
  return html`<div class="stack">
    <form class="filters at-end" onSubmit=${submit}><label class="label grow"><span>Compared with</span><input class="field mono" name="with" defaultValue=${other ?? ""} placeholder="id of the other run" /></label><${Button} type="submit">Compare<//></form>
    ${other ? html`<${Loaded} of=${waiting} what="The two runs">${() => html`<div class="sheet"><${Both} a=${{ ...first.data, steps: firstSteps.data }} b=${{ ...second.data, steps: secondSteps.data }} /></div>`}<//>`
      : html`<div class="sheet"><${Empty} icon="compare" title="Which run is it to be compared with?">Write the id of the other run above, or choose two runs in the list of runs.<//></div>`}
  </div>`;
}
