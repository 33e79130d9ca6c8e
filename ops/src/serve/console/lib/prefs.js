// What a person has chosen, remembered by the browser.
import { signal, effect } from "./ui.js";

const remembered = (name, fallback) => {
  try {
    return localStorage.getItem(`longhaul.${name}`) ?? fallback;
  } catch {
    return fallback;
  }
};

const kept = (name, fallback) => {
  const choice = signal(remembered(name, fallback));
  effect(() => {
    try {
      localStorage.setItem(`longhaul.${name}`, choice.value);
    } catch {
      // A browser that keeps nothing asks again next time.
    }
  });
  return choice;
};

/** system, light or dark. */
export const theme = kept("theme", "system");
/** The rail: auto, open or folded. */
export const rail = kept("rail", "auto");
/** The tenant that is looked at; empty is the installation's own. */
export const tenant = kept("tenant", "");
/** Who one says one is, for the record of what was done. */
export const operator = kept("operator", "");

effect(() => {
  if (theme.value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
});

const dark = matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(dark.matches);
dark.addEventListener("change", (event) => {
  systemDark.value = event.matches;
});

/** Whether the page is dark now. */
export const isDark = () => (theme.value === "system" ? systemDark.value : theme.value === "dark");

const narrow = matchMedia("(max-width: 1000px)");
export const isNarrow = signal(narrow.matches);
narrow.addEventListener("change", (event) => {
  isNarrow.value = event.matches;
});
