// One flow: its versions, what lives of them, how they differ; starting a run.
import { html } from "../lib/ui.js";
import { useResource } from "../lib/resource.js";
import { place, setQuery } from "../lib/router.js";
import { act } from "../lib/acts.js";
import { part } from "../lib/api.js";
import { number } from "../lib/format.js";
import { short, plain } from "../lib/text.js";
import { confirm } from "../parts/dialog.js";
import { Loaded, Button, Empty, Pill, Sheet, Time } from "../parts/basics.js";
import { Json } from "../parts/json.js";

const askStart = (flow) => confirm({
  title: `Start a run of ${short(flow.name, 40)} v${flow.version}`, act: "Start the run",
  fields: [{ name: "name", label: "Name", placeholder: "optional" }, { name: "input", label: "Input", kind: "json", value: "{}", hint: "JSON" }],
  run: ({ name, input }) => act("POST", `flows/${part(flow.name)}/runs`, {
    query: { version: flow.version }, body: { input: JSON.parse(input), ...(name ? { name } : {}) }, quiet: true,
    done: "The run is started", link: (answer) => ({ href: `/runs/${answer.id}`, text: "Look at it" }),
  }),
});

function Difference({ name, from, to }) {
  const found = useResource(`flows/${part(name)}/difference`, { from, to });
  return html`<${Loaded} of=${found} what="The difference" lines=${3}>${(changes) => changes.length
    ? html`<table><thead><tr><th scope="col">Step</th><th scope="col">Change</th><th scope="col">v${from}</th><th scope="col">v${to}</th></tr></thead><tbody>
      ${changes.map((change) => html`<tr key=${`${change.step}${change.change}`}><td class="fit strong">${change.step ? short(change.step, 60) : "the flow"}</td><td class="fit"><${Pill} tone=${{ added: "good", removed: "bad" }[change.change] ?? "hold"}>${plain(change.change)}<//></td><td>${change.before != null && html`<${Json} value=${change.before} />`}</td><td>${change.after != null && html`<${Json} value=${change.after} />`}</td></tr>`)}
    </tbody></table>` : html`<${Empty} icon="done" title="They do not differ" />`}<//>`;
}

export function Flow({ name }) {
  const version = place.value.query.get("version");
  const found = useResource(`flows/${part(name)}`, { version });
  const all = useResource("flows");
  const versions = (all.data ?? []).filter((flow) => flow.name === name).sort((a, b) => b.version - a.version);
  return html`<${Loaded} of=${found} what="The flow">${(flow) => {
    const live = new Map(flow.live.map((one) => [one.version, one.runs]));
    const before = versions.find((one) => one.version < flow.version);
    return html`<div class="stack">
      <div class="run-head"><h2>${short(flow.name, 100)}</h2><span class="quiet">v${flow.version}, ${number(flow.steps)} steps, deployed <${Time} at=${flow.deployed_at} /></span>
        <div class="row push"><a class="button" href=${`/runs?flow=${encodeURIComponent(name)}`}>Its runs</a><${Button} kind="main" icon="play" onClick=${() => askStart(flow)}>Start a run…<//></div></div>
      <div class="columns">
        <${Sheet} title="Definition" about="with its defaults filled in" pad><${Json} value=${flow.definition} label="definition" /><//>
        <${Sheet} title="Versions"><table><thead><tr><th scope="col">Version</th><th scope="col" class="num">Live runs</th><th scope="col" class="num">Deployed</th></tr></thead><tbody>
          ${versions.map((one) => html`<tr key=${one.version} class=${one.version === flow.version && "chosen"}><td><button type="button" class="button plain tiny" onClick=${() => setQuery({ version: one.version })}>v${one.version}</button></td><td class="num">${number(live.get(one.version) ?? 0)}</td><td class="num"><${Time} at=${one.deployed_at} /></td></tr>`)}
        </tbody></table><//>
      </div>
      ${before && html`<${Sheet} title=${`What v${flow.version} changed since v${before.version}`}><div class="scroll" tabindex="0" role="region" aria-label="Differences"><${Difference} name=${name} from=${before.version} to=${flow.version} /></div><//>`}
    </div>`;
  }}<//>`;
}
