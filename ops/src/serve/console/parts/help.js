// The sheet of shortcuts.
import { html, signal } from "../lib/ui.js";
import { PAGES } from "../pages.js";
import { Dialog } from "./dialog.js";

/** Whether the sheet is open. */
export const help = signal(false);

const EVERYWHERE = [
  ["Find or do anything", ["Ctrl", "K"]],
  ["Search this list", ["/"]],
  ["Pause or resume live changes", ["p"]],
  ["Fold the rail", ["["]],
  ["This sheet", ["?"]],
  ["Close what is open", ["Esc"]],
];
const LISTS = [
  ["Next row", ["j"]],
  ["Row before", ["k"]],
  ["Open the row", ["Enter"]],
  ["Choose the row", ["x"]],
];

const Part = ({ title, lines }) => html`<div><h3>${title}</h3>
  ${lines.map(([text, keys]) => html`<div class="line" key=${text}><span>${text}</span><span class="kbds">${keys.map((key) => html`<kbd>${key}</kbd>`)}</span></div>`)}
</div>`;

/** The sheet, if it is open. */
export function Help() {
  if (!help.value) return null;
  const close = () => { help.value = false; };
  return html`<${Dialog} title="Keyboard shortcuts" kind="wide" onClose=${close}>
    <div class="pad"><div class="keys">
      <div class="stack"><${Part} title="Everywhere" lines=${EVERYWHERE} /><${Part} title="In lists" lines=${LISTS} /></div>
      <${Part} title="Go to" lines=${PAGES.map((page) => [page.title, ["g", page.key]])} />
    </div></div>
  <//>`;
}
