// Workers: what they take, what they run; draining.
import { html } from "../lib/ui.js";
import { useResource, useLive } from "../lib/resource.js";
import { place, setQuery } from "../lib/router.js";
import { act } from "../lib/acts.js";
import { number, several } from "../lib/format.js";
import { short } from "../lib/text.js";
import { confirm } from "../parts/dialog.js";
import { Loaded, Button, Copy, Empty, Lasted, Pill, RunId, Sheet, Text, Time } from "../parts/basics.js";
import { State } from "../parts/state.js";
import { Table } from "../parts/table.js";

const askDrain = (worker, after) => () => confirm({
  title: `Drain ${short(worker.name, 60)}?`, act: "Drain the worker", danger: true,
  body: html`<p>It claims no more, finishes the ${several(worker.holds, "step")} that it has, however long they take, and ends. What starts workers may start it again.</p>`,
  fields: [{ name: "reason", label: "Why", placeholder: "optional", hint: "It stands in the audit." }],
  run: ({ reason }) => act("POST", `workers/${worker.id}/drain`, { reason, after, quiet: true, done: `${short(worker.name, 60)} is draining` }),
});

const columns = (reload) => [
  { name: "Worker", kind: "wide", cell: (worker) => html`<span class="strong"><${Text} value=${worker.name} most=${80} /></span><span class="under">${short(worker.host, 60)}, process ${worker.pid}</span>` },
  { name: "State", kind: "fit", cell: (worker) => html`<${State} state=${worker.state} />` },
  { name: "Holds", kind: "num", cell: (worker) => number(worker.holds) },
  { name: "Queues", kind: "fit", at: "at-middle", cell: (worker) => html`<span class="row">${worker.queues.map((name) => html`<a key=${name} href=${`/queues/${encodeURIComponent(name)}`}><${Pill}>${name}<//></a>`)}</span>` },
  { name: "Handlers", kind: "num", at: "at-wide", cell: (worker) => html`<span title=${worker.handlers.join("\n")}>${number(worker.handlers.length)}</span>` },
  { name: "Up for", kind: "num", at: "at-middle", cell: (worker) => html`<${Lasted} from=${worker.started_at} to=${worker.state === "gone" || worker.state === "lost" ? worker.heartbeat_at : null} />` },
  { name: "Heartbeat", kind: "num", at: "at-middle", cell: (worker) => html`<${Time} at=${worker.heartbeat_at} />` },
  { name: "Id", kind: "fit", at: "at-wide", cell: (worker) => html`<span class="id">${worker.id}<${Copy} value=${String(worker.id)} what="id of the worker" /></span>` },
  { name: "What to do", hidden: true, kind: "fit", cell: (worker) => worker.state === "active" && html`<div class="acts"><${Button} size="tiny" icon="drain" onClick=${askDrain(worker, reload)} aria-label=${`Drain ${short(worker.name, 40)}`}>Drain…<//></div>` },
];

const LEASES = [
  { name: "Run", kind: "fit", cell: (lease) => html`<${RunId} id=${lease.run} />` },
  { name: "Step", kind: "wide", cell: (lease) => html`<${Text} value=${lease.step} most=${80} />` },
  { name: "Attempt", kind: "num", at: "at-middle", cell: (lease) => number(lease.attempt) },
  { name: "Worker", kind: "fit", at: "at-middle", cell: (lease) => html`<${Text} value=${lease.worker_name ?? String(lease.worker)} most=${40} />` },
  { name: "For", kind: "num", cell: (lease) => html`<${Lasted} from=${lease.claimed_at} />` },
];

export function Workers() {
  const every = place.value.query.get("all") === "true";
  const found = useResource("workers", { all: every || null }, { every: every ? 5000 : undefined });
  const leases = useResource("leases", { limit: 50 }, { every: 2000 });
  useLive(every ? null : { topics: ["workers"] }, (name, data) => name === "workers" && found.set(data));
  return html`<div class="stack">
    <${Loaded} of=${found} what="The workers">${(data) => html`<${Sheet} title="Workers" about=${`${number(data.filter((worker) => worker.state === "active").length)} active, ${several(data.reduce((sum, worker) => sum + worker.holds, 0), "step")} held`}
      tools=${html`<label class="check"><input type="checkbox" checked=${every} onChange=${(event) => setQuery({ all: event.target.checked ? "true" : null })} />those that left as well</label>`}>
      <${Table} label="Workers" columns=${columns(found.reload)} rows=${data} rowKey=${(worker) => worker.id}
        empty=${html`<${Empty} icon="workers" title="No worker lives">Steps wait until one comes: <code>longhaul worker</code>, or a program of yours.<//>`} />
    <//>`}<//>
    <${Loaded} of=${leases} what="The steps in flight">${(data) => html`<${Sheet} title="Steps in flight" about="the longest first, 50 at most">
      <${Table} label="Steps in flight" columns=${LEASES} rows=${data} rowKey=${(lease) => `${lease.run}/${lease.step}/${lease.attempt}`} href=${(lease) => `/runs/${lease.run}?step=${encodeURIComponent(lease.step)}`} empty=${html`<${Empty} icon="workers" title="Nothing runs at this moment" />`} />
    <//>`}<//>
  </div>`;
}
