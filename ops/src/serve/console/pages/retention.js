// Retention: what the history holds, which policies there are, what they would delete now.
import { html, useState } from "../lib/ui.js";
import { useResource } from "../lib/resource.js";
import { act } from "../lib/acts.js";
import { part } from "../lib/api.js";
import { length, number } from "../lib/format.js";
import { short } from "../lib/text.js";
import { confirm } from "../parts/dialog.js";
import { Loaded, Button, Empty, Note, Pill, Sheet, Time } from "../parts/basics.js";
import { State, RUN_STATES, isFinal } from "../parts/state.js";
import { Table } from "../parts/table.js";

const askDelete = (policy, after) => () => confirm({
  title: `Delete the policy ${short(policy.name, 60)}?`, act: "Delete the policy", danger: true,
  body: html`<p>The runs that it would have deleted stay from now on, unless another policy takes them.</p>`,
  fields: [{ name: "reason", label: "Why", placeholder: "optional", hint: "It stands in the audit." }],
  run: ({ reason }) => act("DELETE", `retention/policies/${part(policy.name)}`, { reason, after, quiet: true, done: `Policy ${short(policy.name, 60)} is deleted` }),
});

const askPut = (policy, after) => confirm({
  title: policy ? `Change ${short(policy.name, 60)}` : "A new policy", act: "Keep the policy",
  body: html`<p class="small soft">Runs that fit all of this are deleted by a chore. Look at the dry run afterwards.</p>`,
  fields: [
    ...(policy ? [] : [{ name: "name", label: "Name" }]),
    { name: "state", label: "State", kind: "select", value: policy?.state ?? "", options: [["", "any final state"], ...RUN_STATES.filter(isFinal).map((state) => [state, state])] },
    { name: "flow", label: "Flow", value: policy?.flow ?? "", placeholder: "all flows" },
    { name: "age", label: "Ended longer ago than", value: policy ? `${Math.round(policy.age_seconds / 3600)}h` : "30d", hint: "As in 30d or 12h." },
    { name: "keep_last", label: "But keep the last of each flow", kind: "number", value: policy?.keep_last ?? 0 },
    { name: "archive", label: "Only once they stand in an archive", kind: "check", value: policy?.archive ?? false },
    { name: "reason", label: "Why", placeholder: "optional", hint: "It stands in the audit." },
  ],
  run: ({ name, state, flow, age, keep_last, archive, reason }) => act("PUT", `retention/policies/${part(policy?.name ?? name)}`, {
    body: { state: state || null, flow: flow || null, age, keep_last: Number(keep_last || 0), archive }, reason, after, quiet: true, done: "The policy is kept",
  }),
});

const policies = (reload) => [
  { name: "Policy", kind: "wide", cell: (one) => html`<span class="strong">${short(one.name, 80)}</span>` },
  { name: "Runs", kind: "fit", cell: (one) => (one.state ? html`<${State} state=${one.state} />` : "all that have ended") },
  { name: "Flow", kind: "fit", at: "at-middle", cell: (one) => (one.flow ? short(one.flow, 60) : html`<span class="quiet">all flows</span>`) },
  { name: "Ended before", kind: "num", cell: (one) => length(one.age_seconds * 1000) },
  { name: "Keeps the last", kind: "num", at: "at-middle", cell: (one) => number(one.keep_last) },
  { name: "Archive", kind: "fit", at: "at-wide", cell: (one) => (one.archive ? html`<${Pill} tone="accent">archived before<//>` : html`<span class="quiet">no</span>`) },
  { name: "What to do", hidden: true, kind: "fit", cell: (one) => html`<div class="acts"><${Button} size="tiny" icon="edit" onClick=${() => askPut(one, reload)} aria-label=${`Change ${short(one.name, 40)}`}>Change…<//><${Button} size="tiny" icon="close" kind="danger" onClick=${askDelete(one, reload)} aria-label=${`Delete ${short(one.name, 40)}`}>Delete…<//></div>` },
];

const AGES = [
  { name: "What", kind: "wide", cell: (one) => html`<span class="strong">${one.kind}</span>${one.estimated && html` <${Pill} title="Estimated from a part">about<//>`}` },
  { name: "In all", kind: "num", cell: (one) => number(one.total) },
  { name: "24 hours", kind: "num", cell: (one) => number(one.last_24h) },
  { name: "7 days", kind: "num", at: "at-middle", cell: (one) => number(one.last_7d) },
  { name: "30 days", kind: "num", at: "at-middle", cell: (one) => number(one.last_30d) },
  { name: "Older", kind: "num", cell: (one) => number(one.older) },
  { name: "Oldest", kind: "num", at: "at-middle", cell: (one) => html`<${Time} at=${one.oldest} />` },
  { name: "Newest", kind: "num", at: "at-wide", cell: (one) => html`<${Time} at=${one.newest} />` },
];

const PLAN = [
  { name: "Policy", kind: "wide", cell: (one) => html`<span class="strong">${short(one.policy, 80)}</span>` },
  { name: "Would delete", kind: "num", cell: (one) => html`${number(one.runs)}${one.complete ? "" : "+"} runs` },
  { name: "Oldest ended", kind: "num", at: "at-middle", cell: (one) => html`<${Time} at=${one.oldest} />` },
  { name: "Newest ended", kind: "num", at: "at-middle", cell: (one) => html`<${Time} at=${one.newest} />` },
];

function DryRun() {
  const [asked, setAsked] = useState(0);
  const found = useResource(asked ? "retention/plan" : null);
  const again = () => (asked ? found.reload() : setAsked(1));
  return html`<${Sheet} title="Dry run" about="what the policies would delete now; nothing is deleted" tools=${html`<${Button} icon="play" onClick=${again}>${asked ? "Look again" : "Look"}<//>`}>
    ${asked ? html`<${Loaded} of=${found} what="The dry run">${(data) => html`<${Table} label="Dry run" columns=${PLAN} rows=${data} rowKey=${(one) => one.policy} empty=${html`<${Empty} icon="done" title="They would delete nothing now" />`} />`}<//>`
      : html`<div class="pad quiet small">It looks at every run that has ended, so it is asked for by hand.</div>`}
  <//>`;
}

export function Retention() {
  const found = useResource("retention");
  return html`<${Loaded} of=${found} what="Retention">${(data) => html`<div class="stack">
    <${Sheet} title="What the history holds"><${Table} label="History by age" columns=${AGES} rows=${data.statistics} rowKey=${(one) => one.kind} empty=${html`<${Empty} icon="retention" title="The history is empty" />`} /><//>
    <${Sheet} title="Policies" about="in the order in which they are applied" tools=${html`<${Button} onClick=${() => askPut(null, found.reload)}>New policy…<//>`}>
      <${Table} label="Policies" columns=${policies(found.reload)} rows=${data.policies} rowKey=${(one) => one.name} empty=${html`<${Empty} icon="retention" title="Nothing is ever deleted">Without a policy the whole history stays: <code>longhaul retention put NAME --age 30d</code>.<//>`} />
    <//>
    ${data.policies.some((one) => one.archive) && html`<${Note} icon="info">Policies that archive are applied by <code>longhaul retention run --archive</code> alone; schedulers leave them to it.<//>`}
    <${DryRun} />
  </div>`}<//>`;
}
