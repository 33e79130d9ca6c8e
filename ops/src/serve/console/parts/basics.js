// Small pieces: texts of others, ids, times, buttons, notes, emptiness.
import { html, useState, useEffect, useRef, classes } from "../lib/ui.js";
import { plain, short, middle } from "../lib/text.js";
import { exact, relative, length } from "../lib/format.js";
import { now } from "../lib/clock.js";
import { announce } from "./toasts.js";
import { Icon } from "./icons.js";

/** A text that somebody else wrote, on one line. */
export function Text({ value, most = 240, cut = true, fallback = "–" }) {
  if (value == null || value === "") return html`<span class="quiet">${fallback}</span>`;
  const shown = short(value, most);
  return html`<bdi class=${cut ? "cut" : "text"} title=${shown.length > 24 ? shown : undefined}>${shown}</bdi>`;
}

/** A button that copies a text. */
export function Copy({ value, what = "id" }) {
  const [copied, setCopied] = useState(false);
  const timer = useRef();
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async (event) => {
    event.preventDefault();
    event.stopPropagation();
    try {
      await navigator.clipboard.writeText(value);
    } catch {
      announce(`The browser does not let the ${what} be copied`);
      return;
    }
    setCopied(true);
    announce(`The ${what} is copied`);
    timer.current = setTimeout(() => setCopied(false), 1500);
  };
  return html`<button type="button" class="copy" onClick=${copy} title=${`Copy the ${what}`} aria-label=${copied ? `The ${what} is copied` : `Copy the ${what}`}>
    <${Icon} name=${copied ? "done" : "copy"} />
  </button>`;
}

/** The id of a run: its beginning and end, a link, and a button that copies it. */
export function RunId({ id, linked = true, always }) {
  if (!id) return html`<span class="quiet">–</span>`;
  const shown = middle(id, 8, 6);
  return html`<span class=${classes("id", always && "always")}>
    ${linked ? html`<a href=${`/runs/${id}`} title=${id}>${shown}</a>` : html`<span title=${id}>${shown}</span>`}<${Copy} value=${id} />
  </span>`;
}

/** How long ago, with the exact time on hover. */
export function Time({ at, fallback = "–" }) {
  if (!at) return html`<span class="quiet">${fallback}</span>`;
  return html`<time datetime=${at} title=${exact(at)}>${relative(at, now.value)}</time>`;
}

/** How long something has lasted; to now while it has not ended. */
export function Lasted({ from, to, fallback = "–" }) {
  if (!from) return html`<span class="quiet">${fallback}</span>`;
  const end = to ? Date.parse(to) : now.value;
  return html`<span class="num" title=${to ? `${exact(from)} to ${exact(to)}` : `since ${exact(from)}`}>${length(end - Date.parse(from))}</span>`;
}

/** A button. */
export function Button({ icon, children, kind, size, label, pressed, ...rest }) {
  const square = !children || (Array.isArray(children) && !children.length);
  return html`<button type="button" ...${rest} aria-pressed=${pressed == null ? undefined : String(pressed)} class=${classes("button", kind, size, square && "square")} aria-label=${rest["aria-label"] ?? label} title=${rest.title ?? (square ? label : undefined)}>
    ${icon && html`<${Icon} name=${icon} />`}${children}
  </button>`;
}

/** Words in a small field of colour. */
export const Pill = ({ tone, icon, children, title }) => html`<span class=${classes("pill", tone)} title=${title}>${icon && html`<${Icon} name=${icon} />`}${children}</span>`;

/** How full something is. */
export function Meter({ used, of, label, done }) {
  const share = of > 0 ? Math.min(1, used / of) : 0;
  return html`<span class=${classes("meter", done ? share >= 1 && "good" : share >= 1 && "full")} title=${label}>
    <span class="track" role="img" aria-label=${label ?? `${used} of ${of}`}><span class="fill" style=${{ width: `${share * 100}%` }}></span></span>
    <span>${used}<span class="quiet"> / ${of}</span></span>
  </span>`;
}

/** Something that a person should read. */
export function Note({ tone = "", icon = "info", children, action }) {
  return html`<div class=${classes("note", tone)}><${Icon} name=${icon} tone=${tone} /><div class="words">${children}</div>${action}</div>`;
}

/** What went wrong, and a button to try again. */
export function Failure({ error, retry, what = "This" }) {
  return html`<div class="note bad" role="alert">
    <${Icon} name="s_failed" tone="bad" />
    <div class="words"><b>${what} could not be loaded: ${plain(error.title ?? "error").toLowerCase()}.</b><div class="small">${plain(error.message)}</div></div>
    ${retry && html`<${Button} icon="retry" onClick=${retry}>Try again<//>`}
  </div>`;
}

/** Nothing is there: why, and what to do. */
export function Empty({ icon = "info", title, children, action }) {
  return html`<div class="empty"><${Icon} name=${icon} /><h2>${title}</h2>${children && html`<p>${children}</p>`}${action}</div>`;
}

/** The place of something that is being loaded. */
export function Bones({ lines = 6 }) {
  return html`<div class="stack tight" role="status" aria-label="Loading">
    ${Array.from({ length: lines }, (_, index) => html`<span class="bone" key=${index} style=${{ width: `${[92, 76, 84, 68, 88, 60][index % 6]}%`, margin: "6px 0" }}></span>`)}
  </div>`;
}

/** A resource: what there is of it, or that it is loading, or what went wrong. */
export function Loaded({ of, what, lines, children }) {
  if (of.data !== undefined) return html`${of.error && html`<${Failure} error=${of.error} retry=${of.reload} what=${what} />`}${children(of.data)}`;
  if (of.error) return html`<${Failure} error=${of.error} retry=${of.reload} what=${what} />`;
  return html`<div class="sheet"><div class="pad"><${Bones} lines=${lines} /></div></div>`;
}

/** A sheet of paper with a head. */
export function Sheet({ title, about, tools, children, foot, label, pad }) {
  return html`<section class="sheet" aria-label=${label ?? title}>
    ${(title || tools) && html`<header>${title && html`<h2>${title}</h2>`}${about && html`<span class="quiet">${about}</span>`}${tools && html`<div class="row push">${tools}</div>`}</header>`}
    ${pad ? html`<div class="pad">${children}</div>` : children}${foot && html`<footer>${foot}</footer>`}
  </section>`;
}
