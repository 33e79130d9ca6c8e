// The runs that a run has started.
import { html } from "../../lib/ui.js";
import { useResource } from "../../lib/resource.js";
import { Loaded, RunId, Time, Lasted, Text, Empty } from "../../parts/basics.js";
import { Table } from "../../parts/table.js";
import { State } from "../../parts/state.js";

const COLUMNS = [
  { name: "State", kind: "fit", cell: (run) => html`<${State} state=${run.state} />` },
  { name: "Run", kind: "wide", cell: (run) => html`<${Text} value=${run.name ?? run.flow} />` },
  { name: "Id", kind: "fit", cell: (run) => html`<${RunId} id=${run.id} />` },
  { name: "Lasted", kind: "num", at: "at-middle", cell: (run) => html`<${Lasted} from=${run.created_at} to=${run.ended_at} />` },
  { name: "Started", kind: "num", cell: (run) => html`<${Time} at=${run.created_at} />` },
];

export function Children({ id }) {
  const found = useResource("runs", { parent: id, limit: 200 }, { every: 5000 });
  return html`<${Loaded} of=${found} what="The children">${({ runs }) => html`<div class="sheet">
    <${Table} label="Children" columns=${COLUMNS} rows=${runs} rowKey=${(run) => run.id} href=${(run) => `/runs/${run.id}`}
      empty=${html`<${Empty} icon="flows" title="This run has started no others">Steps of the kind “flow” start child runs.<//>`} />
  </div>`}<//>`;
}
