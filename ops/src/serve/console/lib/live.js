// Live changes, by server-sent events. One stream for the page that is seen; none while nobody looks, or while it is paused.
import { signal, computed, effect } from "./ui.js";
import { route } from "./api.js";
import { tenant } from "./prefs.js";

/** Whether a person has paused it. */
export const paused = signal(false);
const seen = signal(!document.hidden);
const connected = signal(false);
const wanted = signal({});

document.addEventListener("visibilitychange", () => {
  seen.value = !document.hidden;
});

/** on, paused, or lost. */
export const state = computed(() => (paused.value ? "paused" : connected.value || !Object.keys(wanted.value).length ? "on" : "lost"));

/** Whether anything may be asked by itself. */
export const running = computed(() => seen.value && !paused.value);

let listeners = new Map();

/** Listens to topics as long as a page is there: { topics: [...], run, runs: [...] } and what to do for each name. Gives the end of it. */
export const listen = (what, onEvent) => {
  const key = {};
  listeners.set(key, { what, onEvent });
  refresh();
  return () => {
    listeners.delete(key);
    refresh();
  };
};

function refresh() {
  const topics = new Set();
  const runs = new Set();
  let run;
  for (const { what } of listeners.values()) {
    what.topics?.forEach((topic) => topics.add(topic));
    what.runs?.forEach((id) => runs.add(id));
    run = what.run ?? run;
  }
  const next = {};
  if (topics.size) next.topics = [...topics].sort().join(",");
  if (run) next.run = run;
  if (runs.size) next.runs = [...runs].join(",");
  if (JSON.stringify(next) !== JSON.stringify(wanted.value)) wanted.value = next;
}

const tell = (name, data) => {
  for (const { onEvent } of [...listeners.values()]) onEvent(name, data);
};

const NAMES = ["overview", "newest", "queues", "workers", "schedules", "locks", "questions", "dead-letters", "run", "runs"];

effect(() => {
  const query = wanted.value;
  if (!running.value || !Object.keys(query).length) return undefined;
  void tenant.value;
  const source = new EventSource(route("events", query));
  source.onopen = () => {
    connected.value = true;
  };
  // The browser connects again by itself; after a refusal it does not, and we do.
  let again;
  source.onerror = () => {
    connected.value = false;
    if (source.readyState === EventSource.CLOSED) again = setTimeout(() => { wanted.value = { ...wanted.value }; }, 5000);
  };
  for (const name of NAMES) source.addEventListener(name, (event) => tell(name, JSON.parse(event.data)));
  return () => {
    clearTimeout(again);
    source.close();
  };
});
