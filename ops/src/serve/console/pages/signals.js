// Signals: what was sent, and who took it.
import { html } from "../lib/ui.js";
import { useResource } from "../lib/resource.js";
import { place, setQuery, withQuery } from "../lib/router.js";
import { act } from "../lib/acts.js";
import { number } from "../lib/format.js";
import { short } from "../lib/text.js";
import { confirm } from "../parts/dialog.js";
import { Loaded, Button, Empty, RunId, Text, Time } from "../parts/basics.js";
import { Icon } from "../parts/icons.js";
import { State } from "../parts/state.js";
import { Table } from "../parts/table.js";

const COLUMNS = [
  { name: "Topic", kind: "half", cell: (signal) => html`<span class="strong"><${Text} value=${signal.topic} most=${120} /></span>` },
  { name: "To", kind: "fit", cell: (signal) => (signal.run ? html`<${RunId} id=${signal.run} />` : html`<span class="mono">${short(signal.key, 60)}</span>`) },
  { name: "Payload", kind: "half", at: "at-middle", cell: (signal) => html`<span class="mono quiet"><${Text} value=${JSON.stringify(signal.payload)} most=${200} /></span>` },
  { name: "Taken", kind: "fit", cell: (signal) => (signal.consumed_at ? html`<${State} state="completed" name="Taken" more=${html`by <${RunId} id=${signal.consumed_by} />`} />` : html`<span title="Nobody has taken it yet"><${State} state="waiting" name="Not taken" /></span>`) },
  { name: "By", kind: "fit", at: "at-wide", cell: (signal) => html`<${Text} value=${signal.sent_by} most=${40} />` },
  { name: "Sent", kind: "num", cell: (signal) => html`<${Time} at=${signal.sent_at} />` },
];

const askSend = (after) => confirm({
  title: "Send a signal", act: "Send the signal",
  fields: [
    { name: "topic", label: "Topic" },
    { name: "to", label: "To", hint: "The id of a run, or a key: then one waiter gets it, now or later." },
    { name: "payload", label: "Payload", kind: "json", value: "{}", hint: "JSON" },
  ],
  run: ({ topic, to, payload }) => act("POST", "signals", {
    body: { topic, [/^[0-9a-f-]{36}$/i.test(to) ? "run" : "key"]: to, payload: JSON.parse(payload) }, quiet: true, after, done: `A signal on ${short(topic, 60)} is sent`,
  }),
});

export function Signals() {
  const query = place.value.query;
  const waiting = query.get("waiting") === "true";
  const [topic, key, after] = ["topic", "key", "after"].map((name) => query.get(name));
  const found = useResource("signals", { topic, key, after, waiting: waiting || null, limit: 50 }, { every: after ? undefined : 5000 });
  return html`<div class="stack tight">
    <form class="filters" role="search" onSubmit=${(event) => { event.preventDefault(); const form = new FormData(event.target); setQuery({ topic: form.get("topic"), key: form.get("key"), after: null }); }}>
      <input type="search" class="field" name="topic" placeholder="Topic" aria-label="Topic" defaultValue=${topic ?? ""} />
      <input type="search" class="field" name="key" placeholder="Key" aria-label="Key" defaultValue=${key ?? ""} />
      <button type="submit" class="button">Filter</button>
      <label class="check"><input type="checkbox" checked=${waiting} onChange=${(event) => setQuery({ waiting: event.target.checked ? "true" : null, after: null })} />only those that nobody has taken</label>
      <div class="push"><${Button} icon="send" onClick=${() => askSend(found.reload)}>Send a signal…<//></div>
    </form>
    <${Loaded} of=${found} what="The signals">${(data) => html`<div class="sheet">
      <${Table} label="Signals" columns=${COLUMNS} rows=${data.signals} rowKey=${(signal) => signal.id}
        empty=${html`<${Empty} icon="signals" title=${topic || key || waiting ? "No signal fits these filters" : "No signal has been sent"}>Signals tell waiting runs that something has happened: <code>longhaul signal RUN TOPIC</code>.<//>`} />
    </div>
    <nav class="pages" aria-label="Pages of the list">${after && html`<a class="button" href=${withQuery({ after: null })}><${Icon} name="back" />Newest</a>`}<span>${number(data.signals.length)} shown, the newest first</span>${data.next && html`<a class="button push" href=${withQuery({ after: data.next })}>Older<${Icon} name="next" /></a>`}</nav>`}<//>
  </div>`;
}
