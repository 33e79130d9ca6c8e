// Two payloads line by line, with the values that differ marked.
import { html, classes } from "../lib/ui.js";
import { plain, short } from "../lib/text.js";

const MOST = 400;

/** The values at the ends of a payload, by their paths. */
const leaves = (value, path = "", found = new Map()) => {
  if (found.size >= MOST) return found;
  if (value !== null && typeof value === "object" && Object.keys(value).length) {
    const list = Array.isArray(value);
    for (const [key, entry] of Object.entries(value)) leaves(entry, list ? `${path}[${key}]` : path ? `${path}.${key}` : key, found);
  } else {
    found.set(path, value);
  }
  return found;
};

const same = (a, b) => JSON.stringify(a ?? null) === JSON.stringify(b ?? null);

/** One of two payloads, beside the other. */
export function Marked({ value, other }) {
  if (value == null) return html`<span class="quiet small">nothing</span>`;
  const mine = leaves(value);
  const theirs = other == null ? new Map() : leaves(other);
  return html`<dl class="marked">${[...mine].map(([path, leaf]) => {
    const differs = !theirs.has(path) || !same(leaf, theirs.get(path));
    return html`<div key=${path} class=${classes(differs && "differs")}>${path && html`<dt>${short(path, 120)}</dt>`}<dd>${differs && html`<span class="hidden-text">differs: </span>`}${plain(JSON.stringify(leaf)).slice(0, 600)}</dd></div>`;
  })}</dl>${mine.size >= MOST && html`<p class="quiet small">Only the first ${MOST} values are compared here.</p>`}`;
}
