// Something of the API that a page shows: loaded, kept while it is loaded again, told of when it changes.
import { useEffect, useRef, useState, untracked } from "./ui.js";
import { get } from "./api.js";
import { listen, running } from "./live.js";
import { tenant } from "./prefs.js";
import { effect } from "./ui.js";

/** The last answers, so that a page that is gone back to is there at once. */
const kept = new Map();
const KEPT = 60;

const keep = (key, data) => {
  kept.delete(key);
  kept.set(key, data);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
};

/** Forgets what is kept, for when something was changed. */
export const forget = () => kept.clear();

/**
 * { data, error, loading, reload, set } of a path of the API; a path of null is not asked for. `every`: asked again after so many
 * milliseconds, while the page is seen and not paused.
 */
export function useResource(path, query = {}, { every } = {}) {
  const key = path && JSON.stringify([tenant.value, path, query]);
  const [state, setState] = useState(() => ({ key, data: kept.get(key) }));
  const asked = useRef(0);
  const load = useRef(() => {});
  load.current = () => {
    if (!path) return () => {};
    const turn = ++asked.current;
    const abort = new AbortController();
    const settle = (next) => {
      if (turn === asked.current) setState(next);
    };
    get(path, query, abort.signal).then(
      (data) => {
        keep(key, data);
        settle({ key, data });
      },
      (error) => {
        if (error.name !== "AbortError") settle((before) => ({ key, data: before.key === key ? before.data : kept.get(key), error }));
      },
    );
    return () => abort.abort();
  };
  useEffect(() => {
    setState((before) => (before.key === key ? before : { key, data: kept.get(key) }));
    return load.current();
  }, [key]);
  useEffect(() => {
    if (!every || !path) return undefined;
    return effect(() => {
      if (!running.value) return undefined;
      const timer = setInterval(() => untracked(() => load.current()), every);
      return () => clearInterval(timer);
    });
  }, [key, every]);
  const current = state.key === key ? state : { data: kept.get(key) };
  return {
    data: current.data,
    error: current.error,
    loading: Boolean(path) && current.data === undefined && !current.error,
    reload: () => load.current(),
    set: (data) => {
      keep(key, data);
      setState({ key, data });
    },
  };
}

/** Listens while a component is there. `what` is compared by its content. */
export function useLive(what, onEvent) {
  const call = useRef(onEvent);
  call.current = onEvent;
  const key = JSON.stringify(what);
  useEffect(() => (key === "null" ? undefined : listen(what, (name, data) => call.current(name, data))), [key]);
}
