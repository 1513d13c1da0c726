// The timeline of the page's call (patter_trio/timeline/call_timeline.py): asked for when something happened; its texts.

import { getJSON } from "../pages/api.js";

// Judged: as often as a reader can follow words that change.
const PAUSE_MS = 200;
// Of a long call the timeline is long: at most a quarter of the time goes into asking for it.
const PAUSES_PER_ANSWER = 3;

/** Asks for a call's timeline whenever something has happened, and never faster than it is worth. */
export class Follower {
  constructor(callId, onTimeline) {
    this.path = `timelines/${encodeURIComponent(callId)}`;
    this.onTimeline = onTimeline;
    this.wanted = false;
    this.busy = false;
    this.closed = false;
  }

  /** Something has happened: ask now, or at the end of the pause. */
  async ask() {
    this.wanted = true;
    if (this.busy) return;
    this.busy = true;
    while (this.wanted && !this.closed) {
      this.wanted = false;
      const began = performance.now();
      try {
        const timeline = await getJSON(this.path);
        if (!this.closed) this.onTimeline(timeline);
        this.closed ||= timeline.over;
      } catch {
        // The call has not begun, or the server is gone: the next event asks again.
      }
      const took = performance.now() - began;
      await new Promise((resolve) => setTimeout(resolve, Math.max(PAUSE_MS, PAUSES_PER_ANSWER * took)));
    }
    this.busy = false;
  }

  close() {
    this.closed = true;
  }
}

/** Return a value of the application's as text. */
export const shownValue = (value) => (typeof value === "string" ? value : JSON.stringify(value) ?? "");

/** Return what the call has cost so far, in US dollars; null: it was not measured yet. */
export function costOf(timeline) {
  return timeline.turns.findLast((turn) => turn.cost_usd !== null)?.cost_usd ?? null;
}

/** Return what happened in the order of time: words, keys, and what carriers and guardrails did. */
export function linesOf(timeline) {
  const words = timeline.words.map((one) => ({ at: one.start_ms, words: one }));
  const marks = timeline.marks.filter((mark) => mark.kind !== "hook" && mark.kind !== "hang_up")
    .map((one) => ({ at: one.at_ms, mark: one }));
  return [...words, ...marks].sort((one, other) => one.at - other.at);
}

const MARKS = {
  key: (text) => `pressed ${text}`,
  guardrail: (text) => `a guardrail blocked a sentence: ${text}`,
  vetoed: () => "a hook dropped these words",
  reply_failed: (text) => `the reply failed${text ? `: ${text}` : ""}`,
  machine: (text) => `answered by: ${text}`,
};

/** Return a mark in words. */
export const markText = ({ kind, text }) => (MARKS[kind] ?? ((words) => words))(text);

/** Return the call as plain text, to be kept. */
export function transcriptOf(timeline, file) {
  const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`.padStart(8);
  const who = { caller: "You  ", agent: "Agent" };
  const heard = ({ text, unheard, cut, open }) => {
    const rest = unheard && !open ? ` [made, not heard: ${unheard}]` : "";
    return `${text || "–"}${cut ? " [cut]" : ""}${rest}`;
  };
  const lines = linesOf(timeline).map(({ at, words, mark }) =>
    [at, words ? `${who[words.lane]}  ${heard(words)}` : `${who[mark.lane]}  (${markText(mark)})`]);
  const tools = timeline.tools.map((tool) => {
    const result = tool.error ? `failed: ${tool.error}` : tool.end_ms === null ? "no result" : shownValue(tool.result);
    return [tool.start_ms, `Tool   ${tool.name}(${shownValue(tool.arguments)}) → ${result}`];
  });
  const said = [...lines, ...tools].sort(([one], [other]) => one - other).map(([at, text]) => `${seconds(at)}  ${text}`);
  const cost = costOf(timeline);
  const facts = [
    file && `Agent: ${file}`, timeline.began && `Began: ${timeline.began}`,
    `Duration: ${seconds(timeline.duration_ms).trim()}`, timeline.outcome && `Outcome: ${timeline.outcome.replaceAll("_", " ")}`,
    timeline.error && `Error: ${timeline.error}`, cost !== null && `Cost: ${cost.toFixed(4)} USD`,
  ];
  return `${facts.filter(Boolean).join("\n")}\n\n${said.join("\n")}\n`;
}
