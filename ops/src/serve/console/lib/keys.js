// Shortcuts. A page adds its own as long as it is there; nothing is heard while somebody writes.
import { useEffect, useRef } from "./ui.js";

const stack = [];
let first = null;
let firstAt = 0;

const writes = (target) => target.isContentEditable || (/^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName ?? "") && !/^(checkbox|radio)$/.test(target.type));

const nameOf = (event) => {
  const modified = event.ctrlKey || event.metaKey ? "mod+" : "";
  return modified + (event.key.length === 1 ? (modified ? event.key.toLowerCase() : event.key) : event.key);
};

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.isComposing) return;
  const name = nameOf(event);
  const free = !writes(event.target) && !document.querySelector("dialog[open]");
  const pair = first && Date.now() - firstAt < 1200 ? `${first} ${name}` : null;
  first = null;
  for (const keys of [...stack].reverse()) {
    const found = (free && pair && keys[pair]) || (free || name.startsWith("mod+") ? keys[name] : null);
    if (found) {
      event.preventDefault();
      found(event);
      return;
    }
  }
  if (free && name === "g") {
    first = name;
    firstAt = Date.now();
  }
});

/** Hears keys as long as a component is there: { "g r": go, "/": find }. */
export function useKeys(keys) {
  const current = useRef(keys);
  current.current = keys;
  useEffect(() => {
    const entry = new Proxy({}, { get: (_, name) => current.current[name] });
    stack.push(entry);
    return () => stack.splice(stack.indexOf(entry), 1);
  }, []);
}
