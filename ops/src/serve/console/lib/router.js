// The address is the state: the path says which page, the query says what is filtered and opened there.
import { signal } from "./ui.js";

const read = () => ({ path: decodeSafely(location.pathname), query: new URLSearchParams(location.search) });

function decodeSafely(path) {
  try {
    return path.split("/").map(decodeURIComponent);
  } catch {
    return path.split("/");
  }
}

/** Where we are. */
export const place = signal(read());

/** Goes to an address of the console. */
export const go = (address, { replace = false } = {}) => {
  if (address === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", address);
  const samePage = place.value.path.join("/") === decodeSafely(location.pathname).join("/");
  place.value = read();
  if (!samePage) scrollTo(0, 0);
};

/** The present address with some of its query changed; null and empty texts take a name out. */
export const withQuery = (changes, query = place.value.query, path = location.pathname) => {
  const next = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) {
    if (value == null || value === "" || value === false) next.delete(name);
    else next.set(name, value);
  }
  const text = next.toString();
  return text ? `${path}?${text}` : path;
};

/** Changes some of the query of the present page. */
export const setQuery = (changes, options) => go(withQuery(changes), options);

/** The address of a page, its parts escaped. */
export const address = (...parts) => `/${parts.map(encodeURIComponent).join("/")}`;

addEventListener("popstate", () => {
  place.value = read();
});
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  const ours = link && link.origin === location.origin && !link.target && !link.hasAttribute("download");
  if (!ours || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  if (link.pathname.startsWith("/api/") || (link.hash && link.pathname === location.pathname)) return;
  event.preventDefault();
  go(link.pathname + link.search);
});
