// The live picture: the newest second at the right edge, caller above, agent below, turns and tools under them.

const WINDOW_MS = 16_000;
const PIXELS = { caller: 58, agent: 138, lane: 38, turns: 196, tools: 220, axis: 252, height: 268 };
// As loud as speech close to a microphone: it fills the lane.
const FULL_LEVEL = 0.22;
const PARTS = [["endpoint", "silent", "decided"], ["LLM", "decided", "token"], ["TTS", "token", "audio"],
  ["wire", "audio", "speech"]];

/** The levels of both sides, each with its instant in ms of the call, as far back as the picture shows. */
export class Levels {
  constructor() {
    this.caller = [];
    this.agent = [];
  }

  add(side, at, level) {
    const levels = this[side];
    levels.push({ at, level });
    while (levels.length && levels[0].at < at - WINDOW_MS - 1000) levels.shift();
  }
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["paper", "line", "ink", "quiet", "caller", "agent", "caller-ink", "agent-ink", "wait", "bad", "panel"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function fitted(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let shown = text;
  while (shown && context.measureText(`${shown}…`).width > width) shown = shown.slice(0, -1);
  return shown ? `${shown.trimEnd()}…` : "";
}

/** Draw a call into a canvas; `now` is in ms of the call. */
export function draw(canvas, call, levels, now) {
  const width = canvas.clientWidth;
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(PIXELS.height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(PIXELS.height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, PIXELS.height);
  const shades = colours();
  const start = Math.max(now, WINDOW_MS * 0.25) - WINDOW_MS;
  const x = (at) => ((at - start) / WINDOW_MS) * width;
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  drawAxis(context, shades, x, start, width);
  for (const side of ["caller", "agent"]) {
    drawWave(context, shades[side], levels[side], x, PIXELS[side]);
    drawWords(context, shades, call, side, x, now, width);
  }
  drawTurns(context, shades, call, x, now);
  drawTools(context, shades, call, x, now);
  context.font = "600 13px system-ui, sans-serif";
  for (const { at, digit } of call.keys) {
    context.fillStyle = shades["caller-ink"];
    context.fillText(digit, x(at), PIXELS.caller - 10);
  }
}

function drawAxis(context, shades, x, start, width) {
  context.strokeStyle = shades.line;
  context.fillStyle = shades.quiet;
  context.lineWidth = 1;
  for (let second = Math.max(0, Math.ceil(start / 1000)); x(second * 1000) <= width; second += 1) {
    const place = Math.round(x(second * 1000)) + 0.5;
    context.globalAlpha = second % 5 ? 0.45 : 1;
    context.beginPath();
    context.moveTo(place, 20);
    context.lineTo(place, PIXELS.axis - 10);
    context.stroke();
    context.globalAlpha = 1;
    if (second % 5 === 0) context.fillText(`${second} s`, place + 3, PIXELS.axis);
  }
  for (const side of ["caller", "agent"]) {
    context.beginPath();
    context.moveTo(0, PIXELS[side] + 0.5);
    context.lineTo(width, PIXELS[side] + 0.5);
    context.stroke();
  }
}

function drawWave(context, colour, levels, x, middle) {
  context.fillStyle = colour;
  const bar = Math.max(1, x(20) - x(0) - 0.5);
  for (const { at, level } of levels) {
    // A root, so that soft speech is seen beside loud speech.
    const height = Math.min(1, Math.sqrt(level / FULL_LEVEL)) * PIXELS.lane;
    if (height > 1) context.fillRect(x(at), middle - height / 2, bar, height);
  }
}

function drawWords(context, shades, call, side, x, now, width) {
  const y = side === "caller" ? PIXELS.caller - PIXELS.lane / 2 - 14 : PIXELS.agent + PIXELS.lane / 2 + 14;
  const shown = call.utterances.filter((one) => one.role === side);
  if (side === "caller" && call.partial) {
    shown.push({ from: call.voice?.from ?? call.partial.at, to: null, text: call.partial.text, partial: true });
  }
  shown.forEach(({ from, to, text, cut, partial }, index) => {
    const next = shown[index + 1];
    const left = Math.max(4, x(from));
    const right = next ? Math.min(width, x(next.from)) : width;
    if (right < 12 || x(to ?? now) < -width) return;
    context.fillStyle = shades[`${side}-ink`];
    context.globalAlpha = partial ? 0.8 : 1;
    const words = text ? `“${text}”${cut ? " ✂" : ""}` : "…";
    context.fillText(fitted(context, words, right - left - 8), left, y);
    context.globalAlpha = 1;
  });
}

function drawTurns(context, shades, call, x, now) {
  const shown = call.turns.filter((turn) => turn.silent !== undefined);
  for (const [number, turn] of shown.entries()) {
    let left = turn.silent;
    PARTS.forEach(([name, from, to], index) => {
      if (turn[from] === undefined && index) return;
      const open = turn[to] === undefined;
      // Words may be there before the decision: no part has less than no time.
      const right = open ? (turn.speech ?? turn.ended ?? Math.min(now, left + 15_000)) : Math.max(left, turn[to]);
      if (open && (index > 1 || turn.latency)) return;
      context.fillStyle = index % 2 ? shades.quiet : shades.wait;
      context.fillRect(x(left), PIXELS.turns - 5, Math.max(1, x(right) - x(left) - 1), 10);
      left = right;
    });
    const total = turn.latency?.total_ms ?? (turn.speech === undefined ? null : turn.speech - turn.silent);
    const label = total === null ? "" : `${(total / 1000).toFixed(2)} s`;
    const next = shown[number + 1];
    const room = (next ? x(next.silent) : Infinity) - x(left) - 8;
    // Whole or not at all: the table has the figure.
    if (x(left) > 0 && context.measureText(label).width <= room) {
      context.fillStyle = shades.ink;
      context.fillText(label, x(left) + 5, PIXELS.turns);
    }
  }
}

function drawTools(context, shades, call, x, now) {
  for (const { name, from, to, error } of call.tools) {
    const right = Math.max(x(to ?? now), x(from) + 6);
    context.fillStyle = shades.panel;
    context.strokeStyle = error ? shades.bad : shades.quiet;
    context.fillRect(x(from), PIXELS.tools - 8, right - x(from), 16);
    context.strokeRect(x(from) + 0.5, PIXELS.tools - 7.5, right - x(from) - 1, 15);
    context.fillStyle = error ? shades.bad : shades.ink;
    context.fillText(`${name}${error ? " failed" : ""}`, right + 5, PIXELS.tools);
  }
}

/** Describe the picture for those who do not see it. */
export function described(call) {
  const turns = call.turns.filter((turn) => turn.latency).length;
  return `The call as a picture: ${call.utterances.length} utterances, ${turns} turns, ${call.tools.length} tool calls. ` +
    "The same is in the lists below.";
}
