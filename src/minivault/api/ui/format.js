// Numbers, sizes and times as people read them. Knows nothing of the page.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const PLAIN_TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });
const SHORT_TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const SHORT_DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

export const count = (value) => WHOLE.format(value);

export function plural(value, noun) {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

/** 11547040 -> "11.0 MiB" */
export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  while (value >= 1024 && step < units.length - 1) {
    value /= 1024;
    step += 1;
  }
  return `${value.toFixed(step && value < 100 ? 1 : 0)} ${units[step]}`;
}

/** 5770496 -> "5.8 M" */
export function scale(value) {
  if (value >= 1e9) return `${(value / 1e9).toFixed(1)} B`;
  return value >= 1e6 ? `${(value / 1e6).toFixed(1)} M` : count(value);
}

/** Milliseconds: 4.2 -> "4.2 ms", 1530 -> "1.53 s" */
export function ms(value) {
  if (value < 10) return `${value.toFixed(1)} ms`;
  return value < 1000 ? `${value.toFixed(0)} ms` : `${(value / 1000).toFixed(2)} s`;
}

/** Tokens a second. */
export function speed(value) {
  return `${value < 10 ? value.toFixed(1) : count(value)} tok/s`;
}

export function time(text) {
  return PLAIN_TIME.format(new Date(text));
}

/** Today a clock time, else the day. */
export function when(text) {
  const date = new Date(text);
  return date.toDateString() === new Date().toDateString() ? SHORT_TIME.format(date) : SHORT_DAY.format(date);
}

export function short(hash, length = 12) {
  const bare = hash.replace(/^sha256:/, "");
  return bare.length > length ? `${bare.slice(0, length)}…` : bare;
}
