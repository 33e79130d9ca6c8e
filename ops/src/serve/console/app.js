// The console of Longhaul. In the order in which things happen:
//
//   theme.js   before the first paint: light or dark
//   lib/       what is not seen: the address, the API, live changes, the clock, shortcuts
//   parts/     pieces that pages are made of
//   pages/     a page each
//   shell.js   the frame around the pages
import { html, render } from "./lib/ui.js";
import { Shell } from "./shell.js";

render(html`<${Shell} />`, document.getElementById("app"));
