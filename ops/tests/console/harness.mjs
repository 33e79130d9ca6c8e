// What the tests share: a browser, pages that note what goes wrong, and the HTTP API.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

/** Where the console is: a showcase that `ops/console-test` has started. */
export const BASE = process.env.LONGHAUL_CONSOLE?.replace(/\/$/, "");
assert.ok(BASE, "LONGHAUL_CONSOLE names the address of a showcase; ops/console-test starts one");

/** How long anything may take. Machines are shared: it is generous, and nothing waits longer than it must. */
export const PATIENCE = 60_000;

/** Everything that went wrong in any page. */
export const complaints = [];

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

/** A browser with a fresh profile. */
export const launch = () => chromium.launch({ executablePath: process.env.LONGHAUL_CHROMIUM ?? "/usr/bin/chromium", headless: true, args: FLAGS });

/** A page of its own, without anything remembered. `expected`: complaints that belong to the test. */
export async function open(browser, path, { width = 1440, height = 900, theme = "light", expected = [], before } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, reducedMotion: "reduce", permissions: ["clipboard-read", "clipboard-write"] });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const complain = (text) => expected.some((one) => text.includes(one)) || complaints.push(`${path}: ${text}`);
  page.on("console", (said) => ["error", "warning"].includes(said.type()) && complain(said.text()));
  page.on("pageerror", (error) => complain(String(error.stack ?? error)));
  page.on("request", (asked) => asked.url().startsWith(BASE) || asked.url().startsWith("data:") || complain(`asked another host: ${asked.url()}`));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
  });
  await before?.(page);
  await page.goto(BASE + path);
  await settled(page);
  return page;
}

/** Waits until what the page shows has been loaded. */
export async function settled(page) {
  await page.locator("main").waitFor();
  await page.waitForFunction(() => !document.querySelector("main .bone, .login .bone"), undefined, { timeout: PATIENCE });
}

export const close = (page) => page.context().close();

/** Reads from the API. */
export async function api(path) {
  const response = await fetch(`${BASE}/api/v1/${path}`);
  assert.equal(response.status, 200, `${path}: ${response.status}`);
  return response.json();
}

/** Waits for something that the API tells. */
export async function eventually(what, ask) {
  const until = Date.now() + PATIENCE * 2;
  for (;;) {
    const found = await ask();
    if (found) return found;
    assert.ok(Date.now() < until, `${what} has not come`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** The first run that fits. */
export const firstRun = (query) => eventually(`a run with ${query}`, async () => (await api(`runs?limit=1&${query}`)).runs[0]);

/** By how many pixels a page is wider than its window. */
export const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
