// Why a run does not move: the first thing one wants to know.
import { html } from "../../lib/ui.js";
import { message, plain, short } from "../../lib/text.js";
import { Note } from "../../parts/basics.js";

/** Whether a sentence tells of something that keeps the run, and not of a step that runs or waits for its turn in the flow. */
const tells = (state) => state !== "running" && state !== "blocked";

/** `asked`: the questions of the run, which are shown by themselves. */
export function Why({ run, why = [], steps = [], asked = [] }) {
  if (run.state === "failed" && run.error) {
    const step = run.error.step;
    return html`<${Note} tone="bad" icon="s_failed" action=${step && html`<a class="button tiny" href=${`/runs/${run.id}?step=${encodeURIComponent(step)}`}>Show the step</a>`}>
      <b>It failed${step ? ` in ${short(step, 80)}` : ""}${run.error.code ? html` <span class="mono small">${short(run.error.code, 60)}</span>` : null}</b>
      <div class="text">${plain(message(run.error)).slice(0, 600)}${message(run.error).length > 600 ? "…" : ""}</div>
    <//>`;
  }
  const states = new Map(steps.map((step) => [step.name, step.state]));
  const kept = why.filter(({ step }) => tells(states.get(step)) && !asked.some((question) => question.step === step));
  const moves = steps.some((step) => step.state === "running");
  if (!kept.length) return null;
  return html`<${Note} tone=${moves ? "" : "hold"} icon=${moves ? "info" : "s_waiting"}>
    <b>${moves ? "What waits" : "Why it does not move"}</b>
    <ul class="why">${kept.slice(0, 8).map(({ step, why: sentence }) => html`<li key=${step} class="text">${plain(sentence)}</li>`)}</ul>
    ${kept.length > 8 && html`<p class="quiet small">and ${kept.length - 8} more steps</p>`}
  <//>`;
}
