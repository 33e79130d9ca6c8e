// All questions that wait for people.
import { html } from "../lib/ui.js";
import { useResource, useLive } from "../lib/resource.js";
import { several } from "../lib/format.js";
import { Loaded, Empty } from "../parts/basics.js";
import { Question } from "../parts/question.js";

export function Questions() {
  const found = useResource("questions");
  useLive({ topics: ["questions"] }, (name, data) => name === "questions" && found.set(data));
  return html`<${Loaded} of=${found} what="The questions">${(data) => data.length
    ? html`<div class="cards">${data.map((question) => html`<${Question} key=${`${question.run}/${question.step}`} question=${question} linked onDone=${found.reload} />`)}<p class="pages">${several(data.length, "open question")}, the longest open first</p></div>`
    : html`<div class="sheet"><${Empty} icon="questions" title="Nobody is asked anything">Steps with an approval, and functions that ask, wait here for an answer. Their runs go on when it is given.<//></div>`}<//>`;
}
