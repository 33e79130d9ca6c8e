// Runs: found by anything, chosen, and acted on.
import { html, useState, useEffect, useMemo } from "../lib/ui.js";
import { useResource, useLive } from "../lib/resource.js";
import { place, withQuery } from "../lib/router.js";
import { Loaded, RunId, Text, Time, Lasted, Empty, Button, Pill } from "../parts/basics.js";
import { Table } from "../parts/table.js";
import { State, StateIcon, RUN_STATES, word } from "../parts/state.js";
import { Icon } from "../parts/icons.js";
import { message, short } from "../lib/text.js";
import { number } from "../lib/format.js";
import { running } from "../lib/live.js";
import { Filters, FILTERS } from "./runs/filters.js";
import { ChosenBar } from "./runs/chosen.js";

const SIZE = 50;

/** The filter of the list, as the API takes it. */
const filterOf = (query) => {
  const filter = {};
  for (const { name, api, value } of FILTERS) {
    const text = query.get(name);
    if (text) filter[api ?? name] = value ? value(text) : text;
  }
  return filter;
};

const title = (run) => run.name ?? run.id;

/** The input in a few words: enough to tell runs apart. */
const glance = (input) => (input == null || (typeof input === "object" && !Object.keys(input).length) ? "" : short(JSON.stringify(input).slice(0, 300), 160));

const COLUMNS = [
  { name: "State", kind: "fit", cell: (run) => html`<${State} state=${run.state} />` },
  {
    name: "Run", kind: "wide",
    cell: (run) => html`<span class="row"><a class=${run.name ? "cut strong" : "cut plain-name"} href=${`/runs/${run.id}`} title=${short(title(run))}><bdi>${short(run.name ?? run.flow, 200)}</bdi></a><span class="cut mono quiet preview">${glance(run.input)}</span></span>
      ${run.state === "failed" && run.error ? html`<span class="under bad"><${Text} value=${message(run.error)} most=${200} /></span>`
        : run.paused_for && run.paused_for !== "operator" ? html`<span class="under">waits for an answer</span>` : null}`,
  },
  { name: "Flow", kind: "fit", at: "at-middle", cell: (run) => html`${short(run.flow, 40)} <span class="quiet">v${run.version}</span>${run.compensated ? html` <${Pill} title="Its completed steps were undone">undone</${Pill}>` : null}${run.dismissed_at ? html` <${Pill}>dismissed</${Pill}>` : null}` },
  { name: "Id", kind: "fit", at: "at-wide", cell: (run) => html`<${RunId} id=${run.id} />` },
  { name: "Steps", kind: "num", at: "at-middle", cell: (run) => html`${run.steps_total - run.steps_open}<span class="quiet"> / ${run.steps_total}</span>` },
  { name: "Lasted", kind: "num", at: "at-middle", cell: (run) => html`<${Lasted} from=${run.start_at ?? run.created_at} to=${run.ended_at} />` },
  { name: "Started", kind: "num", cell: (run) => html`<${Time} at=${run.created_at} />` },
];

function States({ query }) {
  const current = query.get("state") ?? "";
  const link = (state) => withQuery({ state, after: null }, query, "/runs");
  return html`<nav class="states" aria-label="States">
    <a href=${link(null)} aria-current=${String(!current)}>All</a>
    ${RUN_STATES.map((state) => html`<a key=${state} href=${link(state)} aria-current=${String(current === state)}><${StateIcon} state=${state} silent />${word(state)}</a>`)}
  </nav>`;
}

/** Keeps the states of the runs that are shown, and tells when there are newer ones. */
function useFreshness(page, first, held) {
  const [newer, setNewer] = useState(false);
  const ids = page.data?.runs.filter((run) => !["completed", "failed", "cancelled"].includes(run.state)).map((run) => run.id) ?? [];
  useLive(first || ids.length ? { topics: first ? ["newest"] : [], runs: ids.slice(0, 100) } : null, (name, data) => {
    if (name === "newest" && data.id && page.data && data.id !== page.data.runs[0]?.id) setNewer(true);
    if (name === "runs" && page.data) {
      const marks = new Map(data.map((mark) => [mark.id, mark]));
      if (page.data.runs.some((run) => marks.has(run.id) && marks.get(run.id).revision !== run.revision)) {
        page.set({ ...page.data, runs: page.data.runs.map((run) => ({ ...run, ...marks.get(run.id) })) });
      }
    }
  });
  // The first page follows by itself, but not under the hands of somebody who chooses.
  useEffect(() => {
    if (!newer || held || !running.value) return undefined;
    const timer = setTimeout(() => {
      setNewer(false);
      page.reload();
    }, 1500);
    return () => clearTimeout(timer);
  }, [newer, held, running.value]);
}

export function Runs() {
  const query = place.value.query;
  const after = query.get("after");
  const filter = filterOf(query);
  const key = JSON.stringify(filter);
  const page = useResource("runs", { ...filter, after, limit: SIZE });
  const [chosen, setChosen] = useState(() => new Map());
  useEffect(() => setChosen(new Map()), [key]);
  useFreshness(page, !after, chosen.size > 0);
  const choose = useMemo(() => ({
    has: (run) => chosen.has(run.id),
    toggle: (run) => setChosen((before) => {
      const next = new Map(before);
      if (!next.delete(run.id)) next.set(run.id, run);
      return next;
    }),
    all: (on) => setChosen((before) => {
      const next = new Map(before);
      for (const run of page.data?.runs ?? []) on ? next.set(run.id, run) : next.delete(run.id);
      return next;
    }),
  }), [chosen, page.data]);
  const filtered = Object.keys(filter).length > 0;
  const empty = filtered
    ? html`<${Empty} icon="search" title="No run fits these filters" action=${html`<a class="button" href="/runs">Take the filters away</a>`}>${page.data?.next ? "So far: only a part of the history was looked at. The next page goes on from there." : "A filter narrows what the others find; % in a name stands for any text."}<//>`
    : html`<${Empty} icon="runs" title="There are no runs yet">Deploy a flow and start it: <code>longhaul flow deploy FILE</code>, <code>longhaul start FLOW</code>.<//>`;
  return html`<div class="stack tight">
    <${Filters} query=${query} />
    <div class="row wrap"><${States} query=${query} />
      <div class="row push"><${ChosenBar.ForFilter} filter=${filter} onDone=${page.reload} /><${Button} kind="plain" icon="retry" label="Load again" onClick=${page.reload} /></div>
    </div>
    <${Loaded} of=${page} what="The runs" lines=${12}>${(data) => html`
      <div class="sheet"><${Table} label="Runs" columns=${COLUMNS} rows=${data.runs} rowKey=${(run) => run.id} href=${(run) => `/runs/${run.id}`} chosen=${choose} empty=${empty} /></div>
      <nav class="pages" aria-label="Pages of the list">
        ${after && html`<a class="button" href=${withQuery({ after: null })}><${Icon} name="back" />Newest</a>`}
        <span>${number(data.runs.length)} shown, the newest first</span>
        ${data.next && html`<a class="button push" href=${withQuery({ after: data.next })}>Older<${Icon} name="next" /></a>`}
      </nav>
      <${ChosenBar} chosen=${chosen} onClear=${() => setChosen(new Map())} onDone=${page.reload} />`}<//>
  </div>`;
}
