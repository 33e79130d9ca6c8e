// Flows and their versions.
import { html } from "../lib/ui.js";
import { useResource } from "../lib/resource.js";
import { number, several } from "../lib/format.js";
import { short } from "../lib/text.js";
import { Loaded, Empty, Time } from "../parts/basics.js";
import { Table } from "../parts/table.js";

const COLUMNS = [
  { name: "Flow", kind: "wide", cell: (flow) => html`<a class="strong cut" href=${`/flows/${encodeURIComponent(flow.name)}`}>${short(flow.name, 100)}</a>` },
  { name: "Latest", kind: "num", cell: (flow) => `v${flow.version}` },
  { name: "Versions", kind: "num", at: "at-middle", cell: (flow) => number(flow.versions) },
  { name: "Steps", kind: "num", cell: (flow) => number(flow.steps) },
  { name: "Deployed", kind: "num", cell: (flow) => html`<${Time} at=${flow.deployed_at} />` },
  { name: "Its runs", hidden: true, kind: "fit", at: "at-middle", cell: (flow) => html`<a class="button tiny" href=${`/runs?flow=${encodeURIComponent(flow.name)}`}>Runs</a>` },
];

/** The latest version of each, with how many there are. */
const latest = (versions) => {
  const flows = new Map();
  for (const one of versions) flows.set(one.name, { ...one, versions: (flows.get(one.name)?.versions ?? 0) + 1 });
  return [...flows.values()];
};

export function Flows() {
  const found = useResource("flows", {}, { every: 15_000 });
  return html`<${Loaded} of=${found} what="The flows">${(data) => html`<div class="sheet">
    <${Table} label="Flows" columns=${COLUMNS} rows=${latest(data)} rowKey=${(flow) => flow.name} href=${(flow) => `/flows/${encodeURIComponent(flow.name)}`}
      empty=${html`<${Empty} icon="flows" title="No flow has been deployed">A flow is a file that says which steps there are: <code>longhaul flow deploy FILE</code>.<//>`} />
  </div><p class="pages">${several(latest(data).length, "flow")}</p>`}<//>`;
}
