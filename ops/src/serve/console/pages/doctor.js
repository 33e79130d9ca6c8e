// Is everything as it should be? The same as `longhaul doctor`.
import { html } from "../lib/ui.js";
import { useResource } from "../lib/resource.js";
import { several } from "../lib/format.js";
import { plain } from "../lib/text.js";
import { Loaded, Button, Note, Sheet } from "../parts/basics.js";
import { Icon } from "../parts/icons.js";
import { word } from "../parts/state.js";

const ORDER = { failed: 0, warning: 1, ok: 2 };
const LOOK = { failed: ["s_failed", "bad"], warning: ["warn", "hold"], ok: ["s_completed", "good"] };

export function Doctor() {
  const found = useResource("doctor", {}, { every: 15_000 });
  return html`<${Loaded} of=${found} what="The doctor's findings">${(data) => {
    const checks = [...data].sort((a, b) => ORDER[a.verdict] - ORDER[b.verdict]);
    const wrong = checks.filter((check) => check.verdict !== "ok").length;
    return html`<div class="stack">
      <${Note} tone=${wrong ? "hold" : "go"} icon=${wrong ? "warn" : "s_completed"} action=${html`<${Button} icon="retry" onClick=${found.reload}>Look again<//>`}>
        <b>${wrong ? `${several(wrong, "check needs", "checks need")} somebody to look` : "Everything is as it should be"}</b>
        <div class="small soft">${several(checks.length, "check")}, the same as <code>longhaul doctor</code>.</div><//>
      <${Sheet} title="Checks"><ul class="list checks">${checks.map((check) => html`<li key=${check.check}>
        <${Icon} name=${LOOK[check.verdict]?.[0] ?? "info"} tone=${LOOK[check.verdict]?.[1]} /><div class="words"><b>${plain(check.check)}</b><span class="soft text"><span class="hidden-text">${word(check.verdict)}: </span>${plain(check.finding)}</span></div>
      </li>`)}</ul><//>
    </div>`;
  }}<//>`;
}
