// The small moving picture of a live call: who has spoken in the last seconds, the newest at the right edge.

import { html, useEffect, useRef } from "../pages/vendor/htm-preact.js";

const SPAN_MS = 20_000;
const WIDTH = 120;
const HEIGHT = 28;
// Judged: smooth enough for twenty seconds in 120 pixels, where a pixel lasts 167 ms.
const FRAME_MS = 170;

/** The speech of each live call, from the events since the page was opened. */
export class Speech {
  constructor() {
    this.calls = new Map();
  }

  /** Apply an event. */
  take({ call_id: id, type }) {
    if (type === "call_ended") this.calls.delete(id);
    const [, side, edge] = /^(user|agent)_speech_(started|ended)$/.exec(type) ?? [];
    if (!side) return;
    const spans = this.calls.get(id) ?? [];
    this.calls.set(id, spans);
    const now = performance.now();
    const open = spans.findLast((span) => span.side === side && span.to === null);
    if (edge === "started" && !open) spans.push({ side, from: now, to: null });
    if (edge === "ended" && open) open.to = now;
    while (spans.length && spans[0].to !== null && spans[0].to < now - SPAN_MS) spans.shift();
  }
}

function draw(canvas, spans) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = WIDTH * ratio;
  canvas.height = HEIGHT * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  context.fillStyle = colour("line");
  context.fillRect(0, HEIGHT / 2 - 0.5, WIDTH, 1);
  const now = performance.now();
  const x = (at) => WIDTH - ((now - at) / SPAN_MS) * WIDTH;
  for (const { side, from, to } of spans) {
    context.fillStyle = colour(side === "user" ? "caller" : "agent");
    const left = Math.max(0, x(from));
    context.fillRect(left, side === "user" ? 3 : HEIGHT / 2 + 3, Math.max(1, x(to ?? now) - left), 8);
  }
}

const shown = new Map();
let timer = 0;

// One timer for all pictures, and none without one. A hundred calls are more than a window shows at once.
function drawAll() {
  for (const [canvas, spansOf] of shown) {
    const { top, bottom } = canvas.getBoundingClientRect();
    if (bottom > 0 && top < innerHeight) draw(canvas, spansOf());
  }
}

function begin(canvas, spansOf) {
  shown.set(canvas, spansOf);
  draw(canvas, spansOf());
  // With reduced motion in steps of two seconds.
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  timer ||= setInterval(drawAll, still ? 2000 : FRAME_MS);
}

function end(canvas) {
  shown.delete(canvas);
  if (shown.size) return;
  clearInterval(timer);
  timer = 0;
}

/** The picture of one call. */
export function Strip({ speech, id, words }) {
  const place = useRef(null);
  useEffect(() => {
    const canvas = place.current;
    begin(canvas, () => speech.calls.get(id) ?? []);
    return () => end(canvas);
  }, [id]);
  return html`<canvas class="strip" ref=${place} role="img" aria-label=${words}></canvas>`;
}
