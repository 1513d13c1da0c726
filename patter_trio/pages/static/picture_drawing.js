// The drawing of a call's picture on a canvas: lanes with words and sound, waits, tools and marks. It keeps no state.

import { clock, loudness, tickOf, tracksOf } from "./picture_items.js";

const LANE = 44;
const AXIS = 20;
const LINE = 16;
const TEXT_LINES = 2;
const LABEL_TRACKS = 5;
export const LEFT = 56;
const TOP = 8;
const CALLER_WORDS = TOP;
const CALLER = CALLER_WORDS + TEXT_LINES * LINE + 6;
const AGENT = CALLER + LANE + AXIS;
const AGENT_WORDS = AGENT + LANE + 6;
const LABELS = AGENT_WORDS + TEXT_LINES * LINE + 6;
/** Ticks for what has no room for a text. */
const STRIP = LABELS + LABEL_TRACKS * LINE + 2;
const STRIP_HEIGHT = 6;
export const HEIGHT = STRIP + STRIP_HEIGHT + 4;
/** From here on a second is so narrow that waits and results would only be noise: their texts are left out. */
const DENSE_MS_PER_PIXEL = 100;
/** What is written first where not all fits: failures, then marks, tools, waits. */
const RANK = { cut: 1, mark: 1, tool: 2, wait: 3 };

const FONT = '12px system-ui, "DejaVu Sans", sans-serif';
/** The colours without base.css; its variables of the same names replace them. */
export const LIGHT = {
  paper: "#ffffff", panel: "#f6f7f9", line: "#d5d9e0", ink: "#1b1f27", quiet: "#565d6b", caller: "#2b78b8",
  agent: "#d9822b", "caller-ink": "#1f5f96", "agent-ink": "#94520f", bad: "#b3261e", wait: "#8a93a3", focus: "#1f5f96",
};
export const DARK = {
  paper: "#12151b", panel: "#1b2029", line: "#343b48", ink: "#e8ebf0", quiet: "#a7b0bf", caller: "#4c9ddf",
  agent: "#e79a4a", "caller-ink": "#7dbbee", "agent-ink": "#f0b06b", bad: "#ff9d94", wait: "#707a8a", focus: "#7dbbee",
};
const WAIT_SHADES = { endpoint: 1, llm: 0.65, tts: 0.35 };

/**
 * Draw a scene, and return its boxes: what is where, for the pointer.
 *
 * A scene has timeline, items, start (ms at the left edge), msPerPixel, width (of the lanes, in pixels), now (the time of
 * the call), reported (its time in the newest timeline), isLive, hovered, selected, position and colors.
 */
export function draw(context, ratio, scene) {
  return new Drawing(scene).run(context, ratio);
}

function rankOf(item) {
  return item.bad ? 0 : RANK[item.kind];
}

class Drawing {
  constructor(scene) {
    Object.assign(this, scene);
    this.boxes = [];
  }

  run(context, ratio) {
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = this.colors.paper;
    context.fillRect(0, 0, LEFT + this.width, HEIGHT);
    if (!this.timeline) return this.boxes;
    context.font = FONT;
    context.textBaseline = "alphabetic";
    this.frames(context, this.now);
    context.save();
    context.beginPath();
    context.rect(LEFT, 0, this.width, HEIGHT);
    context.clip();
    this.sound(context, "caller", CALLER, this.now);
    this.sound(context, "agent", AGENT, this.now);
    this.words(context, "caller", CALLER_WORDS);
    this.words(context, "agent", AGENT_WORDS);
    this.labels(context);
    this.lines(context);
    context.restore();
    return this.boxes;
  }

  x(ms) {
    return LEFT + (ms - this.start) / this.msPerPixel;
  }

  frames(context, now) {
    const colors = this.colors;
    const right = Math.min(this.x(now), LEFT + this.width);
    context.fillStyle = colors.panel;
    // A live call that is shorter than the picture begins in the middle of it: its newest second is at the right edge.
    const left = Math.max(LEFT, this.x(0));
    for (const top of [CALLER, AGENT]) context.fillRect(left, top, Math.max(0, right - left), LANE);
    context.fillStyle = colors.ink;
    context.textAlign = "right";
    context.fillText("caller", LEFT - 8, CALLER + LANE / 2 + 4);
    context.fillText("agent", LEFT - 8, AGENT + LANE / 2 + 4);
    context.textAlign = "left";
    const tick = tickOf(this.msPerPixel);
    for (let at = Math.max(0, Math.ceil(this.start / tick) * tick); this.x(at) <= right; at += tick) {
      const x = Math.round(this.x(at));
      context.fillStyle = colors.line;
      context.fillRect(x, CALLER, 1, AGENT + LANE - CALLER);
      const label = at < 60_000 ? `${at / 1000} s` : clock(at).replace(/\.\d$/, "");
      // At the edge a label would be cut in two.
      if (x + 4 + context.measureText(label).width > LEFT + this.width) continue;
      context.fillStyle = colors.quiet;
      context.fillText(label, x + 4, CALLER + LANE + 14);
    }
  }

  sound(context, lane, top, now) {
    const { peaks } = this.timeline;
    const middle = top + LANE / 2;
    context.fillStyle = this.colors[lane];
    const from = Math.max(0, this.start);
    const until = Math.min(now, this.start + this.width * this.msPerPixel);
    if (peaks) {
      // On a fixed grid of the call's time, so that the bars do not flicker while the picture moves.
      const bar = Math.max(2 * this.msPerPixel, peaks.step_ms);
      for (let at = Math.floor(from / bar) * bar; at < until; at += bar) {
        const half = Math.sqrt(loudness(peaks, lane, at, at + bar)) * (LANE / 2);
        if (half > 1) context.fillRect(this.x(at), middle - half, Math.max(1, bar / this.msPerPixel - 0.5), 2 * half);
      }
    }
    const words = this.timeline.words.filter((one) => one.lane === lane);
    const spans = lane === "caller" ? this.timeline.voices : words;
    for (const [number, one] of spans.entries()) {
      if (one.end_ms < from || one.start_ms > until) continue;
      const open = this.isLive && (one.open || (lane === "caller" && number === spans.length - 1 && one.end_ms >= this.reported));
      const width = Math.max(1, ((open ? now : one.end_ms) - one.start_ms) / this.msPerPixel);
      if (!peaks) context.fillRect(this.x(one.start_ms), middle - 7, width, 14);
    }
    if (lane === "agent") this.tails(context, words, middle, now);
  }

  /** Draw what was made of cut replies and not heard, as long as it would have taken. */
  tails(context, words, middle, now) {
    context.fillStyle = this.colors.wait;
    context.globalAlpha = 0.5;
    for (const [number, one] of words.entries()) {
      if (!one.cut || !one.unheard || !one.text) continue;
      const lasts = ((one.end_ms - one.start_ms) * one.unheard.length) / one.text.length;
      const end = Math.min(one.end_ms + lasts, words[number + 1]?.start_ms ?? now);
      context.fillRect(this.x(one.end_ms), middle - 4, Math.max(0, (end - one.end_ms) / this.msPerPixel), 8);
    }
    context.globalAlpha = 1;
  }

  words(context, lane, top) {
    const mine = this.items.filter((item) => item.kind === "words" && item.lane === lane);
    const edge = LEFT + this.width;
    for (const [number, item] of mine.entries()) {
      const following = mine[number + 1];
      // Words that began before the view are written at its left edge, as long as they are heard.
      const left = item.end > this.start ? Math.max(this.x(item.start), LEFT + 2) : this.x(item.start);
      const right = Math.min(following ? Math.max(this.x(following.start), left) - 8 : edge, edge);
      const lane_top = lane === "caller" ? CALLER : AGENT;
      this.box(item, this.x(item.start), this.x(item.end), lane_top, LANE);
      if (left >= edge || right - left < 18) continue;
      const pieces = [[item.text || (item.open ? "…" : ""), false], [item.unheard, true]];
      const lines = this.wrapped(context, pieces, right - left);
      const first = lane === "caller" ? top + (TEXT_LINES - lines.length) * LINE : top;
      lines.forEach((line, row) => this.line(context, item, line, left, first + row * LINE));
    }
  }

  /** Return words in lines of runs; what does not fit ends with "…". */
  wrapped(context, pieces, room) {
    const words = pieces.flatMap(([text, struck]) => (text ? text.split(/\s+/).filter(Boolean).map((word) => ({ word, struck })) : []));
    const lines = [[]];
    let used = 0;
    const space = context.measureText(" ").width;
    let place = 0;
    for (const { word, struck } of words) {
      const wide = context.measureText(word).width;
      const gap = lines.at(-1).length ? space : 0;
      if (gap && used + gap + wide > room) {
        if (lines.length === TEXT_LINES) {
          this.shorten(context, lines.at(-1), room);
          return lines;
        }
        lines.push([]);
        used = 0;
      }
      const text = wide > room ? this.fitted(context, word, room) : word;
      lines.at(-1).push({ text, struck, at: place });
      // In a column that is narrower than a word, more words would be letters without a meaning.
      if (wide > room) return lines;
      place += word.length + 1;
      used += context.measureText(text).width + (lines.at(-1).length > 1 ? space : 0);
    }
    return lines[0].length ? lines : [];
  }

  shorten(context, line, room) {
    const text = () => line.map((piece) => piece.text).join(" ");
    while (line.length > 1 && context.measureText(`${text()} …`).width > room) line.pop();
    const last = line.at(-1);
    last.text = this.fitted(context, `${last.text} …`, room);
  }

  fitted(context, text, room) {
    if (context.measureText(text).width <= room) return text;
    let kept = text.slice(0, Math.ceil(room / 3));
    while (kept && context.measureText(`${kept}…`).width > room) kept = kept.slice(0, -1);
    return kept ? `${kept}…` : "";
  }

  line(context, item, pieces, left, top) {
    const colors = this.colors;
    const space = context.measureText(" ").width;
    let x = left;
    for (const [number, piece] of pieces.entries()) {
      const wide = context.measureText(piece.text).width;
      context.fillStyle = piece.struck ? colors.quiet : colors[`${item.lane}-ink`];
      context.fillText(piece.text, x, top + 12);
      // Struck only if it will never be heard: of an open reply, it is still to come.
      const goes_on = pieces[number + 1]?.struck ? space : 0;
      if (piece.struck && !item.open) context.fillRect(x, top + 8, wide + goes_on, 1);
      x += wide + space;
    }
    const text = pieces.map((piece) => piece.text).join(" ");
    this.box(item, left, x - space, top, LINE, text, pieces[0].at);
  }

  labels(context) {
    const edge = LEFT + this.width;
    const near = this.items.filter((item) => item.kind !== "words" && this.x(item.end) >= LEFT && this.x(item.start) <= edge);
    near.sort((one, other) => rankOf(one) - rankOf(other) || one.start - other.start);
    const places = near.map((item) => this.place(context, item, edge));
    const tracks = tracksOf(places.map(({ left, right }) => [left, right + 10]), LABEL_TRACKS);
    places.forEach((place, number) => {
      if (tracks[number] >= 0) this.label(context, place, LABELS + tracks[number] * LINE);
      else this.tick(context, place);
    });
  }

  /** Return where a label and its text go: to the right of its bar, else to the left, shortened to the greater room. */
  place(context, item, edge) {
    const point = item.kind === "mark" || item.kind === "cut";
    const start = Math.max(LEFT, this.x(item.start) - (point ? 3 : 0));
    const end = Math.min(edge, Math.max(start + (point ? 6 : 3), this.x(item.end)));
    const [before, behind] = [start - LEFT - 6, edge - end - 6];
    const dense = this.msPerPixel > DENSE_MS_PER_PIXEL && rankOf(item) > 1;
    const wanted = dense ? "" : this.fitted(context, item.text, 340);
    const wide = context.measureText(wanted).width;
    const flips = wide > behind && before > behind;
    const text = this.fitted(context, wanted, flips ? before : behind);
    const shown = context.measureText(text).width;
    const text_left = flips ? start - 6 - shown : end + 6;
    return { item, start, end, text, text_left, left: flips ? text_left : start, right: flips ? end : text_left + shown };
  }

  label(context, { item, start, end, text, text_left }, top) {
    const { colors } = this;
    if (item.kind === "wait") {
      let at = item.start;
      for (const [name, lasts] of item.parts) {
        context.globalAlpha = WAIT_SHADES[name];
        context.fillStyle = colors.quiet;
        context.fillRect(this.x(at), top + 3, Math.max(1, lasts / this.msPerPixel), 9);
        at += lasts;
      }
      context.globalAlpha = 1;
    } else if (item.kind === "tool") {
      context.fillStyle = item.bad ? colors.bad : colors.ink;
      context.fillRect(start, top + 3, end - start, 9);
    } else {
      context.fillStyle = this.colorOf(item);
      context.beginPath();
      context.arc(start + 3, top + 8, 3, 0, 2 * Math.PI);
      context.fill();
    }
    context.fillStyle = item.bad ? colors.bad : colors.quiet;
    context.fillText(text, text_left, top + 12);
    if (text) this.box(item, text_left, text_left + context.measureText(text).width, top, LINE, text);
    this.box(item, start, end, top, LINE);
  }

  /** Draw what has no room for a text as a tick: its text is in the details. */
  tick(context, { item, start, end }) {
    context.fillStyle = this.colorOf(item);
    context.globalAlpha = 0.7;
    context.fillRect(start, STRIP, Math.max(1, Math.min(end - start, 4)), STRIP_HEIGHT);
    context.globalAlpha = 1;
    this.box(item, start, Math.max(end, start + 2), STRIP, STRIP_HEIGHT);
  }

  colorOf(item) {
    if (item.bad) return this.colors.bad;
    return this.colors[item.lane] ?? this.colors.quiet;
  }

  lines(context) {
    const colors = this.colors;
    const height = AGENT + LANE - CALLER;
    context.fillStyle = colors.bad;
    const dense = this.msPerPixel > DENSE_MS_PER_PIXEL;
    for (const words of this.timeline.words) {
      // Of a long call, only through the agent's lane: otherwise nothing else would be seen.
      if (words.cut && dense) context.fillRect(this.x(words.end_ms), AGENT, 1, LANE);
      else if (words.cut) context.fillRect(this.x(words.end_ms) - 1, CALLER, 2, height);
    }
    for (const item of [this.hovered, this.selected]) {
      if (!item) continue;
      context.strokeStyle = colors.focus;
      context.lineWidth = item === this.selected ? 2 : 1;
      context.strokeRect(this.x(item.start) - 2, CALLER - 2, Math.max(4, this.x(item.end) - this.x(item.start) + 4), height + 4);
    }
    if (this.position !== null) {
      context.fillStyle = colors.ink;
      context.fillRect(this.x(this.position) - 1, TOP, 2, HEIGHT - TOP);
    }
  }

  box(item, left, right, y, height, text = "", first = 0) {
    this.boxes.push({ item, left, right, y, height, text, first });
  }
}
