// What all modules draw with: one place that knows the libraries.
import { h, render, Fragment } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export { render, Fragment };
export { useEffect, useLayoutEffect, useRef, useState, useMemo, useCallback } from "../vendor/preact-hooks.js";
export { signal, computed, effect, batch, untracked, useSignal, useComputed } from "../vendor/signals.js";

/** Templates. Values in them are text or components, and never markup. */
export const html = htm.bind(h);

/** Class names from a list; what is not a text is left out. */
export const classes = (...names) => names.filter((name) => typeof name === "string" && name).join(" ");
