// Icons on a field of 16 by 16, drawn with one line of 1.5.
import { html } from "../lib/ui.js";

const PATHS = {
  overview: "M2.5 13.5h11M4 11V7.5M8 11V3.5M12 11V6",
  runs: "M5.5 3.5h8M5.5 8h8M5.5 12.5h8M2.5 3.5h.01M2.5 8h.01M2.5 12.5h.01",
  queues: "M2.5 4.5h11M2.5 8h8M2.5 11.5h5",
  schedules: "M3 4.5h10v9H3zM3 7.5h10M5.5 2.5v3M10.5 2.5v3",
  flows: "M4 5.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM12 9.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM4 13.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM5.5 4h2a2 2 0 0 1 2 2v0a2 2 0 0 0 1 2M5.5 12h2a2 2 0 0 0 2-2v0a2 2 0 0 1 1-2",
  questions: "M3 3.5h10v7.5H8l-3 2.5V11H3zM6.6 6a1.5 1.5 0 1 1 2 1.4c-.4.2-.6.4-.6.8M8 9.4h.01",
  dead: "M8 2.5 14 13H2zM8 6.5v3M8 11.3h.01",
  workers: "M2.5 3.5h11v4h-11zM2.5 9.5h11v3.5h-11zM5 5.5h.01M5 11.2h.01",
  locks: "M4 7.5h8v6H4zM5.5 7.5V5.2a2.5 2.5 0 0 1 5 0v2.3",
  keys: "M5.5 10.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM8 8h5.5v2.5M11 8v1.8",
  signals: "M8 9.2a1.2 1.2 0 1 0 0-2.4 1.2 1.2 0 0 0 0 2.4zM4.8 11.2a4.5 4.5 0 0 1 0-6.4M11.2 4.8a4.5 4.5 0 0 1 0 6.4M2.8 13.2a7.3 7.3 0 0 1 0-10.4M13.2 2.8a7.3 7.3 0 0 1 0 10.4",
  retention: "M3 4.5h10M6 4.5v-2h4v2M4.2 4.5l.6 9h6.4l.6-9M6.8 7v4M9.2 7v4",
  audit: "M4 2.5h6l2.5 2.5v8.5H4zM9.8 2.5V5h2.7M6 8h4.5M6 10.5h4.5",
  doctor: "M2 8.5h3l1.5-4 3 7.5 1.5-3.5h3",
  search: "M7 11.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9zM10.3 10.3l3.2 3.2",
  menu: "M2.5 4.5h11M2.5 8h11M2.5 11.5h11",
  sun: "M8 10.8a2.8 2.8 0 1 0 0-5.6 2.8 2.8 0 0 0 0 5.6zM8 1.8v1.4M8 12.8v1.4M1.8 8h1.4M12.8 8h1.4M3.6 3.6l1 1M11.4 11.4l1 1M12.4 3.6l-1 1M4.6 11.4l-1 1",
  moon: "M13 9.5A5.5 5.5 0 0 1 6.5 3a5.5 5.5 0 1 0 6.5 6.5z",
  system: "M2.5 3.5h11v7.5h-11zM6 13.5h4",
  help: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM6.4 6.4a1.6 1.6 0 1 1 2.2 1.5c-.4.2-.6.5-.6.9M8 11h.01",
  fold: "M3 3h10v10H3zM6.5 3v10M11 6.5 9.5 8l1.5 1.5",
  unfold: "M3 3h10v10H3zM6.5 3v10M9.5 6.5 11 8l-1.5 1.5",
  copy: "M5.5 5.5h8v8h-8zM3.5 10.5h-1v-8h8v1",
  done: "m3 8.5 3.2 3L13 4.5",
  close: "m4 4 8 8M12 4l-8 8",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  play: "M5 3.5v9l7.5-4.5z",
  stop: "M4 4h8v8H4z",
  retry: "M12.8 6.5A5 5 0 1 0 13 9M13 3.2v3.4H9.6",
  fork: "M4.5 13.5v-6M4.5 2.5v1M4.5 9.5c0-2 7-1 7-4M4.5 5.5a1 1 0 1 0 0-2 1 1 0 0 0 0 2zM11.5 5.5a1 1 0 1 0 0-2 1 1 0 0 0 0 2z",
  compare: "M3 3h4v10H3zM9 3h4v10H9zM11 6v.01M11 9v.01",
  more: "M3.5 8h.01M8 8h.01M12.5 8h.01",
  next: "m6 3.5 4.5 4.5L6 12.5",
  back: "M10 3.5 5.5 8l4.5 4.5",
  down: "m3.5 6 4.5 4.5L12.5 6",
  edit: "M3 13h2.2l7.3-7.3-2.2-2.2L3 10.8zM9 4.8 11.2 7",
  hide: "M2 8s2.3-4 6-4 6 4 6 4-2.3 4-6 4-6-4-6-4zM3 13 13 3",
  show: "M2 8s2.3-4 6-4 6 4 6 4-2.3 4-6 4-6-4-6-4zM8 9.7a1.7 1.7 0 1 0 0-3.4 1.7 1.7 0 0 0 0 3.4z",
  warn: "M8 2.5 14 13H2zM8 6.5v3M8 11.3h.01",
  info: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 7.5v3.5M8 5h.01",
  send: "m2.5 8 11-5.5L10 13.5 7.5 9z",
  clock: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 4.8V8l2.2 1.4",
  filter: "M2.5 4h11M4.5 8h7M6.5 12h3",
  limit: "M2.5 12a5.5 5.5 0 1 1 11 0M8 12l2.5-4",
  drain: "M8 2.5v8M4.5 7.5 8 11l3.5-3.5M3 13.5h10",
  // States: each a shape of its own.
  s_pending: "M8 13.2A5.2 5.2 0 1 0 8 2.8a5.2 5.2 0 0 0 0 10.4zM8 5.5V8l1.7 1",
  s_ready: "M8 13.2A5.2 5.2 0 1 0 8 2.8a5.2 5.2 0 0 0 0 10.4zM7 5.8v4.4L10.2 8z",
  s_running: "M8 2.8a5.2 5.2 0 1 0 5.2 5.2",
  s_waiting: "M4.5 2.8h7M4.5 13.2h7M5.2 2.8c0 3.4 5.6 3.6 5.6 10.4M10.8 2.8c0 3.4-5.6 3.6-5.6 10.4",
  s_paused: "M3.2 3.2h9.6v9.6H3.2zM6.6 5.8v4.4M9.4 5.8v4.4",
  s_blocked: "M8 13.2A5.2 5.2 0 1 0 8 2.8a5.2 5.2 0 0 0 0 10.4z",
  s_cancelled: "M8 13.2A5.2 5.2 0 1 0 8 2.8a5.2 5.2 0 0 0 0 10.4zM4.4 11.6l7.2-7.2",
  s_skipped: "M3 8h7.5M7.5 4.5 11 8l-3.5 3.5M13 4v8",
};

const FILLED = {
  s_completed: ["M8 1.9a6.1 6.1 0 1 1 0 12.2A6.1 6.1 0 0 1 8 1.9z", "m5.2 8.3 2 1.9 3.7-4"],
  s_failed: ["M5.4 1.9h5.2l3.5 3.5v5.2l-3.5 3.5H5.4l-3.5-3.5V5.4z", "m5.9 5.9 4.2 4.2M10.1 5.9l-4.2 4.2"],
};

/** An icon; nothing is said of it to screen readers. */
export function Icon({ name, tone, turns }) {
  const filled = FILLED[name];
  return html`<span class=${`icon ${tone ?? ""} ${turns ? "turn" : ""}`} aria-hidden="true">
    <svg viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round">
      ${filled
        ? html`<path d=${filled[0]} fill="currentColor" stroke="none" /><path d=${filled[1]} stroke="var(--sheet)" />`
        : html`<path d=${PATHS[name] ?? PATHS.info} stroke-dasharray=${name === "s_blocked" ? "1.6 2.2" : undefined} />`}
    </svg>
  </span>`;
}
