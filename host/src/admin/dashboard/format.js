// Numbers and times as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const precise = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const count = (number) => whole.format(number);

/** Requests a second. */
export const rate = (number) => (number >= 100 ? whole.format(number) : precise.format(number));

/** Microseconds in the unit that fits. */
export function took(us) {
  if (us === null || us === undefined) return "–";
  if (us < 1000) return `${whole.format(us)} µs`;
  if (us < 1e6) return `${precise.format(us / 1000)} ms`;
  if (us < 6e7) return `${precise.format(us / 1e6)} s`;
  return span(us / 1e6);
}

const UNITS = [
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];

/** Seconds in their largest unit. */
export function span(seconds) {
  const [unit, name] = UNITS.find(([unit]) => seconds >= unit) ?? [1, "s"];
  return `${Math.floor(seconds / unit)} ${name}`;
}

/** How long ago a time of the API is. */
export function ago(at) {
  const seconds = (Date.now() - Date.parse(at)) / 1000;
  return seconds < 5 ? "just now" : `${span(seconds)} ago`;
}

/** How long until a time of the API. */
export function until(at) {
  const seconds = (Date.parse(at) - Date.now()) / 1000;
  return seconds < 1 ? "now" : `in ${span(seconds)}`;
}

export const timeOfDay = (at) => clock.format(new Date(at));
export const dateAndTime = (at) => full.format(new Date(at));

export function bytes(size) {
  if (size < 1024) return `${size} B`;
  const [unit, name] = size < 1 << 20 ? [1024, "KiB"] : size < 1 << 30 ? [1 << 20, "MiB"] : [1 << 30, "GiB"];
  return `${precise.format(size / unit)} ${name}`;
}
