// Attempts over time: waiting for a worker, running, waiting to be tried again, and waiting for something are told apart.
import { html, classes } from "../lib/ui.js";
import { now } from "../lib/clock.js";
import { length } from "../lib/format.js";
import { short } from "../lib/text.js";
import { StateIcon, tone, word } from "./state.js";

const MOST = 120;
const time = (text) => (text ? Date.parse(text) : null);
const CONSUMED = new Set(["failed", "timed_out", "panicked", "expired"]);
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 43_200_000, 86_400_000, 604_800_000, 2_592_000_000];

/** When a step could begin: when the last of those before it had ended, or the run began. */
const readyAt = (step, bySeq, graph, began) => {
  const node = graph.get(step.seq);
  // When a compensation is called for is not told.
  if (node?.undoes != null) return null;
  const before = node?.after ?? [];
  const ends = before.map((seq) => time(bySeq.get(seq)?.ended_at));
  return ends.some((end) => end == null) ? null : Math.max(began, ...ends);
};

/** The pieces of a step's line: [{ kind, from, to, text }]. */
const piecesOf = (step, attempts, ready, end) => {
  const pieces = [];
  let before = ready;
  let kind = "queue";
  for (const attempt of attempts) {
    const from = time(attempt.claimed_at);
    if (from == null) continue;
    const to = time(attempt.ended_at) ?? end;
    const names = { queue: "waited for a worker", backoff: "waited to be tried again", wait: "waited" };
    if (before != null && from - before > 1) pieces.push({ kind, from: before, to: from, text: `${names[kind]} ${length(from - before)}` });
    pieces.push({ kind: attempt.outcome, from, to, text: `attempt ${attempt.attempt}: ${word(attempt.outcome).toLowerCase()} after ${length(to - from)}` });
    before = to;
    kind = CONSUMED.has(attempt.outcome) ? "backoff" : attempt.outcome === "suspended" || attempt.outcome === "snoozed" || attempt.outcome === "deferred" ? "wait" : "queue";
  }
  const open = !["running", "completed", "failed", "cancelled", "skipped"].includes(step.state);
  const last = step.ended_at ? time(step.ended_at) : open ? end : null;
  if (before != null && last != null && last - before > 1 && step.state !== "blocked") {
    const waits = step.kind !== "handler" || step.state === "waiting" || (kind === "queue" && !attempts.length && step.waits_for);
    const name = waits ? "wait" : kind;
    pieces.push({ kind: name, from: before, to: last, text: `${{ wait: step.waits_for ? `waits for ${step.waits_for}` : "waited", backoff: "waits to be tried again", queue: "waits for a worker" }[name]} ${length(last - before)}` });
  }
  return pieces;
};

const axisOf = (from, to) => {
  const span = Math.max(1, to - from);
  const step = STEPS.find((one) => span / one <= 7) ?? STEPS.at(-1);
  return { step, ticks: Array.from({ length: Math.floor(span / step) + 1 }, (_, index) => index * step) };
};

const BARS = { queue: "queue", backoff: "backoff", wait: "wait" };

const Key = ({ kind, children }) => html`<span><i aria-hidden="true"><b class=${classes("bar", kind)}></b></i>${children}</span>`;

/** All attempts of a run. */
export function Gantt({ run, steps, attempts, graph, chosen, onChoose }) {
  const began = time(run.start_at) && time(run.start_at) > time(run.created_at) ? time(run.start_at) : time(run.created_at);
  const end = time(run.ended_at) ?? Math.max(now.value, began + 1000);
  const bySeq = new Map(steps.map((step) => [step.seq, step]));
  const nodes = new Map(graph.map((node) => [node.seq, node]));
  const tries = Map.groupBy ? Map.groupBy(attempts, (attempt) => attempt.step) : attempts.reduce((all, one) => all.set(one.step, [...(all.get(one.step) ?? []), one]), new Map());
  const shown = steps.filter((step) => step.state !== "blocked" && !(step.state === "cancelled" && !tries.has(step.name))).slice(0, MOST);
  const { step: tick, ticks } = axisOf(began, end);
  const span = Math.max(1, end - began);
  const place = (from, to) => ({ left: `${Math.max(0, ((from - began) / span) * 100)}%`, width: `${Math.min(100, (Math.max(0, to - from) / span) * 100)}%` });
  const lines = shown.map((step) => ({ step, pieces: piecesOf(step, tries.get(step.name) ?? [], readyAt(step, bySeq, nodes, began), end) }));
  lines.sort((a, b) => (a.pieces[0]?.from ?? Infinity) - (b.pieces[0]?.from ?? Infinity));
  return html`<div class="gantt">
    <div class="axis" aria-hidden="true">${ticks.map((at, index) => html`<span key=${at} class=${index && at / span > 0.94 ? "last" : undefined} style=${{ left: `${(at / span) * 100}%` }}>${at ? `+${length(at)}` : "start"}</span>`)}</div>
    ${lines.map(({ step, pieces }) => html`<button type="button" class="bars-row" key=${step.name} aria-pressed=${String(chosen === step.name)} onClick=${() => onChoose(step.name)}
        aria-label=${`${short(step.name, 60)}, ${word(step.state)}: ${pieces.map((piece) => piece.text).join(", ") || "nothing yet"}`}>
      <span class="label"><${StateIcon} state=${step.state} silent /><span class="cut">${short(step.name, 60)}</span></span>
      <span class="track" style=${{ "--tick": `${(tick / span) * 100}%` }}>${pieces.map((piece, index) => html`<span key=${index} class=${classes("bar", BARS[piece.kind] ?? tone(piece.kind))} style=${place(piece.from, piece.to)} title=${piece.text}></span>`)}</span>
    </button>`)}
    ${steps.length > MOST && html`<p class="pad quiet small">The first ${MOST} steps are shown.</p>`}
    <div class="gantt-key" aria-label="What the bars mean"><${Key} kind="queue">waits for a worker<//><${Key} kind="go">runs<//><${Key} kind="good">completed<//><${Key} kind="bad">failed attempt<//><${Key} kind="backoff">waits to be tried again<//><${Key} kind="wait">waits for a signal, a person, a time<//></div>
  </div>`;
}
