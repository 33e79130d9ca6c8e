// One queue: its handlers and who takes them, its throughput, its limits.
import { html, useMemo } from "../lib/ui.js";
import { useResource, useLive } from "../lib/resource.js";
import { steerQueue } from "../lib/acts.js";
import { useRates } from "../lib/rates.js";
import { now } from "../lib/clock.js";
import { counted, compact, length, number } from "../lib/format.js";
import { short } from "../lib/text.js";
import { Loaded, Button, Empty, Meter, Note, Pill, RunId, Sheet, Time } from "../parts/basics.js";
import { Chart } from "../parts/chart.js";
import { Table } from "../parts/table.js";
import { QueueState } from "./queues.js";
import { askLimits, limitsOf } from "./queue/limits.js";

const HANDLERS = [
  { name: "Handler", kind: "wide", cell: (line) => html`<span class="mono">${short(line.handler, 100)}</span>` },
  { name: "Ready", kind: "num", cell: (line) => counted(line.ready) },
  { name: "Workers that take it", kind: "num", cell: (line) => (line.workers === 0 && line.ready.count > 0 ? html`<${Pill} tone="bad">nobody<//>` : number(line.workers)) },
];

function History({ name }) {
  const found = useResource("throughput", { queue: name, minutes: 180, width: 2 }, { every: 15_000 });
  const data = useMemo(() => {
    const pieces = (found.data ?? []).slice(0, -1);
    const times = pieces.map((piece) => Date.parse(piece.at) / 1000);
    return [[times, pieces.map((p) => p.completed / 2), pieces.map((p) => p.failed / 2)], [times, pieces.map((p) => p.ready)]];
  }, [found.data]);
  return html`<${Loaded} of=${found} what="The charts">${() => html`<div class="charts">
    <${Chart} title="Throughput" about="steps a minute, the last three hours" format=${compact} data=${data[0]} series=${[{ name: "completed", paint: "--good-fill", filled: true }, { name: "failed", paint: "--bad-fill", dashed: true }]} />
    <${Chart} title="Backlog" about="ready steps" format=${compact} data=${data[1]} series=${[{ name: "ready", paint: "--go-fill", filled: true }]} />
  </div>`}<//>`;
}

function Body({ queue, rates, reload }) {
  const rate = rates(queue.name);
  const verb = queue.paused_at ? "resume" : "pause";
  const limits = limitsOf(queue);
  return html`<div class="stack">
    <div class="run-head"><h2>${queue.name}</h2><${QueueState} queue=${queue} />
      <div class="row push"><a class="button" href=${`/runs?queue=${encodeURIComponent(queue.name)}`}>Its runs</a>
        <${Button} icon="limit" onClick=${() => askLimits(queue, reload)}>Limits…<//>
        <${Button} kind="main" icon=${queue.paused_at ? "play" : "pause"} onClick=${() => steerQueue(queue.name, verb, { after: reload })}>${queue.paused_at ? "Resume" : "Pause"}<//></div>
    </div>
    ${queue.paused_at && html`<${Note} tone="hold" icon="s_paused">Nothing is claimed from this queue. ${queue.paused_by ? `${short(queue.paused_by, 60)} paused it` : "It was paused"} <${Time} at=${queue.paused_at} />; what ran then was let finish.<//>`}
    <div class="tiles">
      <div class="tile"><span class="name">Ready</span><span class="value">${counted(queue.ready)}</span></div>
      <div class="tile"><span class="name">Oldest ready</span><span class="value">${queue.oldest_ready ? length(now.value - Date.parse(queue.oldest_ready.since)) : "none"}</span><span class="about">${queue.oldest_ready && html`<${RunId} id=${queue.oldest_ready.run} />`}</span></div>
      <div class="tile"><span class="name">Running</span><span class="value">${number(queue.running)}</span><span class="about">of ${number(queue.slots)} slots</span></div>
      <div class="tile"><span class="name">Done a second</span><span class="value">${compact(rate.completed)}</span><span class="about">in the last seconds</span></div>
      <div class="tile"><span class="name">Failed a second</span><span class="value">${compact(rate.failed)}</span></div>
      <div class="tile"><span class="name">Limits</span><span class="about">${limits.length ? limits.map((text) => html`<span class="cut" key=${text}>${text}</span>`) : "none"}</span></div>
    </div>
    <${History} name=${queue.name} />
    <${Sheet} title="Handlers" about="what stands in this queue, and how many workers could take it">
      <${Table} label="Handlers" columns=${HANDLERS} rows=${[...queue.handlers].sort((a, b) => b.ready.count - a.ready.count)} rowKey=${(line) => line.handler} empty=${html`<${Empty} icon="queues" title="No step is assigned to this queue" />`} />
    <//>
  </div>`;
}

export function Queue({ name }) {
  const queues = useResource("queues");
  useLive({ topics: ["queues"] }, (topic, data) => topic === "queues" && queues.set(data));
  const rates = useRates(queues.data);
  return html`<${Loaded} of=${queues} what="The queue">${(data) => {
    const queue = data.find((one) => one.name === name);
    return queue ? html`<${Body} queue=${queue} rates=${rates} reload=${queues.reload} />`
      : html`<${Empty} icon="queues" title=${`There is no queue ${short(name, 60)}`} action=${html`<a class="button" href="/queues">All queues</a>`} />`;
  }}<//>`;
}
