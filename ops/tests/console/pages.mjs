// Every page of the console, with something on it.
import { firstRun } from "./harness.mjs";

/** [name, address] of every page. */
export async function everyPage() {
  const failed = await firstRun("state=failed&flow=shop.order");
  const film = await firstRun("flow=media.transcode&state=paused");
  const stuck = await firstRun("flow=backup.volume");
  const done = await firstRun("flow=shop.order&state=completed");
  return [
    ["overview", "/"],
    ["runs", "/runs"],
    ["failed-runs", "/runs?state=failed"],
    ["run-failed", `/runs/${failed.id}`],
    ["run-question", `/runs/${film.id}`],
    ["run-stuck", `/runs/${stuck.id}`],
    ["run-timeline", `/runs/${failed.id}?tab=timeline`],
    ["run-data", `/runs/${failed.id}?tab=data`],
    ["run-children", `/runs/${failed.id}?tab=children`],
    ["compare", `/runs/${failed.id}/compare?with=${done.id}`],
    ["flows", "/flows"],
    ["flow", "/flows/shop.order"],
    ["queues", "/queues"],
    ["queue", "/queues/payments"],
    ["schedules", "/schedules"],
    ["schedule", "/schedules/heartbeat-mail"],
    ["signals", "/signals"],
    ["questions", "/questions"],
    ["dead-letters", "/dead-letters"],
    ["workers", "/workers"],
    ["locks", "/locks"],
    ["keys", "/keys"],
    ["retention", "/retention"],
    ["audit", "/audit"],
    ["doctor", "/doctor"],
    ["not-found", "/no/such/page"],
  ];
}
