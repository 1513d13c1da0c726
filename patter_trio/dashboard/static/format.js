// How the dashboard writes numbers, times, money and phone numbers. Pure.

/** What has no value. */
export const NONE = "–";

const DAY_AND_TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const DAY_AND_MINUTE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });
const ZONE = new Intl.DateTimeFormat(undefined, { timeZoneName: "short" });

/** The zone in which times are written, such as "GMT+1". */
export const zone = ZONE.formatToParts(new Date()).find((part) => part.type === "timeZoneName")?.value ?? "";

/** Return a Unix time, in seconds, as day and time of the viewer's zone. */
export const moment = (unix) => DAY_AND_TIME.format(new Date(unix * 1000));

/** Return the same without seconds, for lists. */
export const minute = (unix) => DAY_AND_MINUTE.format(new Date(unix * 1000));

/** Return the time of day of a Unix time, with milliseconds. */
export const clockTime = (unix) => CLOCK.format(new Date(unix * 1000));

/** Return a duration in seconds as "12 s" or "3:05 min". */
export function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)}:${two(whole % 60)} min`;
  return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)} h`;
}

/** Return milliseconds with their unit. */
export const millis = (ms) => (ms === null || ms === undefined ? NONE : `${Math.round(ms).toLocaleString()} ms`);

/** Return an instant of a call, in ms, as seconds. */
export const instant = (ms) => `${(ms / 1000).toFixed(2)} s`;

/** Return US dollars as money; a call costs cents, so four digits. */
export function money(usd) {
  if (usd === null || usd === undefined) return NONE;
  const digits = { minimumFractionDigits: usd && usd < 1 ? 4 : 2, maximumFractionDigits: 4 };
  return new Intl.NumberFormat(undefined, { style: "currency", currency: "USD", ...digits }).format(usd);
}

/** Return a phone number as it is shown: its middle hidden unless `whole`. */
export function number(given, whole) {
  if (!given) return "withheld";
  if (whole) return given;
  const digits = given.replace(/\D/g, "");
  // Fewer digits are extensions: nothing of them is shown. Of the others, as logs do, the ends.
  if (digits.length < 7) return "•••";
  const last = digits.slice(-4);
  const first = digits.length >= 11 ? digits.slice(0, 4) : "";
  return `${given.startsWith("+") ? "+" : ""}${first}${"•".repeat(digits.length - first.length - 4)}${last}`;
}

/** Return an outcome in words; `bad` says whether something went wrong. */
export function outcome(name) {
  if (!name) return { text: "live", bad: false };
  return { text: name.replaceAll("_", " "), bad: name === "failed" };
}

/** Return a value of the application's as text. */
export function value(given) {
  if (given === null || given === undefined) return "";
  return typeof given === "string" ? given : JSON.stringify(given);
}
