// The frame: rail, top bar, the page, and what lies over it.
import { html, signal, useEffect, classes } from "./lib/ui.js";
import { GROUPS, PAGES, find } from "./pages.js";
import { place, go } from "./lib/router.js";
import { theme, rail, tenant, isNarrow } from "./lib/prefs.js";
import { useResource, useLive } from "./lib/resource.js";
import { useKeys } from "./lib/keys.js";
import { paused, state as liveState } from "./lib/live.js";
import { now } from "./lib/clock.js";
import { clock } from "./lib/format.js";
import { middle, short } from "./lib/text.js";
import { Icon } from "./parts/icons.js";
import { Button, Empty } from "./parts/basics.js";
import { Confirming } from "./parts/dialog.js";
import { Toasts, announce } from "./parts/toasts.js";
import { Login } from "./pages/login.js";
import { Palette, palette } from "./parts/palette.js";
import { Help, help } from "./parts/help.js";

const drawer = signal(false);
const THEMES = ["system", "light", "dark"];
const THEME_ICONS = { system: "system", light: "sun", dark: "moon" };

const nextTheme = () => {
  theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length];
  announce(`Theme: ${theme.value}`);
};

const isFolded = () => (rail.value === "auto" ? isNarrow.value : rail.value === "folded");

function Entry({ page, current, tallies }) {
  const count = page.tally && tallies?.[page.tally];
  const shown = count && count.count > 0 && (count.count > 999 ? "999+" : `${count.count}${count.more ? "+" : ""}`);
  return html`<li><a href=${`/${page.path}`} aria-current=${current === page ? "page" : undefined} title=${isFolded() ? page.title : undefined} onClick=${() => { drawer.value = false; }}>
    <${Icon} name=${page.icon} /><span>${page.title}</span>
    ${shown && html`<span class=${classes("tally", page.tally === "dead_letters" ? "bad" : "hold")} aria-label=${`${shown} to look at`}>${shown}</span>`}
  </a></li>`;
}

function Rail({ current, tallies, session }) {
  return html`<aside class="rail" aria-label="Longhaul">
    <a class="brand" href="/" aria-label="Longhaul: overview"><img src="/icon.svg" alt="" width="20" height="20" /><span>Longhaul</span></a>
    <nav aria-label="Pages">
      ${GROUPS.map((group) => html`${group.title && html`<h2>${group.title}</h2>`}<ul>${group.pages.map((page) => html`<${Entry} key=${page.path} page=${page} current=${current} tallies=${tallies} />`)}</ul>`)}
    </nav>
    <div class="rail-foot">
      ${session?.tenants.length > 1 && !isFolded() && html`<label class="label"><span class="hidden-text">Tenant</span>
        <select class="field" value=${tenant.value || session.tenant} onChange=${(event) => { tenant.value = event.target.value; }}>
          ${session.tenants.map((name) => html`<option value=${name}>${short(name, 40)}</option>`)}
        </select></label>`}
      <div class="rail-tools">
        <${Button} kind="plain" icon=${THEME_ICONS[theme.value]} label=${`Theme: ${theme.value}; change it`} onClick=${nextTheme} />
        <${Button} kind="plain" icon="help" label="Keyboard shortcuts" onClick=${() => { help.value = true; }} />
        <${Button} kind="plain" icon=${isFolded() ? "unfold" : "fold"} label=${isFolded() ? "Unfold the rail" : "Fold the rail"} onClick=${() => { rail.value = isFolded() ? "open" : "folded"; }} />
      </div>
      <p class="rail-facts">${session && html`<span class="cut" title="Who you are here, and what you may do">${short(session.who ?? "", 40)}${session.scope && session.scope !== "admin" ? ` (${session.scope})` : ""}</span>`}${clock(now.value)} on the server${session && html`<br />Longhaul ${session.version}`}</p>
    </div>
  </aside>`;
}

const MODIFIER = /Mac|iP/.test(navigator.platform) ? "⌘" : "Ctrl";
const LIVE_WORDS = { on: "Live", paused: "Paused", lost: "No contact" };

function Live() {
  const state = liveState.value;
  const label = { on: "Pause live changes", paused: "Paused: go on with live changes", lost: "No contact: pause live changes" }[state];
  const change = () => {
    paused.value = !paused.value;
    announce(paused.value ? "Live changes are paused" : "Live changes go on");
  };
  return html`<button type="button" class=${`live ${state}`} aria-pressed=${String(paused.value)} aria-label=${label} title=${label} onClick=${change}>
    <span class="dot" aria-hidden="true"></span><span class="word">${LIVE_WORDS[state]}</span><${Icon} name=${paused.value ? "play" : "pause"} />
  </button>`;
}

function Top({ found }) {
  const { page, title, props } = found ?? {};
  return html`<header class="top">
    <${Button} kind="plain menu" icon="menu" label="Pages" aria-expanded=${String(drawer.value)} onClick=${() => { drawer.value = !drawer.value; }} />
    <div class="crumbs">
      ${title
        ? html`<a href=${`/${page.path}`}>${page.title}</a><span class="slash" aria-hidden="true">/</span><h1>${page.path === "runs" ? html`<span class="mono">${middle(props.id, 8, 6)}</span>${title === "Compare" ? " compared" : ""}` : short(title, 60)}</h1>`
        : html`<h1>${page?.title ?? "Not found"}</h1>`}
    </div>
    <button type="button" class="seek" onClick=${() => { palette.value = true; }} aria-label=${`Find or do… ${MODIFIER} K`} title="Go to a page, find a run, act">
      <${Icon} name="search" /><span class="word">Find or do… </span><kbd>${MODIFIER} K</kbd>
    </button>
    <${Live} />
  </header>`;
}

/** The whole console. */
export function Shell() {
  const found = find(place.value.path);
  const session = useResource("session");
  const overview = useResource("overview");
  useLive({ topics: ["overview"] }, (name, data) => name === "overview" && overview.set(data));
  useKeys({
    "mod+k": () => { palette.value = !palette.value; },
    "?": () => { help.value = true; },
    "/": () => document.querySelector("main input[type=search]")?.focus(),
    p: () => { paused.value = !paused.value; },
    "[": () => { rail.value = isFolded() ? "open" : "folded"; },
    ...Object.fromEntries(PAGES.map((page) => [`g ${page.key}`, () => go(`/${page.path}`)])),
  });
  const title = found ? [found.title && short(found.title, 40), found.page.title].filter(Boolean).join(" · ") : "Not found";
  useEffect(() => {
    document.title = `${title} · Longhaul`;
    drawer.value = false;
  }, [title]);
  const Page = found?.component;
  if (session.error?.status === 401) return html`<${Login} onDone=${() => location.reload()} />`;
  return html`<div class=${classes("frame", isFolded() && "folded", drawer.value && "open")}>
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById("main").focus(); }}>Skip to the page</a>
    <${Rail} current=${found?.page} tallies=${overview.data} session=${session.data} />
    <button type="button" class="veil" aria-label="Close the pages" onClick=${() => { drawer.value = false; }}></button>
    <div class="body">
      <${Top} found=${found} />
      <main id="main" tabindex="-1">
        ${Page ? html`<${Page} key=${`${found.page.path}/${found.props.id ?? ""}/${tenant.value}`} ...${found.props} overview=${overview} />`
          : html`<${Empty} icon="search" title="There is no such page" action=${html`<a class="button" href="/">To the overview</a>`}>The address may have been mistyped, or it is of another release.<//>`}
      </main>
    </div>
    <${Palette} /><${Help} /><${Confirming} /><${Toasts} />
  </div>`;
}
