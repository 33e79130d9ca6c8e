// One run: why it does not move, what it asks, its steps, its attempts, its data.
import { html, useEffect, useMemo, useRef } from "../lib/ui.js";
import { useResource, useLive } from "../lib/resource.js";
import { place, setQuery, withQuery } from "../lib/router.js";
import { several } from "../lib/format.js";
import { Loaded, Sheet, Bones } from "../parts/basics.js";
import { Graph } from "../parts/graph.js";
import { Gantt } from "../parts/gantt.js";
import { Timeline } from "../parts/timeline.js";
import { Question } from "../parts/question.js";
import { pageActs } from "../parts/palette.js";
import { isFinal, word } from "../parts/state.js";
import { announce } from "../parts/toasts.js";
import { Head, actsOf } from "./run/head.js";
import { Why } from "./run/why.js";
import { StepPanel } from "./run/step.js";
import { Data } from "./run/data.js";
import { Children } from "./run/children.js";

const TABS = [["", "Steps"], ["timeline", "Timeline"], ["data", "Data"], ["children", "Children"]];

/** Everything about a run, kept fresh by its live changes. */
function useRun(id) {
  const run = useResource(`runs/${id}`);
  const steps = useResource(`runs/${id}/steps`);
  const graph = useResource(`runs/${id}/graph`);
  const attempts = useResource(`runs/${id}/attempts`);
  const timeline = useResource(`runs/${id}/timeline`);
  const why = useResource(`runs/${id}/why`);
  const progress = useResource(`runs/${id}/progress`, {}, { every: run.data && isFinal(run.data.state) ? undefined : 2000 });
  const questions = useResource("questions", { run: id });
  const all = { run, steps, graph, attempts, timeline, why, progress, questions };
  const reload = () => Object.values(all).forEach((one) => one.reload());
  const timer = useRef();
  useLive({ run: id }, (name, data) => {
    if (name !== "run") return;
    run.set(data.run);
    steps.set(data.steps);
    // What is made of the steps is asked for once for a burst of changes.
    timer.current ??= setTimeout(() => {
      timer.current = null;
      [graph, attempts, timeline, why, questions, progress].forEach((one) => one.reload());
    }, 250);
  });
  useEffect(() => () => clearTimeout(timer.current), []);
  return { ...all, reload };
}

/** The step that is looked at when nobody has chosen: the one that failed, or that keeps the run. */
const telling = (steps = []) => {
  const by = (state) => steps.find((step) => step.state === state);
  return (by("failed") ?? by("running") ?? by("waiting") ?? by("ready") ?? steps[0])?.name;
};

function Steps({ all, chosen, onChoose }) {
  const { run, steps, graph, attempts } = all;
  return html`<div class="split">
    <div class="stack">
      <${Sheet} title="Graph" about=${graph.data ? several(graph.data.filter((node) => node.undoes == null).length, "step") : ""}>
        ${graph.data ? html`<${Graph} nodes=${graph.data} chosen=${chosen?.replace(/\[\d+\]$/, "")} onChoose=${onChoose} />` : html`<div class="pad"><${Bones} lines=${5} /></div>`}
      <//>
      <${Sheet} title="Attempts over time">
        ${steps.data && attempts.data && graph.data ? html`<${Gantt} run=${run.data} steps=${steps.data} attempts=${attempts.data} graph=${graph.data} chosen=${chosen} onChoose=${onChoose} />` : html`<div class="pad"><${Bones} lines=${5} /></div>`}
      <//>
    </div>
    <${StepPanel} all=${all} name=${chosen} />
  </div>`;
}

export function Run({ id }) {
  const all = useRun(id);
  const state = all.run.data?.state;
  const before = useRef();
  useEffect(() => {
    if (before.current && state && before.current !== state) announce(`The run is ${word(state).toLowerCase()}`);
    before.current = state;
  }, [state]);
  const query = place.value.query;
  const tab = query.get("tab") ?? "";
  const chosen = query.get("step") ?? telling(all.steps.data);
  const choose = (name) => setQuery({ step: name }, { replace: true });
  const acts = useMemo(() => (all.run.data ? actsOf(all.run.data, all.reload) : []), [all.run.data]);
  useEffect(() => {
    pageActs.value = acts.filter(Boolean);
    return () => { pageActs.value = []; };
  }, [acts]);
  return html`<${Loaded} of=${all.run} what="The run" lines=${10}>${(run) => html`<div class="stack">
    <${Head} run=${run} acts=${acts} reload=${all.reload} />
    <${Why} run=${run} why=${all.why.data} steps=${all.steps.data} asked=${all.questions.data} />
    ${(all.questions.data ?? []).map((question) => html`<${Question} key=${question.step} question=${question} onDone=${all.reload} />`)}
    <nav class="tabs" aria-label="Parts of the run">${TABS.map(([name, title]) => html`<a key=${name} href=${withQuery({ tab: name })} aria-current=${name === tab ? "page" : undefined}>${title}${name === "timeline" && all.timeline.data ? html`<span class="count">${all.timeline.data.length}</span>` : null}</a>`)}</nav>
    ${tab === "" && html`<${Steps} all=${all} chosen=${chosen} onChoose=${choose} />`}
    ${tab === "timeline" && html`<${Loaded} of=${all.timeline} what="The timeline">${(entries) => html`<${Timeline} entries=${entries} run=${run} />`}<//>`}
    ${tab === "data" && html`<${Data} run=${run} />`}
    ${tab === "children" && html`<${Children} id=${id} />`}
  </div>`}<//>`;
}
