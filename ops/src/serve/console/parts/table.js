// Tables: rows that can be walked by j and k, opened by Enter, chosen by x.
import { html, useRef, classes } from "../lib/ui.js";
import { useKeys } from "../lib/keys.js";
import { go } from "../lib/router.js";

/**
 * `columns`: [{ name, kind, at, cell(row) }]; kind is wide, num, fit or none, `at` hides it on small screens (at-middle, at-wide).
 * `href(row)`: where a row leads. `chosen`: { has, toggle, all } makes rows choosable.
 */
export function Table({ columns, rows, rowKey, href, chosen, label, empty }) {
  const body = useRef();
  const lines = () => [...body.current.querySelectorAll("tr")];
  const step = (by) => () => {
    const all = lines();
    const at = all.findIndex((line) => line.contains(document.activeElement));
    const next = all[Math.max(0, Math.min(all.length - 1, at + by))];
    next?.querySelector("a, button, input, [tabindex]")?.focus();
    next?.scrollIntoView({ block: "nearest" });
  };
  const focused = () => rows[lines().findIndex((line) => line.contains(document.activeElement))];
  useKeys({
    j: step(1),
    k: step(-1),
    ...(chosen && { x: () => focused() && chosen.toggle(focused()) }),
  });
  if (!rows.length) return empty;
  const open = (event, row) => {
    if (!href || event.defaultPrevented || event.target.closest("a, button, input, label, summary")) return;
    if (getSelection().toString()) return;
    if (event.metaKey || event.ctrlKey) window.open(href(row), "_blank", "noopener");
    else go(href(row));
  };
  const everything = chosen && rows.every((row) => chosen.has(row));
  return html`<div class="scroll" role="group" aria-label=${label} tabindex="0">
    <table>
      <thead><tr>
        ${chosen && html`<th class="tick"><input type="checkbox" aria-label="Choose all of this page" checked=${everything} onChange=${() => chosen.all(!everything)} /></th>`}
        ${columns.map((column) => html`<th scope="col" class=${classes(column.kind, column.at)} key=${column.name}>${column.hidden ? html`<span class="hidden-text">${column.name}</span>` : column.name}</th>`)}
      </tr></thead>
      <tbody ref=${body}>
        ${rows.map((row) => html`<tr key=${rowKey(row)} class=${classes(href && "goes", chosen?.has(row) && "chosen")} onClick=${(event) => open(event, row)}>
          ${chosen && html`<td class="tick"><input type="checkbox" aria-label="Choose this row" checked=${chosen.has(row)} onChange=${() => chosen.toggle(row)} /></td>`}
          ${columns.map((column) => html`<td class=${classes(column.kind, column.at)} key=${column.name}>${column.cell(row)}</td>`)}
        </tr>`)}
      </tbody>
    </table>
  </div>`;
}
