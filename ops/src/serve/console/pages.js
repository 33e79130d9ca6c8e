// The pages: where they are, what they are called, how they are reached.
import { Overview } from "./pages/overview.js";
import { Runs } from "./pages/runs.js";
import { Run } from "./pages/run.js";
import { Compare } from "./pages/compare.js";
import { Queues } from "./pages/queues.js";
import { Queue } from "./pages/queue.js";
import { Schedules } from "./pages/schedules.js";
import { Schedule } from "./pages/schedule.js";
import { Flows } from "./pages/flows.js";
import { Flow } from "./pages/flow.js";
import { Questions } from "./pages/questions.js";
import { DeadLetters } from "./pages/dead-letters.js";
import { Signals } from "./pages/signals.js";
import { Workers } from "./pages/workers.js";
import { Locks } from "./pages/locks.js";
import { Keys } from "./pages/keys.js";
import { Retention } from "./pages/retention.js";
import { Audit } from "./pages/audit.js";
import { Doctor } from "./pages/doctor.js";

/** The rail: groups of pages. `key` follows g. */
export const GROUPS = [
  { title: "", pages: [{ path: "", title: "Overview", icon: "overview", key: "o", page: Overview }] },
  {
    title: "Work",
    pages: [
      { path: "runs", title: "Runs", icon: "runs", key: "r", page: Runs, one: Run },
      { path: "flows", title: "Flows", icon: "flows", key: "f", page: Flows, one: Flow },
      { path: "queues", title: "Queues", icon: "queues", key: "q", page: Queues, one: Queue },
      { path: "schedules", title: "Schedules", icon: "schedules", key: "s", page: Schedules, one: Schedule },
      { path: "signals", title: "Signals", icon: "signals", key: "i", page: Signals },
    ],
  },
  {
    title: "For people",
    pages: [
      { path: "questions", title: "Questions", icon: "questions", key: "u", page: Questions, tally: "questions" },
      { path: "dead-letters", title: "Dead letters", icon: "dead", key: "d", page: DeadLetters, tally: "dead_letters" },
    ],
  },
  {
    title: "Fleet",
    pages: [
      { path: "workers", title: "Workers", icon: "workers", key: "w", page: Workers },
      { path: "locks", title: "Locks", icon: "locks", key: "l", page: Locks },
      { path: "keys", title: "Keys", icon: "keys", key: "k", page: Keys },
    ],
  },
  {
    title: "House",
    pages: [
      { path: "retention", title: "Retention", icon: "retention", key: "t", page: Retention },
      { path: "audit", title: "Audit", icon: "audit", key: "a", page: Audit },
      { path: "doctor", title: "Doctor", icon: "doctor", key: "c", page: Doctor },
    ],
  },
];

/** All pages of the rail. */
export const PAGES = GROUPS.flatMap((group) => group.pages);

/** The page of a path, with what it is about. */
export const find = ([, first = "", second, third]) => {
  const page = PAGES.find((one) => one.path === first);
  if (!page) return null;
  if (second === undefined || second === "") return { page, component: page.page, props: {} };
  if (first === "runs" && third === "compare") return { page, component: Compare, props: { id: second }, title: "Compare" };
  if (!page.one || (third !== undefined && third !== "")) return null;
  return { page, component: page.one, props: { id: second, name: second }, title: second };
};
