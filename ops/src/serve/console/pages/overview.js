// What is going on, and what needs a person now.
import { html, useMemo } from "../lib/ui.js";
import { useResource } from "../lib/resource.js";
import { place, setQuery } from "../lib/router.js";
import { now } from "../lib/clock.js";
import { counted, number, compact, length } from "../lib/format.js";
import { short } from "../lib/text.js";
import { Chart } from "../parts/chart.js";
import { Icon } from "../parts/icons.js";
import { Loaded, Sheet, Text, Time, Empty } from "../parts/basics.js";

/** Spans of the charts: minutes in all, and minutes of a point. */
const SPANS = { "1h": [60, 1], "6h": [360, 4], "24h": [1440, 15], "3d": [4320, 45] };

function Tile({ name, icon, tone, value, about, href }) {
  const inner = html`<span class="name">${icon && html`<${Icon} name=${icon} tone=${tone} />`}${name}</span><span class="value">${value}</span><span class="about">${about}</span>`;
  return href ? html`<a class="tile" href=${href}>${inner}</a>` : html`<div class="tile">${inner}</div>`;
}

const lastFull = (pieces) => pieces.at(-2) ?? pieces.at(-1);

function Tiles({ data }) {
  const minute = lastFull(data.throughput);
  const waited = data.oldest_ready && now.value - Date.parse(data.oldest_ready.since);
  const share = minute && minute.completed + minute.failed > 0 ? (100 * minute.failed) / (minute.completed + minute.failed) : 0;
  return html`<div class="tiles">
    <${Tile} name="Done in a minute" value=${compact(minute?.completed ?? 0)} about="steps, in the last full minute" />
    <${Tile} name="Failed attempts" icon=${share >= 5 ? "warn" : null} tone="bad" value=${`${share.toFixed(share >= 10 || share === 0 ? 0 : 1)} %`} about=${`${number(minute?.failed ?? 0)} in that minute`} />
    <${Tile} name="Oldest ready" icon=${waited > 60_000 ? "warn" : null} tone="hold" value=${waited ? length(waited) : "none"} about=${data.oldest_ready ? `${short(data.oldest_ready.step, 30)} in ${data.oldest_ready.queue}` : "nothing waits for a worker"} href=${data.oldest_ready ? `/runs/${data.oldest_ready.run}` : null} />
    <${Tile} name="Running" value=${counted(data.steps.running)} about=${`of ${number(data.slots)} slots`} href="/workers" />
    <${Tile} name="Ready" value=${counted(data.steps.ready)} about=${`${counted(data.steps.queued)} at a key, ${counted(data.steps.paused)} paused`} href="/queues" />
    <${Tile} name="Asleep or waiting" value=${counted({ count: data.steps.sleeping.count + data.steps.waiting.count, more: data.steps.sleeping.more || data.steps.waiting.more })} about=${`${counted(data.steps.waiting)} wait, ${counted(data.steps.sleeping)} sleep`} />
  </div>`;
}

function Charts({ span }) {
  const [minutes, width] = SPANS[span];
  const found = useResource("throughput", { minutes, width }, { every: 15_000 });
  const series = useMemo(() => {
    const pieces = (found.data ?? []).slice(0, -1);
    const times = pieces.map((piece) => Date.parse(piece.at) / 1000);
    const rate = (name) => pieces.map((piece) => piece[name] / width);
    return {
      done: [times, rate("completed"), rate("failed")],
      ready: [times, pieces.map((piece) => piece.ready)],
      oldest: [times, pieces.map((piece) => piece.oldest_ms)],
      share: [times, pieces.map((piece) => (piece.claimed ? (100 * piece.failed) / Math.max(1, piece.completed + piece.failed) : 0))],
    };
  }, [found.data, width]);
  return html`<${Loaded} of=${found} what="The charts" lines=${8}>${() => html`<div class="charts">
    <${Chart} key=${`done${span}`} title="Throughput" about="steps a minute" format=${compact} data=${series.done}
      series=${[{ name: "completed", paint: "--good-fill", filled: true }, { name: "failed", paint: "--bad-fill", dashed: true }]} />
    <${Chart} key=${`share${span}`} title="Failures" about="of all attempts that ended" format=${(value) => `${value.toFixed(value < 10 ? 1 : 0)} %`} data=${series.share}
      series=${[{ name: "failed", paint: "--bad-fill", filled: true }]} />
    <${Chart} key=${`oldest${span}`} title="Latency" about="of the oldest ready step" format=${length} times data=${series.oldest}
      series=${[{ name: "waited", paint: "--hold-fill", filled: true }]} />
    <${Chart} key=${`ready${span}`} title="Backlog" about="ready steps" format=${compact} data=${series.ready}
      series=${[{ name: "ready", paint: "--go-fill", filled: true }]} />
  </div>`}<//>`;
}

const Line = ({ icon, tone, children, at, href, act }) => html`<li><${Icon} name=${icon} tone=${tone} /><div class="words">${children}</div>${at && html`<span class="quiet small"><${Time} at=${at} /></span>`}<a class="button tiny" href=${href}>${act}</a></li>`;

/** The same question of several runs is one line, at the place of the one that has been open longest. */
const together = (questions) => {
  const kinds = new Map();
  for (const question of questions) {
    const key = JSON.stringify([question.flow, question.step, question.question]);
    const known = kinds.get(key);
    if (known) known.count += 1;
    else kinds.set(key, { question, count: 1 });
  }
  return [...kinds.values()];
};

function Attention({ overview }) {
  const questions = useResource("questions", {}, { every: 10_000 });
  const groups = useResource("dead-letters/groups", {}, { every: 15_000 });
  const doctor = useResource("doctor", {}, { every: 30_000 });
  const found = (doctor.data ?? []).filter((check) => check.verdict !== "ok" && check.check !== "attention");
  const paused = overview.paused_queues;
  const none = !questions.data?.length && !groups.data?.length && !found.length && !paused.length;
  const asked = together(questions.data ?? []);
  return html`<${Sheet} title="Needs a person" about="the most pressing first">
    ${none && questions.data && groups.data && doctor.data
      ? html`<${Empty} icon="done" title="Nothing needs you">Questions, dead letters, paused queues and what the doctor finds will stand here.<//>`
      : html`<ul class="list">
        ${found.map((check) => html`<${Line} key=${check.check} icon=${check.verdict === "failed" ? "s_failed" : "warn"} tone=${check.verdict === "failed" ? "bad" : "hold"} href="/doctor" act="Doctor"><b>${check.check}</b> <span class="soft">${short(check.finding, 200)}</span><//>`)}
        ${(groups.data ?? []).slice(0, 4).map((group) => html`<${Line} key=${`${group.flow}${group.step}${group.message}`} icon="s_failed" tone="bad" at=${group.last} href=${`/dead-letters?flow=${encodeURIComponent(group.flow)}`} act="Look"><b>${number(group.count)} dead</b> in ${short(group.flow, 40)} / ${short(group.step, 40)}<span class="soft"><${Text} value=${group.message} most=${160} /></span><//>`)}
        ${paused.map((name) => html`<${Line} key=${`queue ${name}`} icon="s_paused" tone="hold" href=${`/queues/${encodeURIComponent(name)}`} act="Queue">Queue <b>${name}</b> is paused<//>`)}
        ${asked.slice(0, 5).map(({ question, count }) => html`<${Line} key=${`${question.run}${question.step}`} icon="questions" tone="hold" at=${question.since} href=${count > 1 ? "/questions" : `/runs/${question.run}`} act="Answer">${count > 1 ? html`<b class="num">${number(count)} ×</b> ` : null}<b>${short(question.question ?? "Data are needed", 120)}</b><span class="soft"><${Text} value=${`${question.flow} / ${question.step}`} /></span><//>`)}
        ${asked.length > 5 && html`<li><span class="words"><a href="/questions">All questions</a></span></li>`}
      </ul>`}
  <//>`;
}

function Newest() {
  const failed = useResource("runs", { state: "failed", limit: 6 }, { every: 5000 });
  return html`<${Sheet} title="Failed last" tools=${html`<a class="button tiny" href="/runs?state=failed">All</a>`}>
    <${Loaded} of=${failed} what="The failed runs">${({ runs }) => runs.length
      ? html`<ul class="list">${runs.map((run) => html`<${Line} key=${run.id} icon="s_failed" tone="bad" at=${run.ended_at} href=${`/runs/${run.id}`} act="Open"><${Text} value=${run.name ?? run.flow} most=${80} /><span class="quiet small"><${Text} value=${run.error?.message ?? run.error?.code} most=${120} /></span><//>`)}</ul>`
      : html`<${Empty} icon="done" title="No run has failed" />`}<//>
  <//>`;
}

export function Overview({ overview }) {
  const span = SPANS[place.value.query.get("span")] ? place.value.query.get("span") : "1h";
  return html`<div class="stack">
    <${Loaded} of=${overview} what="The overview">${(data) => html`
      <div class="stack">
        <${Tiles} data=${data} />
        <div class="columns">
          <div class="stack tight">
            <div class="row"><h2>Over time</h2><div class="segments push" role="group" aria-label="Span of the charts">
              ${Object.keys(SPANS).map((name) => html`<button type="button" key=${name} aria-pressed=${String(name === span)} onClick=${() => setQuery({ span: name === "1h" ? null : name })}>${name}</button>`)}
            </div></div>
            <${Charts} span=${span} />
            <${Newest} />
          </div>
          <${Attention} overview=${data} />
        </div>
      </div>`}<//>
  </div>`;
}
