// A call's picture on a canvas: live, with the newest second at the right edge, or the whole call, to zoom and scroll.
//
//   const picture = new Picture(element, { onPlay, onSeek });
//   picture.show(timeline);            // a call that is over
//   picture.live(timeline, nowMs);     // a call that goes on; again whenever something has happened
//   picture.position(ms);              // where the recording plays; null: it does not
//
// `timeline` is the JSON of a CallTimeline. onPlay(ms) is called by the space bar, onSeek(ms) by a click. Colours are the
// CSS variables of base.css. All text of a call is drawn, or set as textContent: none of it can become HTML.

import { DARK, draw, HEIGHT, LEFT, LIGHT } from "./picture_drawing.js";
import { clock, instantOf, itemsOf, turnStarts } from "./picture_items.js";

export { HEIGHT };

const LIVE_SPAN_MS = 14_000;
const CLOSEST_MS_PER_PIXEL = 2;

export class Picture {
  #timeline = null;
  #items = [];
  #boxes = [];
  #start = 0;
  #msPerPixel = 10;
  #isLive = false;
  #follows = true;
  #now = 0;
  #nowSince = 0;
  #position = null;
  #selected = null;
  #hovered = null;
  #drag = null;
  #frame = 0;
  #colors = LIGHT;
  #stop = new AbortController();

  constructor(element, { onPlay = () => {}, onSeek = () => {} } = {}) {
    this.onPlay = onPlay;
    this.onSeek = onSeek;
    this.element = element;
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    Object.assign(this.canvas.style, { display: "block", width: "100%", height: `${HEIGHT}px`, touchAction: "pan-y" });
    this.details = document.createElement("p");
    this.details.setAttribute("aria-live", "polite");
    Object.assign(this.details.style, { minHeight: "3em", margin: "0.25rem 0", overflowWrap: "anywhere" });
    this.element.replaceChildren(this.#toolbar(), this.canvas, this.details);
    this.#motion = matchMedia("(prefers-reduced-motion: reduce)");
    this.#scheme = matchMedia("(prefers-color-scheme: dark)");
    this.#listen();
    this.#sizes = new ResizeObserver(() => this.#resized());
    this.#sizes.observe(this.canvas);
    this.#hint();
  }

  #motion;
  #scheme;
  #sizes;

  /** Show a call that is over, all of it. */
  show(timeline) {
    this.#isLive = false;
    this.#take(timeline, timeline.duration_ms);
    this.#whole();
  }

  /** Show a call that goes on; `nowMs` is its time now. What has ended is shown as a whole. */
  live(timeline, nowMs = timeline.duration_ms) {
    if (timeline.over) {
      const wasLive = this.#isLive;
      this.#isLive = false;
      this.#take(timeline, timeline.duration_ms);
      if (wasLive || this.#follows) this.#whole();
      return;
    }
    if (!this.#isLive) this.#msPerPixel = LIVE_SPAN_MS / this.#width();
    this.#isLive = true;
    this.#take(timeline, nowMs);
  }

  /** Show where the recording plays; null: nowhere. */
  position(ms) {
    this.#position = ms;
    if (ms !== null && !this.#isLive && (ms < this.#start || ms > this.#start + this.#width() * this.#msPerPixel)) {
      // A page at once, not a motion: the eye keeps its place.
      this.#scrollTo(ms - this.#width() * this.#msPerPixel * 0.1);
    }
    this.#redraw();
  }

  /** Let the page's part go: no listener and no frame is left. */
  destroy() {
    this.#stop.abort();
    this.#sizes.disconnect();
    cancelAnimationFrame(this.#frame);
    this.element.replaceChildren();
  }

  /** What is on the canvas, for tests: the texts with their boxes, and the part of the call that is shown. */
  get drawn() {
    return {
      start: this.#start, msPerPixel: this.#msPerPixel, left: LEFT, width: this.#width(), boxes: this.#boxes,
      selected: this.#selected?.details ?? "", live: this.#isLive,
    };
  }

  // Data ---------------------------------------------------------------------------------------------------------------
  #take(timeline, now) {
    this.#timeline = timeline;
    this.#now = now;
    this.#nowSince = performance.now();
    const selected = this.#selected;
    this.#items = itemsOf(timeline, now);
    // The same thing of the newer timeline: a tool that has answered is still the selected one.
    this.#selected = selected && (this.#items.find((item) => item.kind === selected.kind && item.start === selected.start) ?? null);
    this.#hovered = null;
    const turns = timeline.turns.length;
    this.canvas.setAttribute(
      "aria-label",
      `Picture of the call: ${clock(timeline.duration_ms)}, ${timeline.words.length} utterances, ${turns} turns, ` +
        `${timeline.tools.length} tool calls. Arrow keys step by turn, up and down through everything.`,
    );
    this.#redraw();
  }

  #time() {
    if (!this.#isLive) return this.#timeline?.duration_ms ?? 0;
    const since = performance.now() - this.#nowSince;
    // Without news the time goes on; with reduced motion it does in steps, with the news alone.
    return this.#motion.matches ? this.#now : this.#now + Math.min(since, 30_000);
  }

  // View ---------------------------------------------------------------------------------------------------------------
  #width() {
    return Math.max(80, this.canvas.clientWidth - LEFT);
  }

  #whole() {
    this.#follows = true;
    this.#msPerPixel = Math.max(CLOSEST_MS_PER_PIXEL, (this.#time() || 1000) / this.#width());
    if (this.#isLive) this.#msPerPixel = LIVE_SPAN_MS / this.#width();
    this.#scrollTo(0);
  }

  #scrollTo(start) {
    const room = Math.max(0, this.#time() - this.#width() * this.#msPerPixel);
    this.#start = Math.min(Math.max(0, start), room);
    this.#redraw();
  }

  #zoom(factor, at = this.#start + (this.#width() * this.#msPerPixel) / 2) {
    const longest = Math.max(this.#time() || 1000, this.#isLive ? LIVE_SPAN_MS : 0);
    const widest = Math.max(CLOSEST_MS_PER_PIXEL, longest / this.#width());
    const share = (at - this.#start) / this.#msPerPixel;
    this.#msPerPixel = Math.min(widest, Math.max(CLOSEST_MS_PER_PIXEL, this.#msPerPixel * factor));
    // A live picture that follows the call goes on doing so, nearer or from farther away.
    if (!this.#isLive) this.#follows = false;
    this.#scrollTo(at - share * this.#msPerPixel);
  }

  #resized() {
    const ratio = devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    this.canvas.width = Math.max(1, Math.round(width * ratio));
    this.canvas.height = Math.round(HEIGHT * ratio);
    if (this.#timeline && this.#follows) this.#whole();
    this.#redraw();
  }

  #ms(x) {
    return this.#start + (x - LEFT) * this.#msPerPixel;
  }

  // The page -----------------------------------------------------------------------------------------------------------
  #toolbar() {
    const bar = document.createElement("div");
    bar.setAttribute("role", "group");
    bar.setAttribute("aria-label", "View of the picture");
    Object.assign(bar.style, { display: "flex", gap: "0.5rem", justifyContent: "flex-end", marginBottom: "0.25rem" });
    const buttons = [
      ["−", "Zoom out", () => this.#zoom(1.6)],
      ["+", "Zoom in", () => this.#zoom(1 / 1.6)],
      ["Whole call", "Show the whole call", () => this.#whole()],
    ];
    for (const [text, label, act] of buttons) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.setAttribute("aria-label", label);
      button.addEventListener("click", act, { signal: this.#stop.signal });
      bar.append(button);
    }
    return bar;
  }

  #listen() {
    const on = (target, type, act, options = {}) => target.addEventListener(type, act, { signal: this.#stop.signal, ...options });
    on(this.canvas, "keydown", (event) => this.#key(event));
    on(this.canvas, "focus", () => this.#redraw());
    on(this.canvas, "blur", () => this.#redraw());
    on(this.canvas, "pointerdown", (event) => {
      this.#drag = { x: event.offsetX, start: this.#start, moved: false };
      this.canvas.setPointerCapture(event.pointerId);
    });
    on(this.canvas, "pointermove", (event) => this.#moved(event));
    on(this.canvas, "pointerup", (event) => this.#released(event));
    on(this.canvas, "pointercancel", () => { this.#drag = null; });
    on(this.canvas, "pointerleave", () => this.#hover(null));
    on(this.canvas, "wheel", (event) => this.#wheel(event), { passive: false });
    on(this.#scheme, "change", () => this.#redraw());
    on(this.#motion, "change", () => this.#redraw());
  }

  #wheel(event) {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      this.#zoom(event.deltaY > 0 ? 1.25 : 0.8, this.#ms(event.offsetX));
    } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
      // Only sideways: a wheel over the picture must still scroll the page.
      event.preventDefault();
      this.#follows = false;
      this.#scrollTo(this.#start + (event.deltaX || event.deltaY) * this.#msPerPixel);
    }
  }

  #moved(event) {
    if (!this.#drag) {
      this.#hover(this.#at(event.offsetX, event.offsetY));
      return;
    }
    const by = event.offsetX - this.#drag.x;
    // A finger is never quite still.
    if (Math.abs(by) > 4) this.#drag.moved = true;
    if (this.#drag.moved) {
      this.#follows = false;
      this.#scrollTo(this.#drag.start - by * this.#msPerPixel);
    }
  }

  #released(event) {
    const drag = this.#drag;
    this.#drag = null;
    if (!drag || drag.moved || !this.#timeline) return;
    const item = this.#at(event.offsetX, event.offsetY);
    this.#select(item);
    const box = this.#boxes.find((one) => one.item === item && one.text && event.offsetY >= one.y && event.offsetY < one.y + one.height);
    // On written words, the character says when; elsewhere the place does.
    const at = item?.kind === "words" && box
      ? instantOf(item, ((event.offsetX - box.left) / Math.max(1, box.right - box.left)) * box.text.length + box.first)
      : this.#ms(event.offsetX);
    this.onSeek(Math.min(Math.max(0, at), this.#time()));
  }

  #key(event) {
    if (!this.#timeline || event.altKey || event.ctrlKey || event.metaKey) return;
    const acts = {
      " ": () => this.onPlay(this.#position ?? this.#selected?.start ?? this.#start),
      ArrowRight: () => this.#step(1),
      ArrowLeft: () => this.#step(-1),
      ArrowDown: () => this.#stepItem(1),
      ArrowUp: () => this.#stepItem(-1),
      Home: () => this.#select(this.#items[0] ?? null, true),
      End: () => this.#select(this.#items.at(-1) ?? null, true),
      "+": () => this.#zoom(1 / 1.6),
      "-": () => this.#zoom(1.6),
      0: () => this.#whole(),
      Escape: () => this.#select(null),
    };
    const act = acts[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  /** Select the words with which the next or the previous turn begins. */
  #step(by) {
    const starts = turnStarts(this.#timeline);
    const here = this.#selected?.start ?? (by > 0 ? -1 : Infinity);
    const next = by > 0 ? starts.find((start) => start > here) : starts.findLast((start) => start < here);
    if (next === undefined) return;
    const item = this.#items.find((one) => one.kind === "words" && one.start === next) ?? this.#items.find((one) => one.start >= next);
    this.#select(item ?? null, true);
    this.onSeek(next);
  }

  #stepItem(by) {
    const here = this.#items.indexOf(this.#selected);
    const next = here < 0 ? (by > 0 ? 0 : this.#items.length - 1) : here + by;
    if (this.#items[next]) this.#select(this.#items[next], true);
  }

  #select(item, into = false) {
    this.#selected = item;
    const shown = this.#width() * this.#msPerPixel;
    if (item && into && (item.start < this.#start || item.start > this.#start + shown * 0.9)) {
      this.#follows = false;
      this.#scrollTo(item.start - shown * 0.1);
    }
    this.#hint();
    this.#redraw();
  }

  #hover(item) {
    if (item === this.#hovered) return;
    this.#hovered = item;
    this.#hint();
    this.#redraw();
  }

  #hint() {
    const item = this.#hovered ?? this.#selected;
    this.details.textContent = item?.details ?? "Point at anything, or use the arrow keys, to see its instant and its details.";
  }

  #at(x, y) {
    const found = this.#boxes.filter((box) => x >= box.left - 3 && x <= box.right + 3 && y >= box.y && y < box.y + box.height);
    // The narrowest: a mark is drawn over the words that surround it.
    found.sort((one, other) => one.right - one.left - (other.right - other.left));
    return found[0]?.item ?? null;
  }

  // Drawing ------------------------------------------------------------------------------------------------------------
  #redraw() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
      // Only while time goes on, and only for those who want motion.
      if (this.#isLive && !this.#motion.matches) this.#redraw();
    });
  }

  #draw() {
    const style = getComputedStyle(this.element);
    const known = Object.entries(this.#scheme.matches ? DARK : LIGHT);
    const colors = known.map(([name, color]) => [name, style.getPropertyValue(`--${name}`).trim() || color]);
    this.#colors = Object.fromEntries(colors);
    const now = this.#time();
    if (this.#isLive && this.#follows) this.#start = now - this.#width() * this.#msPerPixel;
    this.#boxes = draw(this.canvas.getContext("2d"), devicePixelRatio || 1, {
      timeline: this.#timeline, items: this.#items, start: this.#start, msPerPixel: this.#msPerPixel, width: this.#width(),
      now, reported: this.#now, isLive: this.#isLive, hovered: this.#hovered, selected: this.#selected,
      position: this.#position, colors: this.#colors,
    });
  }
}
