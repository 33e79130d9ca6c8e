// What an operator does with the console, from the first look to the last click.
import { test, before, after } from "node:test";
import assert from "node:assert/strict";
import { BASE, PATIENCE, api, close, complaints, eventually, firstRun, launch, open, settled } from "./harness.mjs";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

const state = (page, word) => page.locator(".run-head .state", { hasText: word }).first();
const main = (page) => page.locator("main");
const dialog = (page) => page.locator("dialog[open]");

test("a failed run is found among many, says why, is retried, and is watched as it finishes", async () => {
  const wanted = "globex, second half";
  await eventually("the failed import", async () => (await api(`runs?name=${encodeURIComponent(wanted)}&state=failed`)).runs.length);
  const page = await open(browser, "/runs");
  await page.getByRole("navigation", { name: "States" }).getByRole("link", { name: "Failed" }).click();
  await page.getByRole("searchbox").fill("globex, second");
  const row = page.locator("tbody tr", { hasText: wanted });
  await row.waitFor();
  assert.match(await row.innerText(), /column "ordered_at" .* is text, and not a time/);
  // The address says what is looked for.
  await page.waitForURL(/state=failed.*name=globex|name=globex.*state=failed/);
  await row.getByRole("link", { name: wanted }).click();
  await page.getByText("It failed in validate").waitFor();
  await main(page).getByText("is text, and not a time").first().waitFor();

  await page.getByRole("button", { name: "Retry" }).first().click();
  await page.locator(".toast", { hasText: "is being retried" }).waitFor();
  await state(page, "Running").or(state(page, "Completed")).waitFor();
  await state(page, "Completed").waitFor({ timeout: PATIENCE * 2 });
  await page.getByRole("button", { name: /^validate, Completed: .*attempt 3: failed.*attempt 4: completed/ }).waitFor();
  await page.goBack();
  await page.waitForURL(/state=failed/);
  assert.equal(await page.getByRole("searchbox").inputValue(), "globex, second");
  await close(page);
});

test("why a run does not move is the first thing that its page says", async () => {
  const stuck = await firstRun("flow=backup.volume&state=running");
  await eventually("the step that nobody takes", async () => (await api(`runs/${stuck.id}/why`)).some(({ why }) => why.includes("tape.write")));
  const page = await open(browser, `/runs/${stuck.id}`);
  const note = page.locator(".note").first();
  assert.match(await note.innerText(), /Why it does not move[\s\S]*no worker takes handler tape\.write/);
  await close(page);
});

test("a question is answered by name, and its run goes on", async () => {
  const run = await firstRun("flow=media.transcode&state=paused");
  const page = await open(browser, "/questions");
  const question = page.locator("article", { has: page.locator(`a[href="/runs/${run.id}"]`) });
  await question.getByRole("button", { name: "publish" }).click();
  await dialog(page).getByLabel("Your name, for the record").fill("anna");
  await dialog(page).getByRole("button", { name: "publish" }).click();
  await question.waitFor({ state: "detached" });
  await page.goto(`${BASE}/runs/${run.id}`);
  await state(page, "Completed").waitFor({ timeout: PATIENCE * 2 });
  await close(page);
});

test("an answer that the person may not give is refused with the reason, and nothing is lost", async () => {
  const asked = await eventually("a question for some only", async () => (await api("questions")).find((one) => one.may_answer));
  const page = await open(browser, `/runs/${asked.run}`, { expected: ["409", "422"] });
  await page.getByRole("button", { name: "accept" }).click();
  await dialog(page).getByLabel("Your name, for the record").fill("mallory");
  await dialog(page).getByRole("button", { name: "accept" }).click();
  await dialog(page).getByRole("alert").filter({ hasText: "mallory" }).waitFor();
  await page.keyboard.press("Escape");
  await dialog(page).waitFor({ state: "detached" });
  assert.ok((await api(`questions?run=${asked.run}`)).length, "the question is still open");
  await close(page);
});

test("a queue is paused, and the pause is taken back", async () => {
  const page = await open(browser, "/queues");
  const row = page.locator("tbody tr", { hasText: "media" });
  await row.getByRole("button", { name: "Pause media" }).click();
  await row.locator(".state", { hasText: "Paused" }).waitFor();
  assert.ok((await api("queues")).find((queue) => queue.name === "media").paused_at);
  await page.locator(".toast", { hasText: "Queue media is paused" }).getByRole("button", { name: "Undo" }).click();
  await row.locator(".state", { hasText: "Paused" }).waitFor({ state: "detached" });
  assert.equal((await api("queues")).find((queue) => queue.name === "media").paused_at, null);

  await page.goto(`${BASE}/audit?act=pause+queue`);
  await settled(page);
  assert.match(await main(page).innerText(), /pause queue/);
  await close(page);
});

test("a bulk cancel shows exactly which runs it will hit, and hits those", async () => {
  const page = await open(browser, "/runs?flow=backup.volume&state=running");
  const found = (await api("runs?flow=backup.volume&state=running")).runs;
  assert.ok(found.length >= 2);
  await page.getByRole("checkbox", { name: "Choose all of this page" }).check();
  await page.getByRole("region", { name: "What is chosen" }).getByRole("button", { name: "Cancel" }).click();
  const hits = dialog(page).getByRole("region", { name: "Runs that will be hit" });
  await hits.waitFor();
  assert.match(await dialog(page).innerText(), new RegExp(`${found.length} runs will be hit`));
  assert.equal(await hits.locator("tbody tr").count(), found.length);
  for (const run of found) await hits.getByText(run.name, { exact: true }).waitFor();
  assert.equal((await api("runs?flow=backup.volume&state=running")).runs.length, found.length, "a preview does nothing");

  await dialog(page).getByLabel("Why").fill("the tape drive is gone");
  await dialog(page).getByRole("button", { name: "Cancel" }).click();
  await page.locator(".toast", { hasText: `${found.length} runs are cancelled` }).waitFor();
  for (const run of found) assert.equal((await api(`runs/${run.id}`)).state, "cancelled");
  const [last] = (await api("audit?act=stop+runs&limit=1")).acts;
  assert.equal(last.reason, "the tape drive is gone");
  await close(page);
});

test("a run is forked from a step with another input", async () => {
  const source = await firstRun("flow=shop.order&state=completed");
  const page = await open(browser, `/runs/${source.id}?step=charge`);
  await page.getByRole("button", { name: "Fork from here…" }).click();
  const input = dialog(page).getByLabel("Input");
  await input.fill("{ not JSON");
  await dialog(page).getByRole("button", { name: "Fork the run" }).click();
  await dialog(page).getByRole("alert").filter({ hasText: "not JSON" }).waitFor();
  await input.fill('{"order": 1, "total": 7.5}');
  await dialog(page).getByRole("button", { name: "Fork the run" }).click();
  await page.locator(".toast", { hasText: "The fork has started" }).getByRole("link", { name: "Look at it" }).click();
  await page.getByText("forked from").waitFor();
  await page.getByRole("link", { name: "compare" }).click();
  await page.locator(".marked .differs", { hasText: "7.5" }).first().waitFor();
  await close(page);
});

test("what cannot be done says why", async () => {
  const page = await open(browser, "/runs/01a20000-0000-7000-8000-000000000000", { expected: ["404"] });
  await page.getByRole("alert").filter({ hasText: "there is no run" }).waitFor();
  await page.getByRole("button", { name: "Try again" }).waitFor();
  await close(page);
});

test("everything is reached by keys alone", async () => {
  const page = await open(browser, "/");
  await page.keyboard.press("Control+k");
  await page.keyboard.type("dead let");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/dead-letters");
  await page.keyboard.press("g");
  await page.keyboard.press("r");
  await page.waitForURL("**/runs");
  await settled(page);
  await page.keyboard.press("j");
  await page.keyboard.press("x");
  await page.getByRole("region", { name: "What is chosen" }).getByText("1 chosen").waitFor();
  await page.keyboard.press("?");
  await dialog(page).getByRole("heading", { name: "Keyboard shortcuts" }).waitFor();
  await page.keyboard.press("Escape");
  await dialog(page).waitFor({ state: "detached" });
  const run = await firstRun("flow=cluster.rollout");
  await page.keyboard.press("Control+k");
  await page.keyboard.type(run.id.slice(0, 23));
  await dialog(page).getByRole("option").filter({ hasText: "cluster.rollout" }).first().waitFor();
  await page.keyboard.press("Escape");
  await page.evaluate(() => document.activeElement?.blur());
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await close(page);
});

test("nothing is asked while the page is hidden, or paused", async () => {
  const page = await open(browser, "/workers", { before: (page) => page.clock.install() });
  const asked = [];
  page.on("request", (request) => request.url().includes("/api/") && asked.push(request.url()));
  await page.clock.runFor(5000);
  await eventually("a request by itself", () => asked.length > 0);
  const hide = (hidden) => page.evaluate((is) => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => is });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await hide(true);
  await page.clock.runFor(100);
  asked.length = 0;
  await page.clock.runFor(120_000);
  assert.deepEqual(asked, []);
  await hide(false);
  await page.clock.runFor(5000);
  await eventually("a request by itself", () => asked.some((url) => url.includes("/events")));

  await page.getByRole("button", { name: "Pause live changes" }).click();
  await page.clock.runFor(100);
  asked.length = 0;
  await page.clock.runFor(120_000);
  assert.deepEqual(asked, []);
  await close(page);
});

test("no page complained", () => {
  assert.deepEqual(complaints, []);
});
