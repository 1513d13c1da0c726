// The state of the page: the program that is served, the call, and what the caller may do now. No view.

import { followEvents, getJSON, postJSON, Refused } from "../pages/api.js";
import { afterEvent, newCall } from "./call.js";
import { Levels } from "./lanes.js";
import { Line } from "./line.js";
import { microphone, NO_MICROPHONE, Sound } from "./sound.js";

// A second is short enough that "reloading" is read before the agent is gone. On loopback it costs nothing.
const LOOK_EVERY_MS = 1000;
// Close codes: RFC 6455, section 7.4.1. 1008 refuses the start of a stream.
const NORMAL = 1000;
const REFUSED = 1008;

/** What each phase says. */
export const PHASES = {
  idle: "Ready. The agent waits for your call.",
  microphone: "Asking for the microphone. Please allow it in the browser.",
  ringing: "Ringing …",
  connected: "Connected. Speak as on a telephone.",
  ending: "Hanging up …",
  gone: "The agent is gone: the server does not answer. This page waits for it.",
  reloading: "The program has changed and is loaded anew.",
};

export class Model {
  constructor(onChange) {
    this.onChange = onChange;
    this.state = {
      phase: "idle", note: "", program: null, call: null, began: null, muted: false, noMicrophone: "", playing: "",
      levels: new Levels(), ending: "",
    };
    this.line = null;
    this.sound = null;
    this.stopped = false;
  }

  set(change) {
    this.state = { ...this.state, ...change };
    this.onChange(this.state);
  }

  /** Begin to look at the program and at the events of its calls. */
  open() {
    this.unfollow = followEvents("../api/live/events", (record) => this.onRecord(record));
    addEventListener("pagehide", () => this.hangUp());
    this.look();
  }

  async look() {
    try {
      this.onProgram(await getJSON("program.json"));
    } catch {
      if (!["ringing", "connected", "ending"].includes(this.state.phase)) this.lost();
    }
    setTimeout(() => this.look(), LOOK_EVERY_MS);
  }

  onProgram(program) {
    const before = this.state.program;
    const anew = before && before.boot !== program.boot;
    if (program.reloading) {
      const note = `${program.file} has changed. The agent hangs up and is loaded anew.`;
      this.set({ program, note, phase: this.line ? this.state.phase : "reloading" });
    } else if (anew) {
      this.set({ program, phase: this.line ? this.state.phase : "idle", note: `${program.file} was loaded anew.` });
    } else if (["gone", "reloading"].includes(this.state.phase)) {
      this.set({ program, phase: "idle", note: "The agent is back." });
    } else if (JSON.stringify(before) !== JSON.stringify(program)) {
      this.set({ program });
    }
  }

  lost() {
    const reloading = this.state.program?.reloading;
    const phase = reloading ? "reloading" : "gone";
    if (this.state.phase !== phase) this.set({ phase, note: "" });
  }

  /** The instant of the call, in ms since its media began. */
  get now() {
    return this.state.began === null ? 0 : performance.now() - this.state.began;
  }

  // The call ---------------------------------------------------------------------------------------------------------
  async dial({ withMicrophone = true } = {}) {
    if (this.line || this.state.phase === "microphone" || this.state.phase === "ringing") return;
    this.set({
      phase: withMicrophone ? "microphone" : "ringing", note: "", noMicrophone: "", call: null, began: null,
      muted: false, playing: "", levels: new Levels(), ending: "",
    });
    const { stream = null, reason = "" } = withMicrophone ? await microphone() : {};
    this.set({ phase: "ringing", noMicrophone: reason ? NO_MICROPHONE[reason] : "" });
    try {
      const ticket = await postJSON("calls");
      this.set({ call: newCall(ticket.call_id) });
      this.sound = await Sound.open(stream, this.soundHandlers());
      this.line = new Line(ticket, this.lineHandlers());
    } catch (error) {
      for (const track of stream ? stream.getTracks() : []) track.stop();
      await this.over(error instanceof Refused ? `The line is busy: ${error.message}.` : "The server does not answer.");
    }
  }

  soundHandlers() {
    return {
      onFrame: (bytes) => this.line?.audio(bytes),
      onMark: (name) => this.line?.mark(name),
      onLevel: (side, level, at) => {
        if (this.state.began !== null) this.state.levels.add(side, at - this.state.began, level);
      },
      onLost: () => this.set({ noMicrophone: NO_MICROPHONE.lost }),
    };
  }

  lineHandlers() {
    return {
      onOpen: () => this.set({ began: performance.now() }),
      onAudio: (bytes) => {
        this.connected();
        this.sound?.play(bytes);
      },
      onMark: (name) => this.sound?.mark(name),
      onClear: () => this.sound?.clear(),
      onClosed: (code, reason) => this.over(this.why(code, reason)),
    };
  }

  connected() {
    if (this.state.phase === "ringing") this.set({ phase: "connected" });
  }

  why(code, reason) {
    if (this.state.phase === "ending") return "You have hung up.";
    if (code === NORMAL) return this.state.program?.reloading ? "" : "The agent has hung up.";
    if (code === REFUSED) return `The server refused the call: ${reason || "it is unknown"}.`;
    return "The agent is gone: the connection was lost in the call.";
  }

  async over(note) {
    const sound = this.sound;
    this.line = null;
    this.sound = null;
    const stopped = this.now;
    const phase = this.state.program?.reloading ? "reloading" : "idle";
    this.set({ phase, note: note || this.state.note, ending: stopped, playing: "" });
    await sound?.close();
  }

  hangUp() {
    if (!this.line) return;
    this.set({ phase: "ending" });
    this.line.hangUp();
  }

  mute() {
    const muted = !this.state.muted;
    this.sound?.mute(muted);
    this.set({ muted });
  }

  press(digit) {
    this.line?.press(digit);
  }

  async type(text) {
    try {
      await postJSON(`../api/live/${encodeURIComponent(this.state.call.id)}/text`, { text });
      return true;
    } catch (error) {
      // What was typed stays in the field.
      this.set({ note: `The text was not sent: ${error.message}` });
      return false;
    }
  }

  async play(recording) {
    this.set({ playing: recording.name });
    try {
      await this.sound?.playRecording(recording.url);
    } catch {
      this.set({ note: `The recording ${recording.name} cannot be played.` });
    }
    this.set({ playing: "" });
  }

  stopPlaying() {
    this.sound?.stopRecording();
    this.set({ playing: "" });
  }

  onRecord(record) {
    const { call } = this.state;
    if (!call || record.call_id !== call.id) return;
    // An agent that waits for the caller sends no sound: the event says that it has answered.
    if (record.type === "call_started") this.connected();
    this.set({ call: afterEvent(call, record) });
  }
}
