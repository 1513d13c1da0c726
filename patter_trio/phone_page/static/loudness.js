// The loudness of both sides of a live call, as the picture draws it: the peaks of a CallTimeline. Pure.

// As patter_trio/timeline/waveform.py: a syllable has several steps, and ten minutes fit before steps become longer.
const STEP_MS = 25;
const MAX_STEPS = 24_000;

export class Loudness {
  constructor() {
    this.stepMs = STEP_MS;
    this.lanes = { caller: [], agent: [] };
    /** The newest peak of each side, 0 to 1. */
    this.newest = { caller: 0, agent: 0 };
  }

  /** Add the greatest sample of a side, 0 to 1, that was heard until an instant, in ms of the call. */
  add(side, at, peak) {
    this.newest[side] = peak;
    if (!(at >= 0)) return;
    while (at >= this.stepMs * MAX_STEPS) this.coarsen();
    const lane = this.lanes[side];
    const step = Math.floor(at / this.stepMs);
    while (lane.length <= step) lane.push(0);
    lane[step] = Math.max(lane[step], Math.min(255, Math.floor(peak * 256)));
  }

  /** Make each step twice as long. */
  coarsen() {
    this.stepMs *= 2;
    for (const [side, lane] of Object.entries(this.lanes)) {
      this.lanes[side] = Array.from({ length: Math.ceil(lane.length / 2) },
        (_, step) => Math.max(lane[2 * step], lane[2 * step + 1] ?? 0));
    }
  }

  /** The peaks so far; they grow while the picture has them. */
  get peaks() {
    return { step_ms: this.stepMs, ...this.lanes };
  }
}
