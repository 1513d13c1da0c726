// What all windows use to talk to the server: JSON by fetch, and one stream of events for each page.

/** The types of events that a stream may bring; EventSource wants to know them beforehand. */
export const EVENT_TYPES = [
  "call_started", "call_ended", "transcript_partial", "transcript_final", "llm_chunk", "tool_call_started",
  "tool_call_completed", "turn_started", "turn_ended", "interruption", "metrics_collected", "dtmf_received",
  "machine_detected", "recording_saved", "cost_reported", "user_speech_started", "user_speech_ended",
  "user_speech_eos", "agent_speech_started", "agent_speech_ended", "llm_token", "audio_out",
];

/** A request that the server refused, with its reason in words. */
export class Refused extends Error {
  constructor(status, why) {
    super(why);
    this.status = status;
  }
}

async function answered(response) {
  const text = await response.text();
  let value = null;
  try {
    value = JSON.parse(text);
  } catch {
    // A refusal may be a line of text.
  }
  if (!response.ok) {
    throw new Refused(response.status, (value && value.error) || text.trim() || `HTTP status ${response.status}`);
  }
  return value;
}

/** Return the JSON at a path that is relative to the page, so that a prefix of a proxy in front does not matter. */
export async function getJSON(path) {
  return answered(await fetch(path, { headers: { Accept: "application/json" }, cache: "no-store" }));
}

/** Send JSON; return the JSON of the answer. The browser adds the Origin that the server asks for. */
export async function postJSON(path, body = {}) {
  const headers = { "Content-Type": "application/json", Accept: "application/json" };
  return answered(await fetch(path, { method: "POST", headers, body: JSON.stringify(body) }));
}

/** Ask the server to delete what is at a path. */
export async function sendDelete(path) {
  return answered(await fetch(path, { method: "DELETE", headers: { Accept: "application/json" } }));
}

/**
 * Return a function that runs `work`, but never twice at once: what is asked for meanwhile is one more run behind it.
 * Requests that are sent by the clock would otherwise wait behind each other when the server is slow, and all others of
 * the page behind them: a browser has six connections to a host.
 */
export function oneAtATime(work) {
  let [running, again] = [false, false];
  return async () => {
    again = true;
    if (running) return;
    running = true;
    try {
      while (again) {
        again = false;
        await work();
      }
    } finally {
      running = false;
    }
  };
}

/** Milliseconds until a stream that the server refused is asked for again; doubled up to the longest. */
const FIRST_WAIT_MS = 2000;
const LONGEST_WAIT_MS = 30000;

/**
 * Follow a stream of events. The browser connects again by itself, and the server sends what was missed. After a status
 * other than 200, such as the 503 of a server that drains, the browser gives up; then this opens a new stream.
 *
 * @param {string} path relative to the page
 * @param {(record: object) => void} onRecord gets each record: seq, call_id, type, at_ms, time, data
 * @param {(open: boolean) => void} onState hears whether the stream is open
 * @returns {() => void} ends the stream
 */
export function followEvents(path, onRecord, onState = () => {}) {
  let source, timer;
  let wait = FIRST_WAIT_MS;
  const take = (message) => onRecord(JSON.parse(message.data));
  const open = () => {
    source = new EventSource(path);
    for (const type of EVENT_TYPES) source.addEventListener(type, take);
    source.addEventListener("open", () => {
      wait = FIRST_WAIT_MS;
      onState(true);
    });
    source.addEventListener("error", () => {
      onState(false);
      if (source.readyState !== EventSource.CLOSED) return;
      timer = setTimeout(open, wait);
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    });
  };
  open();
  return () => {
    clearTimeout(timer);
    source.close();
  };
}
