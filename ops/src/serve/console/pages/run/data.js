// What went into a run and what came out of it.
import { html } from "../../lib/ui.js";
import { Json } from "../../parts/json.js";
import { Sheet } from "../../parts/basics.js";

export const Data = ({ run }) => html`<div class="charts">
  <${Sheet} title="Input" pad><${Json} value=${run.input} label="input" /><//>
  <${Sheet} title="Output" pad>${run.state === "completed" ? html`<${Json} value=${run.output} label="output" />` : html`<span class="quiet small">There is none until the run has completed.</span>`}<//>
  ${run.error && html`<${Sheet} title="Error" pad><${Json} value=${run.error} label="error" /><//>`}
  <${Sheet} title="Metadata" pad>${run.metadata ? html`<${Json} value=${run.metadata} label="metadata" />` : html`<span class="quiet small">None was given at its start.</span>`}<//>
</div>`;
