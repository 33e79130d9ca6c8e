// States: a shape, a word and a colour, the same everywhere.
import { html } from "../lib/ui.js";
import { Icon } from "./icons.js";

const STATES = {
  pending: ["off", "s_pending", "Pending"],
  running: ["go", "s_running", "Running"],
  paused: ["hold", "s_paused", "Paused"],
  completed: ["good", "s_completed", "Completed"],
  failed: ["bad", "s_failed", "Failed"],
  cancelled: ["off", "s_cancelled", "Cancelled"],
  blocked: ["off", "s_blocked", "Blocked"],
  ready: ["go", "s_ready", "Ready"],
  waiting: ["hold", "s_waiting", "Waiting"],
  skipped: ["off", "s_skipped", "Skipped"],
  timed_out: ["bad", "s_failed", "Timed out"],
  panicked: ["bad", "s_failed", "Panicked"],
  expired: ["bad", "s_failed", "Lease expired"],
  released: ["off", "s_cancelled", "Handed back"],
  snoozed: ["off", "s_pending", "Snoozed"],
  suspended: ["hold", "s_waiting", "Suspended"],
  deferred: ["hold", "s_pending", "Deferred"],
  active: ["good", "s_completed", "Active"],
  draining: ["hold", "drain", "Draining"],
  lost: ["bad", "s_failed", "Lost"],
  gone: ["off", "s_cancelled", "Gone"],
  started: ["good", "s_completed", "Started"],
  queued: ["go", "s_ready", "Queued"],
  missed: ["hold", "warn", "Missed"],
  ok: ["good", "s_completed", "Fine"],
  warning: ["hold", "warn", "Warning"],
};

/** States of runs, in the order in which lists show them. */
export const RUN_STATES = ["pending", "running", "paused", "completed", "failed", "cancelled"];
/** Those from which nothing moves any more. */
export const isFinal = (state) => state === "completed" || state === "failed" || state === "cancelled" || state === "skipped";
/** The tone of a state: good, go, hold, bad or off. */
export const tone = (state) => STATES[state]?.[0] ?? "off";
/** Its word. */
export const word = (state) => STATES[state]?.[2] ?? state;

/** The shape alone, with its word for screen readers. */
export function StateIcon({ state, silent }) {
  const [shade, icon, name] = STATES[state] ?? ["off", "info", state];
  return html`<${Icon} name=${icon} tone=${shade} turns=${state === "running"} />${silent ? null : html`<span class="hidden-text">${name}</span>`}`;
}

/** A state with its shape and its word, or another one. */
export function State({ state, more, name }) {
  return html`<span class=${`state ${tone(state)}`}><${StateIcon} state=${state} silent /><span>${name ?? word(state)}${more ? html` <span class="quiet">${more}</span>` : null}</span></span>`;
}
