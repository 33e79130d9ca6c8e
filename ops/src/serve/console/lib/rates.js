// Rates from counters that only grow: what was added between two looks, over the time between them.
import { useRef } from "./ui.js";
import { serverTime } from "./clock.js";

const SPAN = 12_000;

/** For a list of queues with counters: a function from a name to { completed, failed, claimed } a second. */
export function useRates(queues) {
  const looks = useRef([]);
  if (queues && looks.current.at(-1)?.queues !== queues) {
    looks.current.push({ at: serverTime(), queues });
    while (looks.current.length > 2 && serverTime() - looks.current[1].at > SPAN) looks.current.shift();
  }
  const first = looks.current[0];
  const last = looks.current.at(-1);
  return (name) => {
    const span = last && first ? (last.at - first.at) / 1000 : 0;
    const before = first?.queues.find((queue) => queue.name === name);
    const after = last?.queues.find((queue) => queue.name === name);
    if (!before || !after || span < 0.5) return { completed: null, failed: null, claimed: null };
    const rate = (of) => Math.max(0, after[of] - before[of]) / span;
    return { completed: rate("completed"), failed: rate("failed"), claimed: rate("claimed") };
  };
}
