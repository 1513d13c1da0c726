// Which calls the list shows: filters in the page's address, as chips, and as the body of a search. Pure.
//
// Words and numbers of callers never stand in an address, not even behind "#": browsers keep addresses, and people send
// them to each other.

import { duration, money, outcome } from "./format.js";

export const OUTCOMES = [
  "completed", "caller_hung_up", "agent_hung_up", "transferred", "silence", "voicemail", "no_answer", "busy", "rejected", "failed", "cancelled",
];
export const NO_FILTERS = { outcome: "", since: "", until: "", min_duration: "", min_cost: "" };

const isDay = (text) => /^\d{4}-\d\d-\d\d$/.test(text) && !Number.isNaN(Date.parse(text));
const isAmount = (text) => text.trim() !== "" && Number.isFinite(Number(text)) && Number(text) >= 0;
const VALID = {
  outcome: (text) => OUTCOMES.includes(text), since: isDay, until: isDay, min_duration: isAmount, min_cost: isAmount,
};

/** Return the filters in an address behind "#"; what is not valid there is left out. */
export function filtersIn(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const kept = Object.keys(NO_FILTERS).map((name) => [name, given.get(name) ?? ""]);
  return Object.fromEntries(kept.map(([name, text]) => [name, VALID[name](text) ? text : ""]));
}

/** Return the address of filters: "#outcome=failed". */
export function addressOf(filters) {
  return `#${new URLSearchParams(Object.entries(filters).filter(([name, text]) => VALID[name](text)))}`;
}

// Noon, because a day may lack its first hour.
const day = (text) => new Intl.DateTimeFormat(undefined, { dateStyle: "medium" }).format(new Date(`${text}T12:00`));
const TEXTS = {
  outcome: (text) => `Outcome: ${outcome(text).text}`,
  since: (text) => `From ${day(text)}`,
  until: (text) => `To ${day(text)}`,
  min_duration: (text) => `At least ${duration(Number(text))}`,
  min_cost: (text) => `At least ${money(Number(text))}`,
};

/** Return the filters that are set, each with its name and its words. */
export function chipsOf(filters) {
  return Object.entries(filters).filter(([name, text]) => VALID[name](text)).map(([name, text]) => ({ name, text: TEXTS[name](text) }));
}

/** Return the beginning of a day of the viewer's zone, some days later, as the API takes instants. */
function instantOf(text, later = 0) {
  const [year, month, date] = text.split("-").map(Number);
  return new Date(year, month - 1, date + later).toISOString();
}

/** Return the body of a search: `typed` is words or a part of a number. */
export function searchOf(typed, filters, { cursor = "", limit }) {
  const body = { limit };
  const text = typed.trim();
  // Digits and what stands between them are a part of a number; all else is words.
  if (/^\+?[\d\s().-]+$/.test(text)) body.number = text.replace(/[^\d+]/g, "");
  else if (text) body.text = text;
  if (VALID.outcome(filters.outcome)) body.outcome = filters.outcome;
  if (isDay(filters.since)) body.since = instantOf(filters.since);
  // The last day is a whole one.
  if (isDay(filters.until)) body.until = instantOf(filters.until, 1);
  for (const name of ["min_duration", "min_cost"]) if (isAmount(filters[name])) body[name] = Number(filters[name]);
  if (cursor) body.cursor = cursor;
  return body;
}
