// The sound of one call in the page: microphone or recording on one side, speaker on the other.

/** Why there is no microphone, in words for the caller. */
export const NO_MICROPHONE = {
  insecure: "A browser gives the microphone only to pages of https or localhost. You can type instead.",
  denied: "The browser was not allowed to use the microphone. You can type instead, or allow it and call again.",
  absent: "No microphone was found. You can type instead, or play a recording.",
  lost: "The microphone is gone. You can go on by typing.",
};

/** Ask for the microphone; return its stream, or the reason (a key of NO_MICROPHONE) why there is none. */
export async function microphone() {
  if (!navigator.mediaDevices) return { reason: "insecure" };
  try {
    // The browser's own processing: without echo cancellation the agent would hear itself and stop.
    const audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
    return { stream: await navigator.mediaDevices.getUserMedia({ audio }) };
  } catch (error) {
    return { reason: error.name === "NotAllowedError" ? "denied" : "absent" };
  }
}

/** The sound of one call. */
export class Sound {
  /**
   * Open it; only behind a click, because browsers play nothing before one.
   *
   * @param {MediaStream | null} stream the microphone
   * @param handlers onFrame(bytes), onMark(name), onPeak(side, peak, at), onLost()
   */
  static async open(stream, handlers) {
    const context = new AudioContext({ latencyHint: "interactive" });
    await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
    await context.resume();
    return new Sound(context, stream, handlers);
  }

  constructor(context, stream, handlers) {
    this.context = context;
    this.stream = stream;
    this.recording = null;
    this.source = null;
    this.microphone = new AudioWorkletNode(context, "microphone", { outputChannelCount: [1] });
    this.speaker = new AudioWorkletNode(context, "speaker", { numberOfInputs: 0, outputChannelCount: [1] });
    // From the clock of the sound to that of the page: messages may come late and several at once.
    const began = performance.now() - context.currentTime * 1000;
    this.microphone.port.onmessage = ({ data }) => {
      handlers.onFrame(data.frame);
      handlers.onPeak("caller", data.peak, began + data.at * 1000);
    };
    this.speaker.port.onmessage = ({ data }) => {
      if ("mark" in data) handlers.onMark(data.mark);
      else if ("peak" in data) handlers.onPeak("agent", data.peak, began + data.at * 1000);
    };
    this.speaker.port.postMessage({ latency: context.outputLatency || context.baseLatency || 0 });
    // To the destination, although it is silent: a node that leads nowhere is not run.
    this.microphone.connect(context.destination);
    this.speaker.connect(context.destination);
    if (stream) {
      this.source = context.createMediaStreamSource(stream);
      this.source.connect(this.microphone);
      for (const track of stream.getTracks()) track.addEventListener("ended", () => handlers.onLost());
    }
  }

  play(bytes) {
    this.speaker.port.postMessage({ audio: bytes }, [bytes.buffer]);
  }

  mark(name) {
    this.speaker.port.postMessage({ mark: name });
  }

  clear() {
    this.speaker.port.postMessage({ clear: true });
  }

  mute(muted) {
    this.microphone.port.postMessage({ muted });
  }

  /** Play a recording into the line instead of the microphone, and softly to the speaker; return at its end. */
  async playRecording(url) {
    this.stopRecording();
    const data = await (await fetch(url)).arrayBuffer();
    const source = this.context.createBufferSource();
    source.buffer = await this.context.decodeAudioData(data);
    this.recording = source;
    if (this.source) this.source.disconnect();
    source.connect(this.microphone);
    const aside = new GainNode(this.context, { gain: 0.4 });
    source.connect(aside).connect(this.context.destination);
    const over = new Promise((resolve) => source.addEventListener("ended", resolve));
    source.start();
    await over;
    if (this.recording === source) this.stopRecording();
  }

  stopRecording() {
    if (!this.recording) return;
    this.recording.disconnect();
    this.recording = null;
    if (this.source) this.source.connect(this.microphone);
  }

  async close() {
    for (const node of [this.microphone, this.speaker]) node.port.postMessage({ end: true });
    for (const track of this.stream ? this.stream.getTracks() : []) track.stop();
    await this.context.close();
  }
}
