// Queues: how deep, how old, how fast, who takes them.
import { html } from "../lib/ui.js";
import { useResource, useLive } from "../lib/resource.js";
import { steerQueue } from "../lib/acts.js";
import { useRates } from "../lib/rates.js";
import { now } from "../lib/clock.js";
import { counted, length, number, several, compact } from "../lib/format.js";
import { Loaded, Button, Empty, Meter, Pill, Time } from "../parts/basics.js";
import { Table } from "../parts/table.js";
import { State } from "../parts/state.js";
import { limitsOf } from "./queue/limits.js";

/** Whether its breaker keeps it closed. */
const isOpen = (queue) => queue.open_until && Date.parse(queue.open_until) > now.value;

/** The state of a queue, in a word. */
export function QueueState({ queue }) {
  if (queue.paused_at) return html`<${State} state="paused" />`;
  if (isOpen(queue)) return html`<span title="Too many attempts in a row got no answer"><${State} state="lost" name="Closed" more="by its breaker" /></span>`;
  const idle = queue.handlers.filter((line) => line.ready.count > 0 && line.workers === 0);
  if (idle.length) return html`<span title=${`No worker takes ${idle.map((line) => line.handler).join(", ")}`}><${State} state="warning" name="Partly untaken" /></span>`;
  return html`<${State} state="active" />`;
}

const columns = (rates, reload) => [
  { name: "Queue", kind: "wide", cell: (queue) => html`<a class="cut strong" href=${`/queues/${encodeURIComponent(queue.name)}`}>${queue.name}</a>` },
  { name: "State", kind: "fit", cell: (queue) => html`<${QueueState} queue=${queue} />` },
  { name: "Ready", kind: "num", cell: (queue) => counted(queue.ready) },
  { name: "Oldest", kind: "num", at: "at-middle", cell: (queue) => (queue.oldest_ready ? html`<a href=${`/runs/${queue.oldest_ready.run}`} title="The run of the step that has waited longest">${length(now.value - Date.parse(queue.oldest_ready.since))}</a>` : html`<span class="quiet">–</span>`) },
  { name: "Running", kind: "num", at: "at-middle", cell: (queue) => html`<${Meter} used=${queue.running} of=${queue.max_running ?? queue.slots} label=${`${queue.running} run, of ${queue.max_running ? `a limit of ${queue.max_running}` : `${queue.slots} slots`}`} />` },
  { name: "Done / s", kind: "num", at: "at-middle", cell: (queue) => compact(rates(queue.name).completed) },
  { name: "Failed / s", kind: "num", at: "at-wide", cell: (queue) => compact(rates(queue.name).failed) },
  { name: "Limits", kind: "fit", at: "at-wide", cell: (queue) => html`<span class="row">${limitsOf(queue).map((text) => html`<${Pill} key=${text}>${text}<//>`)}</span>` },
  { name: "Workers", kind: "num", at: "at-middle", cell: (queue) => number(queue.workers) },
  { name: "What to do", hidden: true, kind: "fit", cell: (queue) => html`<div class="acts">${queue.paused_at
    ? html`<${Button} size="tiny" icon="play" onClick=${() => steerQueue(queue.name, "resume", { after: reload })} aria-label=${`Resume ${queue.name}`}>Resume<//>`
    : html`<${Button} size="tiny" icon="pause" onClick=${() => steerQueue(queue.name, "pause", { after: reload })} aria-label=${`Pause ${queue.name}`}>Pause<//>`}</div>` },
];

export function Queues() {
  const queues = useResource("queues");
  useLive({ topics: ["queues"] }, (name, data) => name === "queues" && queues.set(data));
  const rates = useRates(queues.data);
  return html`<${Loaded} of=${queues} what="The queues">${(data) => html`<div class="sheet">
    <${Table} label="Queues" columns=${columns(rates, queues.reload)} rows=${data} rowKey=${(queue) => queue.name} href=${(queue) => `/queues/${encodeURIComponent(queue.name)}`}
      empty=${html`<${Empty} icon="queues" title="There are no queues yet">A queue is there as soon as a flow with a step in it is deployed.<//>`} />
  </div><p class="pages">${several(data.length, "queue")}${data.some((queue) => queue.paused_at) ? html`; paused ones since ${data.filter((queue) => queue.paused_at).map((queue) => html`${queue.name} <${Time} at=${queue.paused_at} /> `)}` : ""}</p>`}<//>`;
}
