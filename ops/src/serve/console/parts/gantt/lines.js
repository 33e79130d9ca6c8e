// What the lines of the chart show: a step each, and all items of a fan-out together.
import { length } from "../../lib/format.js";
import { plain } from "../../lib/text.js";
import { word } from "../state.js";

const time = (text) => (text ? Date.parse(text) : null);
const CONSUMED = new Set(["failed", "timed_out", "panicked", "expired"]);
const SUSPENDED = new Set(["suspended", "snoozed", "deferred"]);
const RESTING = new Set(["running", "completed", "failed", "cancelled", "skipped"]);
/** So many items of a fan-out, and they share a line. */
const TOGETHER = 4;
const LANES = 5;

/** When a step could begin: when the last of those before it had ended, or the run began. */
const readyAt = (step, bySeq, graph, began) => {
  const node = graph.get(step.seq);
  // When a compensation is called for is not told.
  if (!node || node.undoes != null) return null;
  const ends = node.after.map((seq) => time(bySeq.get(seq)?.ended_at));
  return ends.some((end) => end == null) ? null : Math.max(began, ...ends);
};

const after = (outcome) => (CONSUMED.has(outcome) ? "backoff" : SUSPENDED.has(outcome) ? "wait" : "queue");

/** The pieces of a step's line: [{ kind, from, to, text }]. */
const piecesOf = (step, attempts, ready, end) => {
  const pieces = [];
  let before = ready;
  let kind = step.kind === "handler" ? "queue" : "wait";
  for (const attempt of attempts) {
    const from = time(attempt.claimed_at);
    if (from == null) continue;
    const to = time(attempt.ended_at) ?? end;
    const names = { queue: "waited for a worker", backoff: "waited to be tried again", wait: "waited" };
    if (before != null && from - before > 1) pieces.push({ kind, from: before, to: from, text: `${names[kind]} ${length(from - before)}` });
    pieces.push({ kind: attempt.outcome, runs: true, from, to, text: `attempt ${attempt.attempt}: ${word(attempt.outcome).toLowerCase()} after ${length(to - from)}` });
    before = to;
    kind = after(attempt.outcome);
  }
  const last = step.ended_at ? time(step.ended_at) : RESTING.has(step.state) ? null : end;
  if (before != null && last != null && last - before > 1 && step.state !== "blocked") {
    const name = step.state === "waiting" && kind !== "backoff" ? "wait" : kind;
    const what = { wait: step.waits_for ? `waits for ${plain(step.waits_for)}` : "waited", backoff: "waits to be tried again", queue: "waits for a worker" }[name];
    pieces.push({ kind: name, from: before, to: last, text: `${what} ${length(last - before)}` });
  }
  return pieces;
};

/** Puts pieces that run at the same time above each other. */
const inLanes = (all) => {
  const ends = [];
  return all.flatMap((pieces) => {
    if (!pieces.length) return [];
    const free = ends.findIndex((end) => end <= pieces[0].from);
    const lane = free >= 0 ? free : ends.length < LANES ? ends.length : ends.indexOf(Math.min(...ends));
    ends[lane] = pieces.at(-1).to;
    return pieces.map((piece) => ({ ...piece, lane }));
  });
};

const family = (name) => /^(.*)\[\d+\]$/.exec(name)?.[1];

/** The lines: [{ name, state, pieces, items }], in the order in which they began. */
export const linesOf = ({ steps, attempts, graph, began, end }) => {
  const bySeq = new Map(steps.map((step) => [step.seq, step]));
  const nodes = new Map(graph.map((node) => [node.seq, node]));
  const tries = new Map();
  for (const attempt of attempts) tries.set(attempt.step, [...(tries.get(attempt.step) ?? []), attempt]);
  const families = new Map();
  for (const step of steps) {
    const name = family(step.name);
    if (name) families.set(name, [...(families.get(name) ?? []), step]);
  }
  const grouped = (name) => (families.get(name)?.length ?? 0) >= TOGETHER;
  const pieces = (step) => piecesOf(step, tries.get(step.name) ?? [], family(step.name) ? null : readyAt(step, bySeq, nodes, began), end);
  const lines = steps
    .filter((step) => !grouped(family(step.name)) && step.state !== "blocked" && !(step.state === "cancelled" && !tries.has(step.name)))
    .map((step) => grouped(step.name)
      ? { name: step.name, state: step.state, items: families.get(step.name).length, pieces: inLanes(families.get(step.name).map((item) => pieces(item).filter((piece) => piece.runs)).filter((all) => all.length).sort((a, b) => a[0].from - b[0].from)) }
      : { name: step.name, state: step.state, pieces: pieces(step) });
  return lines.sort((a, b) => (a.pieces[0]?.from ?? Infinity) - (b.pieces[0]?.from ?? Infinity));
};
