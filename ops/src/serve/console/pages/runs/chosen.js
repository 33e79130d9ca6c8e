// What is done with many runs: first it is shown exactly which.
import { html, useEffect, useState } from "../../lib/ui.js";
import { VERBS, allowed, preview, steerMany } from "../../lib/acts.js";
import { several, number } from "../../lib/format.js";
import { plain, short, middle } from "../../lib/text.js";
import { confirm, Menu } from "../../parts/dialog.js";
import { Button, Bones, Text, Empty } from "../../parts/basics.js";
import { State } from "../../parts/state.js";
import { Icon } from "../../parts/icons.js";

/** Exactly what will be hit. */
function Preview({ verb, which, setReady }) {
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    preview(verb, which).then(
      (answer) => {
        setFound(answer);
        setReady(answer.matched > 0);
      },
      setError,
    );
  }, []);
  if (error) return html`<div class="note bad" role="alert"><div class="words"><b>${plain(error.title)}</b><div class="small">${plain(error.message)}</div></div></div>`;
  if (!found) return html`<${Bones} lines=${5} />`;
  if (!found.matched) return html`<${Empty} icon="info" title="None of them can be hit">${VERBS[verb].text} works on runs that are ${VERBS[verb].from.join(", ")}.<//>`;
  const hidden = found.matched - found.runs.length;
  return html`<p><b class="num">${several(found.matched, "run")}${found.next ? " or more" : ""}</b> will be hit${which.runs && found.matched < which.runs.length ? `; ${number(which.runs.length - found.matched)} of those chosen cannot be` : ""}:</p>
    <div class="hits" tabindex="0" role="region" aria-label="Runs that will be hit"><table>
      <thead><tr><th scope="col">Run</th><th scope="col">Flow</th><th scope="col">State</th></tr></thead>
      <tbody>${found.runs.map((run) => html`<tr key=${run.id}><td class="wide"><${Text} value=${run.name ?? middle(run.id, 8, 6)} most=${80} /></td><td class="fit">${short(run.flow, 40)}</td><td class="fit"><${State} state=${run.state} /></td></tr>`)}</tbody>
    </table></div>
    ${hidden > 0 && html`<p class="quiet small">and ${several(hidden, "more run")}${found.next ? ", and those behind them" : ""}</p>`}
    <p class="small soft">${VERBS[verb].undo ? "It can be undone." : verb === "stop" ? "It cannot be undone. Cancelled runs can be retried; what ran is stopped." : "It cannot be undone."}</p>`;
}

/** Shows which runs a verb will hit, and does it when a person agrees. */
export const askForMany = (verb, which, onDone) =>
  confirm({
    title: `${VERBS[verb].text} many runs`,
    act: VERBS[verb].text,
    danger: VERBS[verb].danger,
    ready: false,
    wide: true,
    fields: [{ name: "reason", label: "Why", hint: "It stands in the audit.", placeholder: "optional" }],
    body: ({ setReady }) => html`<${Preview} verb=${verb} which=${which} setReady=${setReady} />`,
    run: ({ reason }) => steerMany(verb, which, { reason, after: onDone }),
  });

const BULK = ["pause", "resume", "retry", "stop", "dismiss"];

/** What is done with the runs that are chosen. */
export function ChosenBar({ chosen, onClear, onDone }) {
  if (!chosen.size) return null;
  const runs = [...chosen.values()];
  const ids = runs.map((run) => run.id);
  const done = () => {
    onClear();
    onDone();
  };
  return html`<div class="chosen-bar" role="region" aria-label="What is chosen">
    <b class="num">${number(chosen.size)} chosen</b>
    ${BULK.map((verb) => html`<${Button} key=${verb} icon=${VERBS[verb].icon} kind=${VERBS[verb].danger && "danger"} disabled=${!runs.some((run) => allowed(verb, run))} onClick=${() => askForMany(verb, { runs: ids }, done)}>${VERBS[verb].text}<//>`)}
    ${ids.length === 2 && html`<a class="button" href=${`/runs/${ids[1]}/compare?with=${ids[0]}`}><${Icon} name="compare" />Compare</a>`}
    <${Button} kind="plain" icon="close" label="Choose none" onClick=${onClear} />
  </div>`;
}

/** What is done with all that the filters find. */
ChosenBar.ForFilter = ({ filter, onDone }) => html`<${Menu} label="Act on all that is found" items=${BULK.map((verb) => ({
  icon: VERBS[verb].icon, text: `${VERBS[verb].text} all that is found…`, danger: VERBS[verb].danger, run: () => askForMany(verb, { filter }, onDone),
}))}>Act on all<${Icon} name="down" /><//>`;
