// What a call's picture shows, as items with times and texts: pure functions of a CallTimeline (patter_trio/timeline).
//
// Times are milliseconds of call time. Nothing here touches the page, so that it can be tested by itself.

/** Return a time as people read it: "3.50 s", "1:12.0", "1:02:03". */
export function clock(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 60) return `${seconds.toFixed(2)} s`;
  const tenths = Math.round(seconds * 10);
  const whole = Math.floor(tenths / 10);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}.${tenths % 10}`;
}

/** Return a duration with its unit: "412 ms", "3.10 s". */
export function lasting(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

/** Return a value of the application's as a short text. */
export function shown(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "string") return value;
  const text = JSON.stringify(value);
  return text === "{}" ? "" : text;
}

const span = (one) => `${clock(one.start_ms)} to ${clock(one.end_ms)}`;

function ofWords(words) {
  const side = words.lane === "caller" ? "caller" : "agent";
  const heard = words.text || (words.open ? "…" : "");
  const rest = words.unheard ? ` — ${words.open ? "to come" : "made, not heard"}: “${words.unheard}”` : "";
  return {
    kind: "words",
    lane: words.lane,
    start: words.start_ms,
    end: words.end_ms,
    turn: words.turn,
    text: words.text,
    unheard: words.unheard,
    cut: words.cut,
    open: words.open,
    details: `${side}, ${span(words)}${words.cut ? ", cut" : ""}: “${heard}”${rest}`,
  };
}

/** Return the wait for a turn's answer with its parts, or null if it was not measured. */
function ofTurn(turn) {
  if (turn.voice_end_ms === null || turn.total_ms === null) return null;
  const parts = [
    ["endpoint", turn.endpoint_ms],
    ["llm", turn.llm_ms],
    ["tts", turn.tts_ms],
  ].filter(([, lasts]) => lasts !== null);
  const names = { endpoint: "end of the utterance", llm: "STT and LLM", tts: "TTS to wire" };
  const sum = parts.map(([name, lasts]) => `${names[name]} ${lasting(lasts)}`).join(", ");
  return {
    kind: "wait",
    start: turn.voice_end_ms,
    end: turn.voice_end_ms + turn.total_ms,
    turn: turn.index,
    text: `${(turn.total_ms / 1000).toFixed(2)} s`,
    parts,
    details: `turn ${turn.index}, ${clock(turn.voice_end_ms)}: the caller waited ${lasting(turn.total_ms)} (${sum})` +
      (turn.failed ? ", the reply failed" : "") +
      (turn.cost_usd === null ? "" : `; ${turn.cost_usd.toFixed(4)} USD so far`),
  };
}

function ofTool(tool, now) {
  const running = tool.end_ms === null;
  const took = running ? "running" : lasting(tool.end_ms - tool.start_ms);
  const result = tool.error ? `failed: ${tool.error}` : running ? "" : `→ ${shown(tool.result)}`;
  const text = [tool.name, shown(tool.arguments), result, took].filter(Boolean).join(" ");
  return {
    kind: "tool",
    start: tool.start_ms,
    end: running ? Math.max(now, tool.start_ms) : tool.end_ms,
    text,
    bad: Boolean(tool.error),
    details: `tool, ${clock(tool.start_ms)}: ${text}`,
  };
}

const MARKS = {
  key: (text) => `key ${text}`,
  guardrail: (text) => `guardrail ${text}`,
  hook: (text) => `hook ${text}`,
  vetoed: () => "words dropped",
  reply_failed: (text) => `reply failed${text ? `: ${text}` : ""}`,
  machine: (text) => `answered by: ${text}`,
};

function ofMark(mark) {
  const text = (MARKS[mark.kind] ?? ((words) => words))(mark.text);
  return {
    kind: "mark",
    lane: mark.lane,
    start: mark.at_ms,
    end: mark.at_ms,
    text,
    bad: ["guardrail", "reply_failed", "failed"].includes(mark.kind),
    details: `${mark.lane}, ${clock(mark.at_ms)}: ${text}`,
  };
}

function ofCut(cut) {
  const why = cut.reason ? ` (${cut.reason})` : "";
  const heard = cut.heard ? `heard: “${cut.heard}”` : "nothing was heard";
  return {
    kind: "cut",
    start: cut.at_ms,
    end: cut.at_ms,
    turn: cut.turn,
    text: `cut after ${lasting(cut.heard_ms)}${why}`,
    bad: true,
    details: `${clock(cut.at_ms)}: reply cut after ${lasting(cut.heard_ms)}${why}, ${heard}`,
  };
}

/** Return all items of a timeline by their beginning. */
export function itemsOf(timeline, now = timeline.duration_ms) {
  const items = [
    ...timeline.words.map(ofWords),
    ...timeline.turns.map(ofTurn).filter(Boolean),
    ...timeline.tools.map((tool) => ofTool(tool, now)),
    ...timeline.marks.map(ofMark),
    ...timeline.interruptions.map(ofCut),
  ];
  return items.sort((one, other) => one.start - other.start);
}

/** Return the instants at which the turns begin: the caller's words, or the first sound of a greeting. */
export function turnStarts(timeline) {
  return timeline.turns
    .map((turn) => {
      const mine = timeline.words.filter((words) => words.turn === turn.index);
      return mine.length ? Math.min(...mine.map((words) => words.start_ms)) : turn.start_ms;
    })
    .sort((one, other) => one - other);
}

/** Return the instant at which a character of words was said: they are spread over their time by their length. */
export function instantOf(item, character) {
  const letters = Math.max(1, item.text.length);
  return item.start + (item.end - item.start) * Math.min(1, Math.max(0, character / letters));
}

/** Return the greatest peak between two instants, 0 to 1. */
export function loudness(peaks, lane, start, end) {
  const values = peaks[lane];
  const first = Math.max(0, Math.floor(start / peaks.step_ms));
  const last = Math.min(values.length, Math.max(first + 1, Math.ceil(end / peaks.step_ms)));
  let greatest = 0;
  for (let step = first; step < last; step += 1) greatest = Math.max(greatest, values[step]);
  return greatest / 255;
}

/** Return the distance of the axis' labels: the first round one that is wide enough. */
export function tickOf(msPerPixel, minimum = 64) {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800].map((seconds) => seconds * 1000);
  return steps.find((step) => step / msPerPixel >= minimum) ?? steps.at(-1);
}

/** Put boxes [left, right] into tracks without overlaps, in this order; return each one's track, or -1 if none is free. */
export function tracksOf(boxes, count) {
  const tracks = Array.from({ length: count }, () => []);
  return boxes.map(([left, right]) => {
    const track = tracks.findIndex((taken) => taken.every(([begun, ended]) => right <= begun || ended <= left));
    if (track >= 0) tracks[track].push([left, right]);
    return track;
  });
}
