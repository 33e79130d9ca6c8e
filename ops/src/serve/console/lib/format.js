// Numbers, times and lengths of time, each in one way.
const whole = new Intl.NumberFormat("en");
const one = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const brief = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** A number with its thousands apart. */
export const number = (value) => (value == null ? "–" : whole.format(value));

/** A number in little space. */
export const compact = (value) => (value == null ? "–" : Math.abs(value) < 10_000 ? one.format(value) : brief.format(value));

/** What was counted up to a number. */
export const counted = (value) => (value == null ? "–" : `${number(value.count)}${value.more ? "+" : ""}`);

const UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1000],
];

/** A length of time in two units at most. */
export const length = (ms) => {
  if (ms == null || Number.isNaN(ms)) return "–";
  const size = Math.max(0, ms);
  if (size < 1000) return `${Math.round(size)} ms`;
  if (size < 10_000) return `${one.format(size / 1000)} s`;
  for (const [index, [unit, of]] of UNITS.entries()) {
    if (size < of) continue;
    const count = Math.floor(size / of);
    const next = UNITS[index + 1];
    const rest = next ? Math.floor((size % of) / next[1]) : 0;
    return rest && count < 100 ? `${count} ${unit} ${rest} ${next[0]}` : `${count} ${unit}`;
  }
  return "0 s";
};

/** A length of time in one unit. */
const roughly = (ms) => {
  const size = Math.abs(ms);
  for (const [unit, of] of UNITS) {
    if (size >= of) return `${Math.floor(size / of)} ${unit}`;
  }
  return "0 s";
};

/** How long ago, or in how long. */
export const relative = (time, now) => {
  const away = Date.parse(time) - now;
  if (Math.abs(away) < 2000) return "now";
  return away < 0 ? `${roughly(away)} ago` : `in ${roughly(away)}`;
};

const exactly = new Intl.DateTimeFormat("en-GB", {
  year: "numeric", month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
  fractionalSecondDigits: 3, timeZoneName: "short",
});
const clockTime = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const hourTime = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const dayName = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "2-digit", month: "short" });

/** The exact time, with its zone. */
export const exact = (time) => exactly.format(new Date(time));
/** Hours, minutes and seconds. */
export const clock = (time) => clockTime.format(new Date(time));
/** Hours and minutes. */
export const hour = (time) => hourTime.format(new Date(time));
/** The day of the week, of the month, and the month. */
export const day = (time) => dayName.format(new Date(time));
/** Something in the right number. */
export const several = (count, name, names = `${name}s`) => `${number(count)} ${count === 1 ? name : names}`;
