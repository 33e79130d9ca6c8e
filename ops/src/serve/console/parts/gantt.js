// Attempts over time: waiting for a worker, running, waiting to be tried again, and waiting for something are told apart.
import { html, classes, useState } from "../lib/ui.js";
import { now } from "../lib/clock.js";
import { length } from "../lib/format.js";
import { short } from "../lib/text.js";
import { Button } from "./basics.js";
import { StateIcon, tone, word } from "./state.js";
import { linesOf } from "./gantt/lines.js";
import { scaleOf } from "./gantt/scale.js";

const MOST = 120;
const BARS = { queue: "queue", backoff: "backoff", wait: "wait" };

const Key = ({ kind, children }) => html`<span><i aria-hidden="true"><b class=${classes("bar", kind)}></b></i>${children}</span>`;

const spoken = (line) => `${short(line.name, 60)}${line.items ? ` ${line.items}` : ""}, ${word(line.state)}: ${line.items ? `${line.items} items` : line.pieces.map((piece) => piece.text).join(", ") || "nothing yet"}`;

function Bar({ piece, scale }) {
  const left = scale.place(piece.from);
  const style = { left: `${left}%`, width: `${Math.max(0, scale.place(piece.to) - left)}%` };
  if (piece.lane != null) Object.assign(style, { top: `${3 + piece.lane * 5}px`, height: "4px" });
  return html`<span class=${classes("bar", BARS[piece.kind] ?? tone(piece.kind))} style=${style} title=${piece.text}></span>`;
}

/** All attempts of a run. */
export function Gantt({ run, steps, attempts, graph, chosen, onChoose }) {
  const [folds, setFolds] = useState(true);
  const created = Date.parse(run.created_at);
  const began = run.start_at ? Math.max(created, Date.parse(run.start_at)) : created;
  const end = run.ended_at ? Date.parse(run.ended_at) : Math.max(now.value, began + 1000);
  const all = linesOf({ steps, attempts, graph, began, end });
  const lines = all.slice(0, MOST);
  const scale = scaleOf(began, end, all.flatMap((line) => line.pieces.filter((piece) => piece.runs)), folds);
  return html`<div class="gantt">
    <div class="axis" aria-hidden="true">
      ${scale.ticks.map(({ at, time }) => html`<span key=${time} class=${at > 95 ? "last" : at < 2 ? "first" : undefined} style=${{ left: `${at}%` }}>${time ? `+${length(time)}` : "start"}</span>`)}
      ${scale.folds.map((fold) => html`<span key=${fold.left} class=${classes("folded-time", fold.left + fold.width > 97 && "last")} style=${{ left: `${fold.left + fold.width > 97 ? 99.5 : fold.left + fold.width / 2}%` }}>${length(fold.length)}</span>`)}
    </div>
    <div class="lines">
      <div class="ground" aria-hidden="true">
        ${scale.ticks.map(({ at, time }) => html`<i key=${time} style=${{ left: `${at}%` }}></i>`)}
        ${scale.folds.map((fold) => html`<b key=${fold.left} style=${{ left: `${fold.left}%`, width: `${fold.width}%` }}></b>`)}
      </div>
      ${lines.map((line) => html`<button type="button" class="bars-row" key=${line.name} aria-pressed=${String(chosen === line.name)} onClick=${() => onChoose(line.name)} aria-label=${spoken(line)}>
        <span class="label"><${StateIcon} state=${line.state} silent /><span class="cut">${short(line.name, 60)}</span>${line.items && html` <span class="quiet num">${line.items}</span>`}</span>
        <span class="track">${line.pieces.map((piece, index) => html`<${Bar} key=${index} piece=${piece} scale=${scale} />`)}</span>
      </button>`)}
    </div>
    ${all.length > MOST && html`<p class="gantt-key">The first ${MOST} lines of ${all.length} are shown.</p>`}
    <div class="gantt-key" aria-label="What the bars mean"><${Key} kind="queue">waits for a worker<//><${Key} kind="go">runs<//><${Key} kind="good">completed<//><${Key} kind="bad">failed attempt<//><${Key} kind="backoff">waits to be tried again<//><${Key} kind="wait">waits for a signal, a person, a time<//>
      ${(scale.folds.length > 0 || !folds) && html`<${Button} size="tiny" pressed=${folds} onClick=${() => setFolds(!folds)} title="Long stretches in which nothing runs">Idle time is folded<//>`}</div>
  </div>`;
}
