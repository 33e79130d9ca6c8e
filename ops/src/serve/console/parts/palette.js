// The command palette: go to any page, find a run by its id or name, act on what is seen.
import { html, signal, useState, useEffect, useMemo } from "../lib/ui.js";
import { PAGES } from "../pages.js";
import { go, place } from "../lib/router.js";
import { get, send } from "../lib/api.js";
import { theme } from "../lib/prefs.js";
import { paused } from "../lib/live.js";
import { short, middle } from "../lib/text.js";
import { Dialog } from "./dialog.js";
import { Icon } from "./icons.js";
import { StateIcon, word } from "./state.js";
import { help } from "./help.js";

/** Whether the palette is open. */
export const palette = signal(false);
/** What can be done on the page that is seen: [{ text, icon, run }]. */
export const pageActs = signal([]);

const STANDING = [
  { text: "Failed runs", icon: "s_failed", run: () => go("/runs?state=failed") },
  { text: "Running runs", icon: "s_running", run: () => go("/runs?state=running") },
  { text: "Paused runs", icon: "s_paused", run: () => go("/runs?state=paused") },
  { text: "Pause or resume live changes", icon: "pause", run: () => { paused.value = !paused.value; } },
  { text: "Light theme", icon: "sun", run: () => { theme.value = "light"; } },
  { text: "Dark theme", icon: "moon", run: () => { theme.value = "dark"; } },
  { text: "Theme of the system", icon: "system", run: () => { theme.value = "system"; } },
  { text: "Sign out", icon: "back", run: () => send("POST", "logout").then(() => location.reload()) },
  { text: "Keyboard shortcuts", icon: "help", run: () => { help.value = true; } },
];

const LIKE_ID = /^[0-9a-f-]{4,36}$/i;

/** How well a text fits what was written; 0: not at all. */
const fit = (text, words) => {
  const low = text.toLowerCase();
  return words.every((one) => low.includes(one)) ? (low.startsWith(words[0] ?? "") ? 2 : 1) : 0;
};

function useRuns(text) {
  const [runs, setRuns] = useState([]);
  useEffect(() => {
    if (text.length < 2) {
      setRuns([]);
      return undefined;
    }
    const abort = new AbortController();
    const timer = setTimeout(async () => {
      const asks = [get("runs", { name: `%${text.replace(/[\\%_]/g, "\\$&")}%`, limit: 6 }, abort.signal)];
      if (LIKE_ID.test(text)) asks.unshift(get("runs", { id: text, limit: 6 }, abort.signal));
      const found = await Promise.allSettled(asks);
      if (abort.signal.aborted) return;
      const all = found.flatMap((one) => one.value?.runs ?? []);
      setRuns([...new Map(all.map((run) => [run.id, run])).values()].slice(0, 8));
    }, 140);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [text]);
  return runs;
}

function Option({ item, chosen, id, onChoose, onPoint }) {
  return html`<li id=${id} role="option" aria-selected=${String(chosen)} onClick=${onChoose} onMouseMove=${onPoint}>
    ${item.state ? html`<${StateIcon} state=${item.state} silent />` : html`<${Icon} name=${item.icon} />`}
    <bdi class="cut">${item.text}</bdi><span class="push">${item.about}</span>
  </li>`;
}

function Open() {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const words = text.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const runs = useRuns(text.trim());
  const close = () => { palette.value = false; };
  const items = useMemo(() => {
    const here = pageActs.value.map((act) => ({ ...act, part: "On this page" }));
    const pages = PAGES.map((page) => ({ text: page.title, icon: page.icon, about: `g ${page.key}`, part: "Go to", run: () => go(`/${page.path}`) }));
    const found = runs.map((run) => ({
      text: short(run.name ?? middle(run.id, 8, 6), 80), about: `${short(run.flow, 40)} · ${word(run.state)}`, state: run.state, part: "Runs", run: () => go(`/runs/${run.id}`),
    }));
    const search = words.length ? [{ text: `All runs with “${short(text.trim(), 40)}” in their name`, icon: "search", part: "Runs", run: () => go(`/runs?name=${encodeURIComponent(text.trim())}`) }] : [];
    const known = [...here, ...pages, ...STANDING.map((act) => ({ ...act, part: "Do" }))];
    const fitting = words.length ? known.filter((item) => fit(item.text, words)).sort((a, b) => fit(b.text, words) - fit(a.text, words)) : known;
    return words.length ? [...fitting.slice(0, 8), ...found, ...search] : fitting;
  }, [text, runs, pageActs.value, place.value]);
  useEffect(() => setAt(0), [text]);
  const chosen = Math.min(at, items.length - 1);
  useEffect(() => document.getElementById(`choice-${chosen}`)?.scrollIntoView({ block: "nearest" }), [chosen]);
  const choose = (item) => {
    close();
    // The dialog gives the focus back first.
    queueMicrotask(() => item?.run());
  };
  const keys = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      setAt((chosen + step + items.length) % items.length);
    } else if (event.key === "Enter") {
      event.preventDefault();
      choose(items[chosen]);
    }
  };
  return html`<${Dialog} kind="palette" label="Find or do" onClose=${close}>
    <input type="text" role="combobox" aria-expanded="true" aria-controls="choices" aria-activedescendant=${`choice-${chosen}`} aria-label="Go to a page, find a run by id or name, act"
      placeholder="A page, the id or name of a run, something to do…" autocomplete="off" spellcheck="false" value=${text} onInput=${(event) => setText(event.target.value)} onKeyDown=${keys} autofocus />
    <ul id="choices" role="listbox" aria-label="What there is">
      ${items.map((item, index) => html`${item.part !== items[index - 1]?.part && html`<li class="part" role="presentation">${item.part}</li>`}
        <${Option} key=${index} id=${`choice-${index}`} item=${item} chosen=${index === chosen} onPoint=${() => setAt(index)} onChoose=${() => choose(item)} />`)}
    </ul>
    <footer><span><kbd>↑</kbd> <kbd>↓</kbd> choose</span><span><kbd>Enter</kbd> do it</span><span><kbd>Esc</kbd> close</span></footer>
  <//>`;
}

/** The palette, if it is open. */
export const Palette = () => (palette.value ? html`<${Open} />` : null);
