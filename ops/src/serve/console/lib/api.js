// The HTTP API. Errors are problems: what was wrong, in a sentence.
import { learn } from "./clock.js";
import { tenant, operator } from "./prefs.js";

/** What went wrong, for people. */
export class Problem extends Error {
  constructor(title, detail, status, kind) {
    super(detail || title);
    this.title = title;
    this.status = status;
    this.kind = kind;
  }
}

/** The address of something in the API, with a query; what is null, false or empty is left out. */
export const route = (path, query = {}) => {
  const pairs = Object.entries({ ...query, tenant: tenant.value }).filter(([, value]) => value != null && value !== "" && value !== false);
  const text = new URLSearchParams(pairs).toString();
  return `/api/v1/${path}${text ? `?${text}` : ""}`;
};

/** A part of a path. */
export const part = encodeURIComponent;

const problemOf = async (response) => {
  const body = await response.json().catch(() => null);
  return new Problem(body?.title ?? "The server could not answer", body?.detail ?? `It said ${response.status} ${response.statusText}.`, response.status, body?.type);
};

async function ask(url, options) {
  let response;
  try {
    response = await fetch(url, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer", "longhaul serve does not answer at this address. It may have been stopped, or the network is down.", 0);
  }
  learn(response.headers.get("date"));
  if (!response.ok) throw await problemOf(response);
  return response.status === 204 ? null : response.json();
}

/** Reads. */
export const get = (path, query, abort) => ask(route(path, query), { signal: abort, headers: { accept: "application/json" } });

/** Changes something. An answer that is lost and asked for again is done once. */
export const send = (method, path, { query, body, reason } = {}) => {
  const headers = { accept: "application/json", "content-type": "application/json", "idempotency-key": crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}` };
  // Who and why, for the record. Headers know only ASCII.
  if (operator.value) headers["x-by"] = encodeURIComponent(operator.value);
  if (reason) headers["x-reason"] = encodeURIComponent(reason);
  return ask(route(path, query), { method, headers, body: JSON.stringify(body ?? {}) });
};
