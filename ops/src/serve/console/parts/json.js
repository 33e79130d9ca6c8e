// Payloads as a tree that can be read, folded and copied. Everything in it is text.
import { html, useState } from "../lib/ui.js";
import { plain } from "../lib/text.js";
import { several } from "../lib/format.js";
import { Copy } from "./basics.js";

const LONG = 320;
const MANY = 60;
const OPEN_TO = 3;

function Words({ value }) {
  const [all, setAll] = useState(false);
  const cut = !all && value.length > LONG;
  return html`<span class="t">"${plain(cut ? value.slice(0, LONG) : value)}${cut ? "…" : ""}"</span>
    ${cut && html` <button type="button" class="more" onClick=${() => setAll(true)}>all ${several(value.length, "character")}</button>`}`;
}

function Leaf({ value }) {
  if (typeof value === "string") return html`<${Words} value=${value} />`;
  if (typeof value === "number") return html`<span class="n">${String(value)}</span>`;
  return html`<span class="w">${String(value)}</span>`;
}

const Name = ({ name }) => name != null && html`<span class="k">${plain(String(name).slice(0, 200))}</span><span class="quiet">: </span>`;

function Node({ name, value, depth }) {
  const [shown, setShown] = useState(MANY);
  if (value === null || typeof value !== "object") return html`<div class="leaf"><${Name} name=${name} /><${Leaf} value=${value} /></div>`;
  const list = Array.isArray(value);
  const entries = Object.entries(value);
  const size = list ? several(entries.length, "item") : several(entries.length, "field");
  if (!entries.length) return html`<div class="leaf"><${Name} name=${name} /><span class="quiet">${list ? "[ ]" : "{ }"}</span></div>`;
  return html`<details open=${depth < OPEN_TO && entries.length <= MANY}>
    <summary><${Name} name=${name} /><span class="quiet">${list ? `[ ${size} ]` : `{ ${size} }`}</span></summary>
    <ul>
      ${entries.slice(0, shown).map(([key, entry]) => html`<li key=${key}><${Node} name=${key} value=${entry} depth=${depth + 1} /></li>`)}
      ${entries.length > shown && html`<li class="leaf"><button type="button" class="more" onClick=${() => setShown(shown + 500)}>${several(entries.length - shown, "more item", "more items")}</button></li>`}
    </ul>
  </details>`;
}

/** A payload. */
export function Json({ value, label = "payload" }) {
  if (value === undefined || value === null) return html`<span class="quiet small">nothing</span>`;
  const flat = typeof value !== "object";
  return html`<div class="payload">
    <div class="json" tabindex="-1">${flat ? html`<${Leaf} value=${value} />` : html`<${Node} value=${value} depth=${0} />`}</div>
    <div class="tools"><${Copy} value=${JSON.stringify(value, null, 2)} what=${label} /></div>
  </div>`;
}
