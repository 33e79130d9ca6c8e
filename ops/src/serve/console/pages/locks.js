// Named locks: who holds them, until when.
import { html } from "../lib/ui.js";
import { useResource, useLive } from "../lib/resource.js";
import { place, setQuery } from "../lib/router.js";
import { act } from "../lib/acts.js";
import { number, several } from "../lib/format.js";
import { short } from "../lib/text.js";
import { confirm } from "../parts/dialog.js";
import { Loaded, Button, Empty, Lasted, Sheet, Text, Time, Pill } from "../parts/basics.js";
import { Table } from "../parts/table.js";

const askRelease = (lock, after) => () => confirm({
  title: `Take ${short(lock.name, 60)} from its holder?`, act: "Release the lock", danger: true,
  body: html`<p><b>${short(lock.holder, 80)}</b> holds it and may still be at work. Whoever checks the fencing token is safe; whoever does not may work at the same time as the next holder. It cannot be undone.</p>`,
  fields: [{ name: "reason", label: "Why", placeholder: "optional", hint: "It stands in the audit." }],
  run: ({ reason }) => act("POST", "locks/release", { body: { name: lock.name }, reason, after, quiet: true, done: `Lock ${short(lock.name, 60)} is released` }),
});

const columns = (reload) => [
  { name: "Lock", kind: "wide", cell: (lock) => html`<span class="strong"><${Text} value=${lock.name} /></span>` },
  { name: "State", kind: "fit", cell: (lock) => (lock.held ? html`<${Pill} tone="go">held<//>` : html`<${Pill}>free<//>`) },
  { name: "Holder", kind: "fit", cell: (lock) => html`<${Text} value=${lock.holder} most=${60} />` },
  { name: "Held for", kind: "num", at: "at-middle", cell: (lock) => (lock.held ? html`<${Lasted} from=${lock.acquired_at} />` : "–") },
  { name: "Ends by itself", kind: "num", at: "at-middle", cell: (lock) => html`<${Time} at=${lock.held ? lock.expires_at : null} />` },
  { name: "Taken", kind: "num", at: "at-wide", cell: (lock) => number(lock.acquired) },
  { name: "Found taken", kind: "num", at: "at-wide", cell: (lock) => number(lock.blocked) },
  { name: "Expired", kind: "num", at: "at-wide", cell: (lock) => number(lock.expired) },
  { name: "Token", kind: "num", at: "at-wide", cell: (lock) => html`<span class="mono">${lock.token}</span>` },
  { name: "What to do", hidden: true, kind: "fit", cell: (lock) => lock.held && html`<div class="acts"><${Button} size="tiny" icon="close" kind="danger" onClick=${askRelease(lock, reload)} aria-label=${`Release ${short(lock.name, 40)}`}>Release…<//></div>` },
];

export function Locks() {
  const every = place.value.query.get("all") === "true";
  const found = useResource("locks", { all: every || null }, { every: every ? 5000 : undefined });
  useLive(every ? null : { topics: ["locks"] }, (name, data) => name === "locks" && found.set(data));
  return html`<${Loaded} of=${found} what="The locks">${(data) => html`<${Sheet} title="Locks" about=${several(data.filter((lock) => lock.held).length, "is held", "are held")}
    tools=${html`<label class="check"><input type="checkbox" checked=${every} onChange=${(event) => setQuery({ all: event.target.checked ? "true" : null })} />free ones as well</label>`}>
    <${Table} label="Locks" columns=${columns(found.reload)} rows=${data} rowKey=${(lock) => lock.name} empty=${html`<${Empty} icon="locks" title="No lock is held">Programs take locks by name, for a time, and are given a fencing token.<//>`} />
  <//>`}<//>`;
}
