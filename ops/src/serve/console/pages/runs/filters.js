// The filters of the list of runs. Each stands in the address.
import { html, useState, useEffect, useRef } from "../../lib/ui.js";
import { setQuery, withQuery, go } from "../../lib/router.js";
import { useResource } from "../../lib/resource.js";
import { short } from "../../lib/text.js";
import { exact } from "../../lib/format.js";
import { Icon } from "../../parts/icons.js";
import { Button } from "../../parts/basics.js";

const anywhere = (text) => (text.includes("%") ? text : `%${text}%`);
const hours = (count) => new Date(Date.now() - count * 3_600_000).toISOString();
/** Rounded down, so that the same choice is the same address of the API for a while. */
const since = (text) => (/^\d+h$/.test(text) ? `${hours(parseInt(text, 10)).slice(0, 16)}:00Z` : text);

/** Names in the address, what the API calls them, and how they are shown. */
export const FILTERS = [
  { name: "state" },
  { name: "name", label: "name has", value: anywhere },
  { name: "id", label: "id begins with" },
  { name: "flow", label: "flow" },
  { name: "version", label: "version" },
  { name: "queue", label: "queue" },
  { name: "error", label: "error has" },
  { name: "key", label: "unique key" },
  { name: "metadata", label: "metadata has" },
  { name: "parent", label: "children of" },
  { name: "since", label: "since", api: "started_after", value: since },
  { name: "until", label: "until", api: "started_before" },
  { name: "dismissed", label: "with dismissed ones" },
];

const LIKE_ID = /^(?=.*\d)[0-9a-f]{4,8}(-[0-9a-f-]*)?$/i;
const SINCE = [["", "at any time"], ["1h", "in the last hour"], ["24h", "in the last 24 hours"], ["168h", "in the last 7 days"]];

/** What is written into the one field is sorted: an id, word:value, or a part of a name. */
const sorted = (text) => {
  const found = {};
  const rest = text.replace(/(\w+):("[^"]*"|\S+)/g, (whole, name, value) => {
    if (!FILTERS.some((filter) => filter.name === name)) return whole;
    found[name] = value.replace(/^"|"$/g, "");
    return "";
  }).trim();
  if (rest) found[LIKE_ID.test(rest) ? "id" : "name"] = rest;
  return found;
};

function Search({ query }) {
  const written = query.get("name") ?? query.get("id") ?? "";
  const [text, setText] = useState(written);
  const timer = useRef();
  useEffect(() => setText(written), [written]);
  const search = (value) => setQuery({ name: null, id: null, ...sorted(value), after: null }, { replace: true });
  const write = (event) => {
    setText(event.target.value);
    clearTimeout(timer.current);
    // word:value is sorted when it is finished, by Enter.
    if (!/\w:\S*$/.test(event.target.value)) timer.current = setTimeout(() => search(event.target.value), 300);
  };
  const submit = (event) => {
    event.preventDefault();
    clearTimeout(timer.current);
    search(text);
  };
  return html`<form role="search" class="grow" onSubmit=${submit}>
    <input type="search" class="field" aria-label="Search runs by name, id, or word:value" placeholder="Name, id, or error:timeout flow:shop.order …" value=${text} onInput=${write} />
  </form>`;
}

const shown = (name, value) => {
  if (name === "since" && /^\d+h$/.test(value)) return SINCE.find(([of]) => of === value)?.[1].replace("in the ", "") ?? value;
  if ((name === "since" || name === "until") && !Number.isNaN(Date.parse(value))) return exact(value);
  return name === "dismissed" ? "" : short(value, 60);
};

function More({ query, onDone }) {
  const fields = ["error", "key", "metadata", "version", "parent"];
  const [values, setValues] = useState(() => Object.fromEntries(fields.map((name) => [name, query.get(name) ?? ""])));
  const submit = (event) => {
    event.preventDefault();
    setQuery({ ...values, after: null });
    onDone();
  };
  const HINTS = { error: "a part of the message", key: "of a unique start", metadata: '{"customer": "c-7"}', version: "2", parent: "id of the run" };
  return html`<form class="filters" onSubmit=${submit} aria-label="More filters">
    ${fields.map((name) => html`<label class="label" key=${name}><span>${FILTERS.find((filter) => filter.name === name).label}</span>
      <input class="field" value=${values[name]} placeholder=${HINTS[name]} onInput=${(event) => setValues({ ...values, [name]: event.target.value })} /></label>`)}
    <label class="check"><input type="checkbox" checked=${query.get("dismissed") === "true"} onChange=${(event) => setQuery({ dismissed: event.target.checked ? "true" : null, after: null })} />dismissed ones as well</label>
    <button type="submit" class="button main">Filter</button>
  </form>`;
}

/** The row of filters, and those that are set. */
export function Filters({ query }) {
  const [more, setMore] = useState(false);
  const flows = useResource("flows");
  const queues = useResource("queues");
  const names = [...new Set((flows.data ?? []).map((flow) => flow.name))];
  const set = FILTERS.filter(({ name, label }) => label && query.get(name) && !["name", "id", "flow", "queue", "since"].includes(name));
  const choose = (name) => (event) => setQuery({ [name]: event.target.value, after: null });
  return html`<div class="stack tight">
    <div class="filters">
      <${Search} query=${query} />
      <select class="field" aria-label="Flow" value=${query.get("flow") ?? ""} onChange=${choose("flow")}><option value="">all flows</option>${names.map((name) => html`<option value=${name}>${name}</option>`)}</select>
      <select class="field" aria-label="Queue" value=${query.get("queue") ?? ""} onChange=${choose("queue")}><option value="">all queues</option>${(queues.data ?? []).map((queue) => html`<option value=${queue.name}>${queue.name}</option>`)}</select>
      <select class="field" aria-label="Started" value=${query.get("since") ?? ""} onChange=${choose("since")}>${SINCE.map(([value, text]) => html`<option value=${value}>${text}</option>`)}</select>
      <${Button} icon="filter" pressed=${more} onClick=${() => setMore(!more)} aria-expanded=${String(more)}>More<//>
    </div>
    ${more && html`<${More} query=${query} onDone=${() => setMore(false)} />`}
    ${set.length > 0 && html`<div class="chips">${set.map(({ name, label }) => html`<span class="chip" key=${name}><b>${label}</b> <bdi class="cut">${shown(name, query.get(name))}</bdi>
      <button type="button" class="copy" aria-label=${`Take away: ${label}`} onClick=${() => go(withQuery({ [name]: null, after: null }))}><${Icon} name="close" /></button></span>`)}
      <a class="small" href="/runs">take all away</a></div>`}
  </div>`;
}
