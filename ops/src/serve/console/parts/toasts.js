// Short messages of what was done, with a way back where there is one; and what screen readers are told.
import { html, signal, useEffect } from "../lib/ui.js";
import { plain } from "../lib/text.js";
import { Icon } from "./icons.js";

const toasts = signal([]);
const spoken = signal("");
let count = 0;

/** Tells screen readers. */
export const announce = (text) => {
  // The same text twice is told twice.
  spoken.value = spoken.value === text ? `${text}\u00a0` : text;
};

/** Shows a message; `undo` is what takes it back. */
export const toast = (text, { tone = "good", undo, link } = {}) => {
  toasts.value = [...toasts.value.slice(-3), { id: ++count, text, tone, undo, link }];
  announce(text);
};

const drop = (id) => {
  toasts.value = toasts.value.filter((one) => one.id !== id);
};

const ICONS = { good: "s_completed", bad: "s_failed", go: "info" };

function Toast({ id, text, tone, undo, link }) {
  useEffect(() => {
    const timer = setTimeout(() => drop(id), tone === "bad" || undo ? 12_000 : 6000);
    return () => clearTimeout(timer);
  }, [id]);
  const back = () => {
    drop(id);
    undo();
  };
  return html`<li class="toast">
    <${Icon} name=${ICONS[tone]} tone=${tone} />
    <span class="words">${plain(text)}</span>
    ${link && html`<a class="button tiny" href=${link.href} onClick=${() => drop(id)}>${link.text}</a>`}
    ${undo && html`<button type="button" class="button tiny" onClick=${back}>Undo</button>`}
    <button type="button" class="copy" aria-label="Close the message" onClick=${() => drop(id)}><${Icon} name="close" /></button>
  </li>`;
}

/** The place of the messages. */
export function Toasts() {
  return html`<div class="hidden-text" role="status" aria-live="polite">${spoken}</div>
    <ul class="toasts" aria-label="Messages">${toasts.value.map((one) => html`<${Toast} key=${one.id} ...${one} />`)}</ul>`;
}
