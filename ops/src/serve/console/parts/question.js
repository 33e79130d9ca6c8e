// A question that waits for a person, and its answers.
import { html, useState, classes } from "../lib/ui.js";
import { useResource } from "../lib/resource.js";
import { decide, steer } from "../lib/acts.js";
import { plain, short } from "../lib/text.js";
import { confirm } from "./dialog.js";
import { Button, Loaded, RunId, Text, Time } from "./basics.js";
import { Icon } from "./icons.js";
import { Json } from "./json.js";

const isNo = (choice) => /^(reject|no|deny|refuse|abort)/i.test(choice);

const answer = (question, choice, onDone) => () => confirm({
  title: `Answer “${short(choice, 40)}”?`,
  act: short(choice, 40),
  danger: isNo(choice),
  body: html`<p>${plain(question.question)}</p><p class="small soft">It is recorded with your name, and cannot be changed afterwards.</p>`,
  run: () => decide(question, choice, { after: onDone, quiet: true }),
});

const resume = (question, onDone) => () => confirm({
  title: `Go on with ${short(question.step, 40)}`,
  act: "Resume with these data",
  body: html`<p class="small soft">The step has stopped its run and asks for data.</p>`,
  fields: [{ name: "data", label: "Data", kind: "json", value: "{}", hint: "JSON" }],
  run: ({ data }) => steer({ id: question.run }, "resume", { body: { data: JSON.parse(data) }, after: onDone, quiet: true }),
});

/** What the run that asks is about: asked for when somebody wants to know. */
function About({ id }) {
  const [open, setOpen] = useState(false);
  const run = useResource(open ? `runs/${id}` : null);
  return html`<details class="small" onToggle=${(event) => setOpen(event.target.open)}><summary>What it is about</summary>
    ${open && html`<${Loaded} of=${run} what="The run" lines=${2}>${(found) => html`<div class="stack tight"><${Text} value=${found.name} fallback="" /><${Json} value=${found.input} label="input" /></div>`}<//>`}
  </details>`;
}

/** `linked`: with the run that asks. */
export function Question({ question, onDone, linked }) {
  const choices = question.choices ?? [];
  return html`<article class=${classes("note question", !linked && "hold")} aria-label=${`Question: ${short(question.question ?? question.step, 100)}`}>
    <${Icon} name="questions" tone="hold" />
    <div class="words stack tight">
      <h2 class="text">${plain(question.question ?? "The step needs data to go on.")}</h2>
      <p class="small soft facts-line">
        ${linked && html`<span>${short(question.flow, 60)}</span>`}<span>step ${short(question.step, 60)}</span>${linked && html`<${RunId} id=${question.run} />`}
        <span>asked <${Time} at=${question.since} /></span>
        ${question.expires_at && html`<span><b>${plain(question.at_expiry)}</b> is taken <${Time} at=${question.expires_at} /></span>`}
        ${question.may_answer && html`<span>only ${question.may_answer.map((name) => short(name, 40)).join(", ")} may answer</span>`}
      </p>
      ${question.value != null && html`<${Json} value=${question.value} label="value" />`}
      ${linked && html`<${About} id=${question.run} />`}
      <div class="answers">${question.interrupt
        ? html`<${Button} kind="main" icon="play" onClick=${resume(question, onDone)}>Resume with data…<//>`
        : choices.map((choice, index) => html`<${Button} key=${choice} kind=${index === 0 && !isNo(choice) ? "main" : isNo(choice) ? "danger" : null} onClick=${answer(question, choice, onDone)}>${short(choice, 60)}<//>`)}</div>
    </div>
  </article>`;
}
