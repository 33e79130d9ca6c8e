// Charts over time. The figures under the cursor stand in the legend, and the newest while nobody points.
import uPlot from "../vendor/uplot.js";
import { html, useEffect, useRef, useState, effect } from "../lib/ui.js";
import { hour } from "../lib/format.js";
import { isDark, theme } from "../lib/prefs.js";

/** The colour that a name of the style sheet stands for now. */
const colour = (name) => {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
};

const wash = (paint, share) => paint.replace("rgb(", "rgba(").replace(")", `, ${share})`);

const FONT = () => `11px ${getComputedStyle(document.body).fontFamily}`;

const axis = (format) => ({
  stroke: colour("--ink-3"),
  font: FONT(),
  grid: { stroke: colour("--line-1"), width: 1 },
  ticks: { show: false },
  gap: 6,
  values: (_, ticks) => ticks.map(format),
});

/** As wide as the widest of its words. */
const fitting = (plot, values) => {
  plot.ctx.save();
  plot.ctx.font = FONT();
  const widest = Math.max(0, ...(values ?? []).map((text) => plot.ctx.measureText(text).width));
  plot.ctx.restore();
  return Math.ceil(widest) + 12;
};

/** Steps of an axis of milliseconds: those of clocks. */
const CLOCK_STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 43_200_000, 86_400_000];

const optionsOf = ({ series, format, times }, width, height, onPoint) => ({
  width,
  height,
  padding: [8, 20, 0, 0],
  cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false }, sync: { key: "console" } },
  legend: { show: false },
  scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.12 : 1] } },
  axes: [
    { ...axis((time) => hour(time * 1000)), size: 24, grid: { show: false }, space: 64 },
    { ...axis(format), size: fitting, space: 32, ...(times ? { incrs: CLOCK_STEPS } : {}) },
  ],
  series: [
    {},
    ...series.map(({ paint, dashed, filled }) => ({
      stroke: colour(paint),
      width: 1.6,
      dash: dashed ? [4, 3] : undefined,
      fill: filled ? wash(colour(paint), 0.13) : undefined,
      points: { show: false },
    })),
  ],
  hooks: { setCursor: [(plot) => onPoint(plot.cursor.idx ?? null)] },
});

/** `series`: [{ name, paint, dashed, filled }], `data`: [times in seconds, values, …], `format` of values, `times`: they are milliseconds. */
export function Chart({ title, about, series, data, format, times, tools }) {
  const box = useRef();
  const plot = useRef();
  const [at, setAt] = useState(null);
  const latest = useRef(data);
  latest.current = data;
  const ready = data[0].length > 1;
  useEffect(() => {
    if (!ready) return undefined;
    const place = box.current;
    const draw = () => {
      plot.current?.destroy();
      plot.current = new uPlot(optionsOf({ series, format, times }, place.clientWidth, place.clientHeight, setAt), latest.current, place);
    };
    const stop = effect(() => {
      void theme.value;
      isDark();
      draw();
    });
    const sized = new ResizeObserver(() => plot.current?.setSize({ width: place.clientWidth, height: place.clientHeight }));
    sized.observe(place);
    return () => {
      stop();
      sized.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [ready]);
  useEffect(() => plot.current?.setData(data), [data]);
  const index = at ?? data[0].length - 1;
  const spoken = series.map(({ name }, place) => `${name}: ${format(data[place + 1].at(-1) ?? 0)}`).join(", ");
  return html`<section class="sheet" aria-label=${title}>
    <header><h2>${title}</h2><span class="quiet">${at == null ? about : hour(data[0][at] * 1000)}</span>
      <div class="legend push">${series.map(({ name, paint, dashed }, place) => html`<span class="key" key=${name}>
        <span class=${`swatch ${dashed ? "dashed" : ""}`} style=${{ background: `var(${paint})` }}></span>${name} <b class="strong">${index < 0 ? "–" : format(data[place + 1][index] ?? 0)}</b></span>`)}</div>${tools}
    </header>
    <div class="chart"><div class="place" ref=${box} role="img" aria-label=${`${title}, now ${spoken}`}></div></div>
  </section>`;
}

/** A line without axes. */
export function Spark({ values, label }) {
  const most = Math.max(1, ...values);
  const points = values.map((value, index) => `${((index / Math.max(1, values.length - 1)) * 96).toFixed(1)},${(20 - (value / most) * 18).toFixed(1)}`);
  return html`<svg class="spark" viewBox="0 0 96 22" role="img" aria-label=${label}><polyline points=${points.join(" ")} fill="none" stroke="currentColor" stroke-width="1.4" stroke-linejoin="round" /></svg>`;
}
