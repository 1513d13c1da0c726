// The two ends of the line in the audio thread: the microphone, and the speaker with its marks.

import { DECODED, encode, LINE_HZ, Resampler, SILENCE } from "./dsp.js";

// 20 ms, as carriers send.
const FRAME_SAMPLES = 160;
// The server sends 30 s ahead at most; beyond twice that a page would play what nobody waits for.
const MAX_QUEUED_SAMPLES = 60 * LINE_HZ;

/** The microphone: frames of mu-law at 8 kHz, silence included, each with its peak (the greatest sample, 0 to 1). */
class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, LINE_HZ);
    this.frame = new Uint8Array(FRAME_SAMPLES);
    this.filled = 0;
    this.peak = 0;
    this.muted = false;
    this.over = false;
    this.port.onmessage = ({ data }) => {
      if ("muted" in data) this.muted = data.muted;
      if (data.end) this.over = true;
    };
    this.take = (sample) => {
      const heard = this.muted ? 0 : sample;
      this.frame[this.filled] = this.muted ? SILENCE : encode(heard);
      this.filled += 1;
      this.peak = Math.max(this.peak, Math.abs(heard));
      if (this.filled === FRAME_SAMPLES) this.send();
    };
  }

  send() {
    this.port.postMessage({ frame: this.frame, peak: this.peak, at: currentTime }, [this.frame.buffer]);
    this.frame = new Uint8Array(FRAME_SAMPLES);
    this.filled = 0;
    this.peak = 0;
  }

  process([channels], [output]) {
    // Without a microphone, or a recording, there is no channel: the line carries silence, as a telephone's does.
    const length = output[0].length;
    for (let index = 0; index < length; index += 1) {
      let sum = 0;
      for (const channel of channels) sum += channel[index];
      this.resampler.push(channels.length ? sum / channels.length : 0, this.take);
    }
    return !this.over;
  }
}

/** The speaker: plays mu-law at 8 kHz in order; returns each mark when the sample before it was played, or cleared. */
class Speaker extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(LINE_HZ, sampleRate);
    this.chunks = [];
    this.offset = 0;
    this.queued = 0;
    this.taken = 0;
    this.accepted = 0;
    this.marks = [];
    this.leaving = [];
    this.latency = 0;
    this.peak = 0;
    this.measured = 0;
    this.over = false;
    this.port.onmessage = ({ data }) => this.obey(data);
    this.next = () => {
      const chunk = this.chunks[0];
      if (chunk === undefined) return 0;
      const sample = DECODED[chunk[this.offset]];
      this.offset += 1;
      this.queued -= 1;
      this.taken += 1;
      if (this.offset === chunk.length) {
        this.chunks.shift();
        this.offset = 0;
      }
      return sample;
    };
  }

  obey(command) {
    if (command.audio && this.queued + command.audio.length <= MAX_QUEUED_SAMPLES) {
      this.chunks.push(command.audio);
      this.queued += command.audio.length;
      this.accepted += command.audio.length;
    }
    if ("mark" in command) this.marks.push({ name: command.mark, behind: this.accepted });
    if ("latency" in command) this.latency = command.latency;
    if (command.clear) this.clear();
    if (command.ask) this.port.postMessage({ answer: command.ask, queued: this.queued });
    if (command.end) this.over = true;
  }

  /** Discard what was not played: the next sample is silence, and each mark comes back at once. */
  clear() {
    this.chunks = [];
    this.offset = 0;
    this.queued = 0;
    this.taken = this.accepted;
    this.resampler.reset();
    for (const { name } of [...this.leaving, ...this.marks]) this.port.postMessage({ mark: name });
    this.leaving = [];
    this.marks = [];
  }

  process(_, [output]) {
    const [first, ...others] = output;
    for (let index = 0; index < first.length; index += 1) {
      const sample = this.resampler.pull(this.next);
      first[index] = sample;
      this.peak = Math.max(this.peak, Math.abs(sample));
    }
    for (const other of others) other.set(first);
    this.returnMarks();
    this.measure(first.length);
    return !this.over;
  }

  returnMarks() {
    // From the queue to the ear: the filter and the way to the sound card.
    const heard = currentTime + this.latency + this.resampler.reach / LINE_HZ;
    while (this.marks.length && this.marks[0].behind <= this.taken) {
      this.leaving.push({ name: this.marks.shift().name, heard });
    }
    while (this.leaving.length && this.leaving[0].heard <= currentTime) {
      this.port.postMessage({ mark: this.leaving.shift().name });
    }
  }

  measure(length) {
    this.measured += length;
    if (this.measured < sampleRate / 50) return;
    this.port.postMessage({ peak: this.peak, at: currentTime });
    this.peak = 0;
    this.measured = 0;
  }
}

registerProcessor("microphone", Microphone);
registerProcessor("speaker", Speaker);
