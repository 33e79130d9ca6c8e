// The limits of a queue, in words and as a form.
import { act } from "../../lib/acts.js";
import { part } from "../../lib/api.js";
import { length, number } from "../../lib/format.js";
import { confirm } from "../../parts/dialog.js";

/** The limits, a few words each. */
export const limitsOf = (queue) => [
  queue.max_running != null && `${number(queue.max_running)} at once`,
  queue.rate && `${number(queue.rate.limit)} in ${length(queue.rate.per_ms)}`,
  queue.breaker && `breaker: ${number(queue.breaker.failures)}, then ${length(queue.breaker.pause_ms)}`,
].filter(Boolean);

const ms = (value) => (value == null ? "" : value % 60_000 === 0 ? `${value / 60_000}m` : value % 1000 === 0 ? `${value / 1000}s` : `${value}ms`);

/** Asks for the limits of a queue, and sets them. */
export const askLimits = (queue, after) => confirm({
  title: `Limits of ${queue.name}`,
  act: "Set the limits",
  fields: [
    { name: "most", label: "Steps that run at once, over all workers", kind: "number", value: queue.max_running ?? "", placeholder: "no limit" },
    { name: "limit", label: "Claims in a period", kind: "number", value: queue.rate?.limit ?? "", placeholder: "no limit" },
    { name: "per", label: "The period", value: ms(queue.rate?.per_ms), placeholder: "1s", hint: "As in 100ms, 1s or 1m." },
    { name: "failures", label: "Attempts without an answer, in a row, that close it", kind: "number", value: queue.breaker?.failures ?? "", placeholder: "never closed" },
    { name: "pause", label: "For how long it is closed then", value: ms(queue.breaker?.pause_ms), placeholder: "30s" },
    { name: "reason", label: "Why", placeholder: "optional", hint: "It stands in the audit." },
  ],
  run: ({ most, limit, per, failures, pause, reason }) => act("PUT", `queues/${part(queue.name)}/limits`, {
    body: {
      max_running: most === "" ? null : Number(most),
      rate: limit === "" ? null : { limit: Number(limit), per: per || "1s" },
      breaker: failures === "" ? null : { failures: Number(failures), pause: pause || "30s" },
    },
    reason, after, quiet: true, done: `The limits of ${queue.name} are set`,
  }),
});
