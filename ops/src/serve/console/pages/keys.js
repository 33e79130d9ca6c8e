// Keys of bounded concurrency, and who waits at them.
import { html } from "../lib/ui.js";
import { useResource } from "../lib/resource.js";
import { place, setQuery, withQuery } from "../lib/router.js";
import { counted, number } from "../lib/format.js";
import { short } from "../lib/text.js";
import { Loaded, Empty, Meter, RunId, Sheet, Text, Time } from "../parts/basics.js";
import { Icon } from "../parts/icons.js";
import { Table } from "../parts/table.js";

const COLUMNS = [
  { name: "Limit", kind: "fit", cell: (one) => html`<span class="strong"><${Text} value=${one.name} most=${60} /></span>` },
  { name: "Key", kind: "wide", cell: (one) => html`<button type="button" class="button plain tiny" onClick=${() => setQuery({ name: one.name, key: one.key, open: "true" })}><${Text} value=${one.key} most=${120} fallback="one for all" /></button>` },
  { name: "In use", kind: "fit", cell: (one) => html`<${Meter} used=${one.used} of=${one.most} />` },
  { name: "Wait for their turn", kind: "num", cell: (one) => counted(one.queued) },
];

const WAITING = [
  { name: "Run", kind: "fit", cell: (one) => html`<${RunId} id=${one.run} />` },
  { name: "Step", kind: "wide", cell: (one) => html`<${Text} value=${one.step} most=${80} />` },
  { name: "Priority", kind: "num", cell: (one) => number(one.priority) },
  { name: "Since", kind: "num", cell: (one) => html`<${Time} at=${one.since} />` },
];

function Queue({ name, of }) {
  const found = useResource("limits/queue", { name, key: of, limit: 100 }, { every: 3000 });
  return html`<${Sheet} title=${`At ${short(name, 40)} ${short(of, 60)}`} about="the next one first" tools=${html`<a class="button tiny" href=${withQuery({ open: null, key: null, name: null })}>Close</a>`}>
    <${Loaded} of=${found} what="The queue of the key">${(data) => html`<${Table} label="Steps that wait at the key" columns=${WAITING} rows=${data} rowKey=${(one) => `${one.run}/${one.step}`} href=${(one) => `/runs/${one.run}?step=${encodeURIComponent(one.step)}`} empty=${html`<${Empty} icon="keys" title="Nobody waits at this key" />`} />`}<//>
  <//>`;
}

export function Keys() {
  const query = place.value.query;
  const [name, key] = [query.get("name"), query.get("key") ?? ""];
  const after = { after_name: query.get("after_name"), after_key: query.get("after_key") };
  const found = useResource("limits", { ...after, limit: 100 }, { every: 3000 });
  return html`<div class="stack">
    ${query.get("open") && html`<${Queue} name=${name} of=${key} />`}
    <${Loaded} of=${found} what="The keys">${(data) => html`<div class="sheet">
      <${Table} label="Keys" columns=${COLUMNS} rows=${data.keys} rowKey=${(one) => `${one.name}/${one.key}`} href=${(one) => withQuery({ name: one.name, key: one.key, open: "true" })}
        empty=${html`<${Empty} icon="keys" title="No key is in use">Steps with <code>concurrency</code> share a key: so many at once, the others in their turn.<//>`} />
    </div>
    <nav class="pages" aria-label="Pages of the list">${after.after_name && html`<a class="button" href=${withQuery({ after_name: null, after_key: null })}><${Icon} name="back" />First</a>`}<span>${number(data.keys.length)} shown; a key that nobody uses is forgotten</span>${data.next && html`<a class="button push" href=${withQuery(data.next)}>More<${Icon} name="next" /></a>`}</nav>`}<//>
  </div>`;
}
