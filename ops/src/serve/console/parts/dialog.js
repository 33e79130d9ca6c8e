// Dialogs, by the browser's own element: it keeps the focus, gives it back, and closes on Escape.
import { html, signal, useEffect, useRef, useState, classes } from "../lib/ui.js";
import { operator } from "../lib/prefs.js";
import { plain } from "../lib/text.js";
import { Icon } from "./icons.js";

/** A dialog that is open as long as it is there. */
export function Dialog({ title, onClose, children, foot, kind, label }) {
  const element = useRef();
  useEffect(() => {
    const dialog = element.current;
    dialog.showModal();
    return () => dialog.close();
  }, []);
  const outside = (event) => event.target === element.current && onClose();
  return html`<dialog ref=${element} class=${classes(kind)} aria-label=${label ?? title} onCancel=${(event) => { event.preventDefault(); onClose(); }} onMouseDown=${outside}>
    ${title && html`<header><h2>${title}</h2><button type="button" class="copy push" aria-label="Close" onClick=${onClose}><${Icon} name="close" /></button></header>`}
    ${children}
    ${foot && html`<footer>${foot}</footer>`}
  </dialog>`;
}

const open = signal(null);

/** Asks whether something is to be done. `fields` are asked for with it; `body` is drawn above them. */
export const confirm = (what) => {
  open.value = what;
};

/** The question that is open, if any. */
export function Confirming() {
  const what = open.value;
  return what && html`<${Confirm} key=${what} ...${what} onClose=${() => { open.value = null; }} />`;
}

function Field({ field, value, onInput }) {
  const { name, label, hint, kind = "text", options, placeholder } = field;
  const input = (event) => onInput(name, kind === "check" ? event.target.checked : event.target.value);
  if (kind === "check") return html`<label class="check"><input type="checkbox" checked=${value} onChange=${input} />${label}</label>`;
  const control = kind === "select"
    ? html`<select class="field" value=${value} onChange=${input}>${options.map(([of, text]) => html`<option value=${of}>${text}</option>`)}</select>`
    : kind === "json"
      ? html`<textarea class="field" rows="6" spellcheck="false" value=${value} onInput=${input} placeholder=${placeholder}></textarea>`
      : html`<input class="field" type=${kind} value=${value} onInput=${input} placeholder=${placeholder} autocomplete="off" />`;
  return html`<label class="label"><span>${label}</span>${control}${hint && html`<span class="hint">${hint}</span>`}</label>`;
}

function Confirm({ title, body, act, run, fields = [], danger, signed = true, ready = true, wide, onClose }) {
  const [values, setValues] = useState(() => Object.fromEntries(fields.map((field) => [field.name, field.value ?? ""])));
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const [isReady, setReady] = useState(ready);
  const submit = async (event) => {
    event.preventDefault();
    if (busy || !isReady) return;
    setBusy(true);
    setError(null);
    try {
      await run(values);
      onClose();
    } catch (problem) {
      setError(problem);
      setBusy(false);
    }
  };
  const set = (name, value) => setValues((before) => ({ ...before, [name]: value }));
  return html`<${Dialog} title=${title} onClose=${onClose} kind=${wide && "wide"}>
    <form class="pad" onSubmit=${submit}>
      ${typeof body === "function" ? body({ values, setReady }) : body}
      ${fields.map((field) => html`<${Field} key=${field.name} field=${field} value=${values[field.name]} onInput=${set} />`)}
      ${signed && html`<label class="label"><span>Your name, for the record</span>
        <input class="field" value=${operator.value} onInput=${(event) => { operator.value = event.target.value; }} placeholder="anonymous" autocomplete="name" /></label>`}
      ${error && html`<div class="note bad" role="alert"><${Icon} name="s_failed" tone="bad" /><div class="words"><b>${plain(error.title ?? "It was not done")}</b><div class="small">${plain(error.message)}</div></div></div>`}
      <div class="row">
        <button type="button" class="button push" onClick=${onClose}>Keep everything as it is</button>
        <button type="submit" class=${classes("button main", danger && "danger")} disabled=${busy || !isReady}>${busy ? "Doing it…" : act}</button>
      </div>
    </form>
  <//>`;
}

/** A button with a list of acts: [{ icon, text, run, danger }], null for a line. */
export function Menu({ label, icon = "more", children, items }) {
  const [isOpen, setOpen] = useState(false);
  const holder = useRef();
  useEffect(() => {
    if (!isOpen) return undefined;
    const away = (event) => !holder.current?.contains(event.target) && setOpen(false);
    document.addEventListener("mousedown", away);
    holder.current.querySelector("[role=menuitem]")?.focus();
    return () => document.removeEventListener("mousedown", away);
  }, [isOpen]);
  const keys = (event) => {
    if (!isOpen) return;
    const all = [...holder.current.querySelectorAll("[role=menuitem]")];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      all[(all.indexOf(document.activeElement) + step + all.length) % all.length]?.focus();
    } else if (event.key === "Escape" || event.key === "Tab") {
      setOpen(false);
      if (event.key === "Escape") holder.current.querySelector("button").focus();
    }
  };
  const choose = (item) => {
    setOpen(false);
    holder.current.querySelector("button").focus();
    item.run();
  };
  return html`<div class="menu-holder" ref=${holder} onKeyDown=${keys}>
    <button type="button" class=${classes("button", !children && "square")} aria-haspopup="menu" aria-expanded=${String(isOpen)} aria-label=${label} onClick=${() => setOpen(!isOpen)}>
      ${children ?? html`<${Icon} name=${icon} />`}
    </button>
    ${isOpen && html`<div class="menu-list" role="menu" aria-label=${label}>
      ${items.map((item) => item ? html`<button type="button" role="menuitem" class=${item.danger && "danger"} onClick=${() => choose(item)}><${Icon} name=${item.icon} />${item.text}</button>` : html`<hr />`)}
    </div>`}
  </div>`;
}
