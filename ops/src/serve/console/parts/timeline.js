// What happened, when, and by whom.
import { html, useState } from "../lib/ui.js";
import { exact, length, clock } from "../lib/format.js";
import { plain, short } from "../lib/text.js";
import { Icon } from "./icons.js";
import { Json } from "./json.js";
import { Button, Empty } from "./basics.js";

const ICONS = [
  [/fail|panic|timed|expired|dead|refus/, "s_failed", "bad"],
  [/complet|answered|approved|consumed/, "s_completed", "good"],
  [/began|begun|start|resum|retr/, "s_running", "go"],
  [/paus|ask|question|wait|sleep|suspend/, "s_waiting", "hold"],
  [/cancel|stop|skip|releas/, "s_cancelled", "off"],
];

const look = (kind) => ICONS.find(([pattern]) => pattern.test(kind)) ?? [null, "s_blocked", "off"];
const PAGE = 200;

/** More about an entry: what it says, and all of it when asked. */
const Detail = ({ value }) => (typeof value.message === "string"
  ? html`<details class="fold"><summary class="text">${short(value.message, 200)}</summary><${Json} value=${value} label="detail" /></details>`
  : html`<${Json} value=${value} label="detail" />`);

export function Timeline({ entries, run }) {
  const [most, setMost] = useState(PAGE);
  if (!entries.length) return html`<${Empty} icon="clock" title="Nothing has happened yet" />`;
  const began = Date.parse(run.created_at);
  return html`<section class="sheet" aria-label="Timeline">
    <ol class="timeline">${entries.slice(0, most).map((entry, index) => {
      const [, icon, tone] = look(entry.kind);
      return html`<li key=${index}>
        <time class="at" datetime=${entry.at} title=${`${exact(entry.at)}; ${clock(entry.at)}`}>+${length(Date.parse(entry.at) - began)}</time>
        <${Icon} name=${icon} tone=${tone} />
        <div><span class="strong">${plain(entry.kind)}</span>${entry.step && html` <bdi class="mono">${short(entry.step, 60)}</bdi>`}${entry.attempt > 1 && html` <span class="quiet">attempt ${entry.attempt}</span>`}
          ${entry.actor && html` <span class="quiet">by ${short(entry.actor, 60)}</span>`}${entry.detail && html`<${Detail} value=${entry.detail} />`}</div>
      </li>`;
    })}</ol>
    ${entries.length > most && html`<footer><${Button} onClick=${() => setMost(most + 1000)}>Show more<//> ${most} of ${entries.length} entries are shown</footer>`}
  </section>`;
}
