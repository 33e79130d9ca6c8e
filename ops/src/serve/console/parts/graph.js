// The steps of a run as a graph, laid out in layers.
import * as dagre from "../vendor/dagre.js";
import { html, useEffect, useMemo, useRef, useState, classes } from "../lib/ui.js";
import { short } from "../lib/text.js";
import { StateIcon, tone, word } from "./state.js";
import { Lasted } from "./basics.js";

const WIDE = 164;
const HIGH = 44;
/** No smaller than this: words must stay words. */
const SMALLEST = 0.72;
const NARROW = 560;

/** Places of nodes and ways of edges. Only the form of the graph matters for it, not the states. */
const layOut = (nodes, down) => {
  const graph = new dagre.Graph();
  graph.setGraph({ rankdir: down ? "TB" : "LR", nodesep: 14, ranksep: 34, marginx: 16, marginy: 16 });
  graph.setDefaultEdgeLabel(() => ({}));
  const known = new Set(nodes.map((node) => node.seq));
  for (const node of nodes) graph.setNode(String(node.seq), { width: WIDE, height: HIGH });
  for (const node of nodes) {
    for (const before of node.after) if (known.has(before)) graph.setEdge(String(before), String(node.seq));
    if (node.undoes != null && known.has(node.undoes)) graph.setEdge(String(node.undoes), String(node.seq), { undo: true });
  }
  dagre.layout(graph);
  const { width, height } = graph.graph();
  return {
    width, height,
    places: new Map(graph.nodes().map((name) => [Number(name), graph.node(name)])),
    edges: graph.edges().map((edge) => ({ from: Number(edge.v), to: Number(edge.w), ...graph.edge(edge) })),
  };
};

/** From the end of a step to the beginning of another, by way of the points between that the layout leaves free. */
const way = (edge, places, down) => {
  const [from, to] = [places.get(edge.from), places.get(edge.to)];
  const between = edge.points.slice(1, -1);
  const [first, last] = down
    ? [{ x: from.x, y: from.y + HIGH / 2 }, { x: to.x, y: to.y - HIGH / 2 - 1 }]
    : [{ x: from.x + WIDE / 2, y: from.y }, { x: to.x - WIDE / 2 - 1, y: to.y }];
  const points = [first, ...(between.length > 1 ? between : []), last];
  return points.slice(1).reduce((path, point, index) => {
    const before = points[index];
    const middle = { x: (before.x + point.x) / 2, y: (before.y + point.y) / 2 };
    const bend = down ? `${before.x},${middle.y} ${point.x},${middle.y}` : `${middle.x},${before.y} ${middle.x},${point.y}`;
    return `${path}C${bend} ${point.x},${point.y}`;
  }, `M${first.x},${first.y}`);
};

const about = (node) => {
  if (node.items) return `${node.items.ended} of ${node.items.total} items`;
  if (node.state === "running" || (node.started_at && node.ended_at)) {
    return html`${node.attempt > 1 ? `try ${node.attempt} · ` : ""}<${Lasted} from=${node.started_at} to=${node.ended_at} />`;
  }
  return node.state ? word(node.state).toLowerCase() : "if it must be undone";
};

/** How much room there is for the graph. */
function useRoom() {
  const box = useRef();
  const [room, setRoom] = useState(0);
  useEffect(() => {
    const place = box.current;
    const sized = new ResizeObserver(() => setRoom(place.clientWidth));
    sized.observe(place);
    return () => sized.disconnect();
  }, []);
  return [box, room];
}

const scaleTo = (room, width) => (room ? Math.max(SMALLEST, Math.min(1, room / width)) : 1);

/** The graph; `chosen` is the name of a step. */
export function Graph({ nodes, chosen, onChoose }) {
  // Compensations that nobody called for are not part of the story.
  const shown = useMemo(() => nodes.filter((node) => node.undoes == null || node.state), [nodes]);
  const form = JSON.stringify(shown.map((node) => [node.seq, node.after, node.undoes]));
  const [box, room] = useRoom();
  // Where there is little room, the flow goes down.
  const down = shown.length < 2 || (room > 0 && room < NARROW);
  const laid = useMemo(() => layOut(shown, down), [form, down]);
  const scale = scaleTo(room, laid.width);
  const states = new Map(shown.map((node) => [node.seq, node.state]));
  return html`<div class="graph" role="group" aria-label="Graph of the steps" tabindex="0" ref=${box}>
    <div class="field-of-steps" style=${{ width: `${laid.width * scale}px`, height: `${laid.height * scale}px` }}><div class="scaled" style=${{ width: `${laid.width}px`, height: `${laid.height}px`, transform: `scale(${scale})` }}>
      <svg width=${laid.width} height=${laid.height} aria-hidden="true">
        <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0,0.8 L7,4 L0,7.2 z" /></marker></defs>
        ${laid.edges.map((edge) => html`<path key=${`${edge.from}-${edge.to}`} class=${classes("edge", states.get(edge.from) === "completed" && "done", edge.undo && "undo")} d=${way(edge, laid.places, down)} marker-end="url(#arrow)" />`)}
      </svg>
      ${shown.map((node) => {
        const place = laid.places.get(node.seq);
        return html`<button type="button" key=${node.seq} class=${classes("node", tone(node.state ?? "blocked"))} aria-pressed=${String(chosen === node.name)} onClick=${() => onChoose(node.name)}
          style=${{ left: `${place.x - WIDE / 2}px`, top: `${place.y - HIGH / 2}px`, width: `${WIDE}px`, height: `${HIGH}px` }}>
          <${StateIcon} state=${node.state ?? "blocked"} /><span class="cut name strong">${short(node.name, 60)}</span>
          <span class="under cut">${about(node)}</span>
        </button>`;
      })}
    </div></div>
  </div>`;
}
