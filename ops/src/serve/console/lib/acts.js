// What operators do: how it is asked for, what is said when it is done, what takes it back.
import { send, part } from "./api.js";
import { forget } from "./resource.js";
import { middle, short } from "./text.js";
import { several } from "./format.js";
import { toast } from "../parts/toasts.js";

/** What can be done with runs. `from`: the states that allow it. `undo`: what takes it back. */
export const VERBS = {
  begin: { text: "Start now", done: "started", icon: "play", from: ["pending"] },
  pause: { text: "Pause", done: "paused", icon: "pause", from: ["pending", "running"], undo: "resume" },
  resume: { text: "Resume", done: "resumed", icon: "play", from: ["paused"], undo: "pause" },
  retry: { text: "Retry", done: "being retried", icon: "retry", from: ["failed", "cancelled"] },
  stop: { text: "Cancel", done: "cancelled", icon: "stop", from: ["pending", "running", "paused"], danger: true },
  dismiss: { text: "Dismiss", done: "dismissed", icon: "hide", from: ["completed", "failed", "cancelled"], undo: "undismiss" },
  undismiss: { text: "Show again", done: "shown again", icon: "show", from: ["completed", "failed", "cancelled"], undo: "dismiss" },
};

/** Whether a verb may be asked of a run. */
export const allowed = (verb, run) => {
  if (verb === "dismiss" && run.dismissed_at) return false;
  if (verb === "undismiss" && !run.dismissed_at) return false;
  // A run that waits for an answer goes on by the answer.
  if (verb === "resume" && run.paused_for && run.paused_for !== "operator") return false;
  return VERBS[verb].from.includes(run.state);
};

/** Asks, says what came of it, and calls `after`. A problem is thrown to whoever has a place for it, and else shown. */
export async function act(method, path, { query, body, reason, done, undo, link, after, quiet } = {}) {
  let answer;
  try {
    answer = await send(method, path, { query, body, reason });
  } catch (problem) {
    if (!quiet) toast(problem.message, { tone: "bad" });
    if (quiet) throw problem;
    return null;
  }
  forget();
  const text = typeof done === "function" ? done(answer) : done;
  if (text) toast(text, { undo, link: link?.(answer) });
  after?.(answer);
  return answer;
}

/** Does a verb to a run. */
export const steer = (run, verb, { reason, after, quiet, body } = {}) => {
  const { done, undo } = VERBS[verb];
  return act("POST", `runs/${run.id}/${verb}`, {
    body: body ?? {}, reason, after, quiet,
    done: `${run.name ? short(run.name, 60) : middle(run.id, 8, 6)} is ${done}`,
    undo: undo && (() => steer(run, undo, { after })),
  });
};

/** A body for many runs: those chosen, or those of a filter. */
const many = (verb, { runs, filter }, dry) => ({ act: verb, ...(runs ? { runs } : { filter }), dry_run: dry });

/** What a verb to many runs would do. */
export const preview = (verb, which) => send("POST", "runs/bulk", { body: many(verb, which, true) });

/** Does a verb to many runs, a page of the server's at a time. */
export async function steerMany(verb, which, { reason, onProgress, after } = {}) {
  let filter = which.filter;
  let done = 0;
  const refused = [];
  for (;;) {
    const answer = await send("POST", "runs/bulk", { body: many(verb, { ...which, filter }, false), reason });
    done += answer.done;
    refused.push(...answer.refused);
    onProgress?.(done);
    if (which.runs || !answer.next) break;
    filter = { ...filter, after: answer.next };
  }
  forget();
  const back = VERBS[verb].undo;
  const more = refused.length ? `; ${several(refused.length, "run")} refused: ${refused[0].reason}` : "";
  toast(`${several(done, "run is", "runs are")} ${VERBS[verb].done}${more}`, {
    tone: refused.length && !done ? "bad" : "good",
    undo: back && which.runs && (() => steerMany(back, which, { after })),
  });
  after?.();
}

/** Starts a run that does a step of another one, and what follows it, again. */
export const fork = (id, body, options) => act("POST", `runs/${id}/fork`, { body, ...options });

/** Answers a question. */
export const decide = (question, choice, options = {}) =>
  act("POST", "questions/answer", {
    body: { run: question.run, step: question.step, choice }, ...options, done: `${short(question.step, 40)}: “${short(choice, 40)}” is recorded`,
  });

/** Pauses or resumes a queue. */
export const steerQueue = (name, verb, { after, reason, quiet } = {}) =>
  act("POST", `queues/${part(name)}/${verb}`, {
    reason, after, quiet, done: `Queue ${name} is ${verb === "pause" ? "paused" : "resumed"}`,
    undo: () => steerQueue(name, verb === "pause" ? "resume" : "pause", { after }),
  });

/** Pauses, resumes or triggers a schedule. */
export const steerSchedule = (name, verb, { after, reason, quiet } = {}) =>
  act("POST", `schedules/${part(name)}/${verb}`, {
    reason, after, quiet,
    done: { pause: `Schedule ${name} is paused`, resume: `Schedule ${name} goes on`, trigger: `Schedule ${name} has started a run` }[verb],
    undo: verb === "trigger" ? undefined : () => steerSchedule(name, verb === "pause" ? "resume" : "pause", { after }),
    link: (answer) => answer?.run && { href: `/runs/${answer.run}`, text: "Look at it" },
  });
