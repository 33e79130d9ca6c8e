// Steps that used up their attempts, grouped by what they died of.
import { html, useEffect, useState } from "../lib/ui.js";
import { useResource, useLive } from "../lib/resource.js";
import { place, setQuery } from "../lib/router.js";
import { act } from "../lib/acts.js";
import { send } from "../lib/api.js";
import { number, several } from "../lib/format.js";
import { middle, plain, short } from "../lib/text.js";
import { confirm } from "../parts/dialog.js";
import { Loaded, Bones, Button, Empty, RunId, Text, Time } from "../parts/basics.js";
import { Icon } from "../parts/icons.js";

/** A pattern that only this text fits. Long ones are cut: the beginning tells them apart. */
const exactly = (text) => {
  const pattern = text.slice(0, 1000).replace(/[\\%_]/g, "\\$&");
  return text.length > 1000 ? `${pattern}%` : pattern;
};

const filterOf = (group) => ({ flow: group.flow, step: group.step, ...(group.message != null ? { message: exactly(group.message) } : {}) });

const VERBS = {
  retry: { text: "Retry", done: (count) => `${several(count, "run is", "runs are")} being retried`, about: "Each run goes on from the step that failed, with new attempts." },
  discard: { text: "Discard", done: (count) => `${several(count, "dead letter is", "dead letters are")} off the list`, about: "They go off this list. Their runs stay failed. It cannot be undone.", danger: true },
};

function Preview({ verb, group, setReady }) {
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    send("POST", `dead-letters/${verb}`, { body: { ...filterOf(group), limit: 10_000, dry_run: true } }).then((answer) => {
      setFound(answer);
      setReady(answer.count > 0);
    }, setError);
  }, []);
  if (error) return html`<div class="note bad" role="alert"><div class="words"><b>${plain(error.title)}</b><div class="small">${plain(error.message)}</div></div></div>`;
  if (!found) return html`<${Bones} lines=${3} />`;
  return html`<p><b>${several(found.count, "dead letter")}</b> of ${short(group.flow, 40)} / ${short(group.step, 40)} with this error:</p>
    <p class="small soft text">${short(group.message, 300)}</p>
    <div class="hits pad" tabindex="0" role="region" aria-label="Their runs"><span class="row wrap">${found.runs.slice(0, 60).map((id) => html`<span class="mono small" key=${id} title=${id}>${middle(id, 8, 6)}</span>`)}</span></div>
    <p class="small soft">${VERBS[verb].about}</p>`;
}

const ask = (verb, group, reload) => () => confirm({
  title: `${VERBS[verb].text} ${several(group.count, "dead letter")}`, act: `${VERBS[verb].text} them`, danger: VERBS[verb].danger, ready: false, wide: true,
  fields: [{ name: "reason", label: "Why", placeholder: "optional", hint: "It stands in the audit." }],
  body: ({ setReady }) => html`<${Preview} verb=${verb} group=${group} setReady=${setReady} />`,
  run: ({ reason }) => act("POST", `dead-letters/${verb}`, { body: { ...filterOf(group), limit: 10_000 }, reason, quiet: true, after: reload, done: (answer) => VERBS[verb].done(answer.count) }),
});

function Group({ group, reload, open }) {
  return html`<section class="sheet" aria-label=${`${group.count} of ${short(group.flow, 40)} / ${short(group.step, 40)}: ${short(group.message, 80)}`}>
    <header>
      <${Icon} name="s_failed" tone="bad" /><h2 class="num">${number(group.count)}</h2>
      <span class="strong">${short(group.flow, 60)} <span class="quiet">/</span> ${short(group.step, 60)}</span>
      <span class="quiet at-middle">${group.handler ? short(group.handler, 60) : ""}</span>
      <span class="quiet">${group.count > 1 ? html`first <${Time} at=${group.first} />, last <${Time} at=${group.last} />` : html`<${Time} at=${group.last} />`}</span>
      <div class="row push"><${Button} icon="retry" onClick=${ask("retry", group, reload)}>Retry…<//><${Button} kind="danger" onClick=${ask("discard", group, reload)}>Discard…<//></div>
    </header>
    <div class="pad stack tight"><p class="mono text">${short(group.message ?? "no message", open ? 2000 : 300)}</p>
      <div class="row wrap small"><span class="quiet">for example</span>${group.runs.slice(0, 5).map((id) => html`<${RunId} key=${id} id=${id} />`)}</div></div>
  </section>`;
}

export function DeadLetters() {
  const query = place.value.query;
  const flow = query.get("flow") ?? "";
  const found = useResource("dead-letters/groups");
  useLive({ topics: ["dead-letters"] }, (name, data) => name === "dead-letters" && found.set(data));
  return html`<${Loaded} of=${found} what="The dead letters">${(data) => {
    const flows = [...new Set(data.map((group) => group.flow))].sort();
    const text = (query.get("error") ?? "").toLowerCase();
    const shown = data.filter((group) => (!flow || group.flow === flow) && (!text || (group.message ?? "").toLowerCase().includes(text)));
    const total = shown.reduce((sum, group) => sum + group.count, 0);
    return html`<div class="stack">
      <div class="filters">
        <input type="search" class="field grow" placeholder="A part of the error" aria-label="A part of the error" value=${query.get("error") ?? ""} onInput=${(event) => setQuery({ error: event.target.value }, { replace: true })} />
        <select class="field" aria-label="Flow" value=${flow} onChange=${(event) => setQuery({ flow: event.target.value })}><option value="">all flows</option>${flows.map((name) => html`<option value=${name}>${name}</option>`)}</select>
        <span class="quiet small push num">${several(total, "dead letter")} in ${several(shown.length, "group")}</span>
      </div>
      ${shown.length ? shown.map((group) => html`<${Group} key=${`${group.flow}/${group.step}/${group.message}`} group=${group} reload=${found.reload} open=${shown.length === 1} />`)
        : html`<div class="sheet"><${Empty} icon="done" title=${data.length ? "No group fits" : "There are no dead letters"}>A step that has used up its attempts lies here until somebody retries or discards it.<//></div>`}
      ${shown.length > 0 && html`<p class="pages"><${Text} value="Grouped by flow, step and error, the most frequent first; of the oldest 10,000." /></p>`}
    </div>`;
  }}<//>`;
}
