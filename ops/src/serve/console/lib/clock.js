// One clock: the server's. Answers carry its time; between them it goes on with the browser's.
import { signal } from "./ui.js";

/** By how many milliseconds the server is ahead. */
let ahead = 0;
let known = false;

/** The server's time in milliseconds; changes every second while the page is seen. */
export const now = signal(Date.now());

/** Notes the server's time, which stands in each of its answers in whole seconds. */
export const learn = (date) => {
  const time = Date.parse(date ?? "");
  if (Number.isNaN(time)) return;
  const found = time + 500 - Date.now();
  // Within the error of whole seconds nothing is moved: times that jump are read wrongly.
  if (!known || Math.abs(found - ahead) > 1500) {
    ahead = found;
    known = true;
    now.value = serverTime();
  }
};

/** The server's time now, in milliseconds. */
export const serverTime = () => Date.now() + ahead;

const tick = () => {
  if (!document.hidden) now.value = serverTime();
};
setInterval(tick, 1000);
document.addEventListener("visibilitychange", tick);
