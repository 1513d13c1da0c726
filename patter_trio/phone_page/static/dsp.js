// The sound of a telephone line: mu-law at 8 kHz, and the way between it and the rate of the sound card. Pure.

/** The rate of the line, in Hz. */
export const LINE_HZ = 8000;
/** The byte of mu-law silence. */
export const SILENCE = 0xff;

// ITU-T G.711: 14 bits, here scaled to 16. The bias makes the segments powers of two.
const BIAS = 132;
const CLIP = 32635;

/** Return the mu-law byte of a sample from -1 to 1. */
export function encode(sample) {
  let value = Math.round(sample * 32768);
  const sign = value < 0 ? 0x80 : 0;
  value = Math.min(Math.abs(value), CLIP) + BIAS;
  const exponent = 24 - Math.clz32(value);
  const mantissa = (value >> (exponent + 3)) & 0x0f;
  return ~(sign | (exponent << 4) | mantissa) & 0xff;
}

/** Each mu-law byte as a sample from -1 to 1. */
export const DECODED = Float32Array.from({ length: 256 }, (_, byte) => {
  const bits = ~byte & 0xff;
  const size = ((((bits & 0x0f) << 3) + BIAS) << ((bits >> 4) & 7)) - BIAS;
  return (bits & 0x80 ? -size : size) / 32768;
});

// A multiple of 6, so that the steps between 8 and 48 kHz fall on phases; for 44.1 kHz the nearest one is 52 dB away.
const PHASES = 480;
// Zero crossings of the filter on each side, at the lower rate: 2 ms. With this window 60 dB are reached 0.8 kHz behind
// the edge.
const REACH = 16;
// 3.4 kHz of 8: what a telephone line carries (ITU-T G.712).
const EDGE = 0.425;

/** A converter of rates with a low-pass (a windowed sinc), sample by sample; it holds sound back by 2 ms. */
export class Resampler {
  constructor(from, to) {
    const low = Math.min(from, to);
    this.step = from / to;
    this.reach = Math.ceil((REACH * from) / low);
    this.taps = 2 * this.reach;
    this.kernels = kernels(this.reach, (EDGE * low) / from);
    // Written twice, so that each window of it is one piece.
    this.past = new Float32Array(2 * this.taps);
    this.reset();
  }

  /** Forget all sound. */
  reset() {
    this.past.fill(0);
    this.newest = 0;
    this.at = 1;
  }

  shift(sample) {
    this.newest = (this.newest + 1) % this.taps;
    this.past[this.newest] = this.past[this.newest + this.taps] = sample;
    this.at -= 1;
  }

  value() {
    const kernel = this.kernels[Math.round(this.at * PHASES)];
    const end = this.newest + this.taps;
    let sum = 0;
    for (let back = 0; back < this.taps; back += 1) sum += this.past[end - back] * kernel[back];
    this.at += this.step;
    return sum;
  }

  /** Take a sample; call `emit` with each sample that follows from it. */
  push(sample, emit) {
    this.shift(sample);
    while (this.at < 1) emit(this.value());
  }

  /** Return the next sample; `next` gives as many as it takes. */
  pull(next) {
    while (this.at >= 1) this.shift(next());
    return this.value();
  }
}

/** Return the filter for each phase: the distances are in samples of the input, and the edge in cycles per sample. */
function kernels(reach, edge) {
  const taps = 2 * reach;
  return Array.from({ length: PHASES + 1 }, (_, phase) => {
    const kernel = Float64Array.from({ length: taps }, (__, back) => {
      const distance = back - reach + phase / PHASES;
      const turn = Math.PI * (distance / reach);
      // Blackman's window, centred.
      const window = Math.abs(distance) > reach ? 0 : 0.42 + 0.5 * Math.cos(turn) + 0.08 * Math.cos(2 * turn);
      const angle = 2 * Math.PI * edge * distance;
      return window * (angle === 0 ? 1 : Math.sin(angle) / angle);
    });
    const sum = kernel.reduce((total, part) => total + part, 0);
    return Float32Array.from(kernel, (part) => part / sum);
  });
}
