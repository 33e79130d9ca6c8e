// What operators did: who, why, before and after.
import { html, useState } from "../lib/ui.js";
import { useResource } from "../lib/resource.js";
import { place, setQuery, withQuery } from "../lib/router.js";
import { number } from "../lib/format.js";
import { plain } from "../lib/text.js";
import { Loaded, Empty, Pill, RunId, Text, Time } from "../parts/basics.js";
import { Icon } from "../parts/icons.js";
import { Json } from "../parts/json.js";

const TONES = { done: "good", refused: "hold", failed: "bad" };
const LIKE_RUN = /^[0-9a-f]{8}-[0-9a-f-]{27}$/i;

function Act({ act }) {
  const [open, setOpen] = useState(false);
  const more = act.before != null || act.after != null || act.detail != null || act.error;
  return html`<tr>
      <td class="fit"><${Time} at=${act.at} /></td>
      <td class="fit strong"><${Text} value=${act.actor} most=${40} /></td>
      <td class="fit">${plain(act.act)}</td>
      <td class="wide">${LIKE_RUN.test(act.target ?? "") ? html`<${RunId} id=${act.target} />` : html`<${Text} value=${act.target} most=${120} />`}${act.reason && html`<span class="under"><${Text} value=${`because: ${act.reason}`} most=${200} /></span>`}</td>
      <td class="fit"><${Pill} tone=${TONES[act.outcome]}>${act.outcome ?? "begun"}<//></td>
      <td class="fit">${more && html`<button type="button" class="button tiny" aria-expanded=${String(open)} onClick=${() => setOpen(!open)}>${open ? "Less" : "More"}</button>`}</td>
    </tr>
    ${open && html`<tr><td colspan="6"><div class="charts">
      ${act.detail != null && html`<div class="stack tight"><h3>With</h3><${Json} value=${act.detail} label="detail" /></div>`}
      ${act.error && html`<div class="stack tight"><h3>Error</h3><p class="text small">${plain(act.error)}</p></div>`}
      ${act.before != null && html`<div class="stack tight"><h3>Before</h3><${Json} value=${act.before} label="state before" /></div>`}
      ${act.after != null && html`<div class="stack tight"><h3>After</h3><${Json} value=${act.after} label="state after" /></div>`}
    </div></td></tr>`}`;
}

export function Audit() {
  const query = place.value.query;
  const [actor, act, target, after] = ["actor", "act", "target", "after"].map((name) => query.get(name));
  const found = useResource("audit", { actor, act, target, after, limit: 50 }, { every: after ? undefined : 5000 });
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    setQuery({ actor: form.get("actor"), act: form.get("act"), target: form.get("target"), after: null });
  };
  return html`<div class="stack tight">
    <form class="filters" role="search" onSubmit=${submit}>
      <input type="search" class="field" name="actor" placeholder="Who" aria-label="Who" defaultValue=${actor ?? ""} />
      <input type="search" class="field" name="act" placeholder="What, as in pause queue" aria-label="What" defaultValue=${act ?? ""} />
      <input type="search" class="field" name="target" placeholder="To what: an id or a name" aria-label="To what" defaultValue=${target ?? ""} />
      <button type="submit" class="button">Filter</button>
    </form>
    <${Loaded} of=${found} what="The audit">${(data) => html`<div class="sheet">${data.acts.length
      ? html`<div class="scroll" role="region" aria-label="Acts" tabindex="0"><table><thead><tr>${["When", "Who", "What", "To what", "Outcome"].map((name) => html`<th scope="col" key=${name}>${name}</th>`)}<th scope="col"><span class="hidden-text">More</span></th></tr></thead><tbody>${data.acts.map((one) => html`<${Act} key=${one.id} act=${one} />`)}</tbody></table></div>`
      : html`<${Empty} icon="audit" title=${actor || act || target ? "Nothing fits" : "Nobody has done anything yet"}>What is done through this console and the HTTP API is written down here: who, when, why, and the state before and after.<//>`}</div>
      <nav class="pages" aria-label="Pages of the list">${after && html`<a class="button" href=${withQuery({ after: null })}><${Icon} name="back" />Latest</a>`}<span>${number(data.acts.length)} shown, the latest first</span>${data.next && html`<a class="button push" href=${withQuery({ after: data.next })}>Older<${Icon} name="next" /></a>`}</nav>`}<//>
  </div>`;
}
