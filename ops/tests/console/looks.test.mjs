// How the console looks: to screen readers, in both themes, on small screens, with names that want to be more than text.
import { test, before, after } from "node:test";
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync, mkdirSync } from "node:fs";
import { BASE, api, close, complaints, eventually, firstRun, launch, open, overflow, settled } from "./harness.mjs";
import { everyPage } from "./pages.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PICTURES = process.env.LONGHAUL_PICTURES;
if (PICTURES) mkdirSync(PICTURES, { recursive: true });

let browser;
let pages;
before(async () => {
  browser = await launch();
  pages = await everyPage();
});
after(() => browser.close());

/** Findings that keep people out, each with the places. */
async function findings(page) {
  // A policy that allows no scripts in pages holds for this one as well: it comes by the debugger's door.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.target} ${node.any[0]?.message ?? ""}`).join("; ")}`);
}

const WIDTHS = [[1440, 900], [390, 844]];

for (const theme of ["light", "dark"]) {
  test(`every page is open to all, and no wider than its window, ${theme}`, async () => {
    const page = await open(browser, "/", { theme });
    const found = [];
    for (const [name, path] of pages) {
      await page.setViewportSize({ width: 1440, height: 900 });
      await page.goto(BASE + path);
      await settled(page);
      found.push(...(await findings(page)).map((finding) => `${name}: ${finding}`));
      for (const [width, height] of WIDTHS) {
        await page.setViewportSize({ width, height });
        await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
        if ((await overflow(page)) > 0) found.push(`${name} at ${width}: ${await overflow(page)} pixels too wide`);
        if (PICTURES) await page.screenshot({ path: `${PICTURES}/${name}-${width}-${theme}.png` });
      }
    }
    assert.deepEqual(found, []);
    await close(page);
  });
}

test("dialogs, the palette and the help are as good", async () => {
  const page = await open(browser, "/runs");
  await page.keyboard.press("Control+k");
  await page.getByRole("combobox", { name: /find a run/ }).waitFor();
  assert.deepEqual(await findings(page), []);
  await page.keyboard.press("Escape");
  await page.keyboard.press("?");
  await page.getByRole("heading", { name: "Keyboard shortcuts" }).waitFor();
  assert.deepEqual(await findings(page), []);
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Act on all that is found" }).click();
  await page.getByRole("menuitem", { name: /^Cancel/ }).click();
  await page.locator("dialog[open] form").waitFor();
  assert.deepEqual(await findings(page), []);
  await close(page);
});

test("hostile names are text, stand where they should, and break no page", async () => {
  const names = await eventually("the hostile runs", async () => {
    const { runs } = await api("runs?flow=mail.send&error=" + encodeURIComponent("hostile") + "&limit=20");
    return runs.length >= 6 && runs.map((run) => run.name);
  });
  assert.ok(names.some((name) => name.includes("<img")));
  for (const width of [1440, 390]) {
    const page = await open(browser, "/runs?error=hostile&flow=mail.send", { width });
    await page.locator("tbody tr").nth(5).waitFor();
    const text = await page.locator("tbody").innerText();
    assert.ok(text.includes("<img src=x onerror="), "markup is shown as it was written");
    assert.ok(text.includes("⟨U+202E⟩"), "a turn of direction is written out");
    assert.ok(text.includes("⟨U+001B⟩"), "an escape is written out");
    assert.ok(!/[\u202a-\u202e\u2066-\u2069\u001b]/.test(text));
    assert.equal(await page.locator("main img, main script").count(), 0);
    assert.ok((await overflow(page)) <= 0);
    for (const row of await page.locator("tbody tr").all()) assert.ok((await row.boundingBox()).height < 90, "a name has no room to push others away");
    await close(page);
  }
  for (const name of names) {
    const run = await firstRun(`flow=mail.send&name=${encodeURIComponent(name.replace(/[\\%_]/g, "\\$&"))}`);
    const page = await open(browser, `/runs/${run.id}`, { width: 390 });
    assert.match(await page.title(), / · Longhaul$/);
    assert.ok((await overflow(page)) <= 0, name);
    assert.equal(await page.locator("main img, main script").count(), 0);
    await close(page);
  }
});

test("a payload of 10,000 characters is shown in part, and in full when asked", async () => {
  const run = await firstRun("name=a+payload%25");
  const page = await open(browser, `/runs/${run.id}?tab=data`);
  const input = page.getByRole("region", { name: "Input" });
  assert.ok((await input.innerText()).length < 2000);
  await input.getByRole("button", { name: "all 10,000 characters" }).first().click();
  assert.ok((await input.innerText()).includes("x".repeat(10_000)));
  assert.ok((await overflow(page)) <= 0);
  await close(page);
});

test("the theme is the system's, can be chosen, and is remembered", async () => {
  const page = await open(browser, "/doctor", { theme: "dark" });
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await ground();
  await page.getByRole("button", { name: "Theme: system; change it" }).click();
  await page.waitForFunction((before) => getComputedStyle(document.body).backgroundColor !== before, dark);
  const light = await ground();
  await page.reload();
  await settled(page);
  assert.equal(await ground(), light);
  await close(page);
});

test("no page complained", () => {
  assert.deepEqual(complaints, []);
});
