// The state of the page: the program that is served, the call, and what the caller may do now. No view.

import { followEvents, getJSON, postJSON, Refused } from "../pages/api.js";
import { Chat } from "./chat.js";
import { Line } from "./line.js";
import { Loudness } from "./loudness.js";
import { microphone, NO_MICROPHONE, Sound } from "./sound.js";
import { Follower } from "./timeline.js";

// A second is short enough that "reloading" is read before the agent is gone. On loopback it costs nothing.
const LOOK_EVERY_MS = 1000;
// Judged: a greeting has begun by then; an agent without one listens.
const GREETING_MS = 4000;
// Judged: models of the local stack are loaded by then.
const LOADED_WITHIN_MS = 15_000;
const NOT_LOADED = "The program is not back yet. If it has a mistake, the terminal says which.";
// Close codes: RFC 6455, section 7.4.1. 1008 refuses the start of a stream.
const NORMAL = 1000;
const REFUSED = 1008;
const DRAFT = "patter-phone-draft";

/** The phases in which there is a call. */
export const LIVE = ["ringing", "connected", "ending"];

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

/** What "connected" says to a caller who cannot speak. */
export const CONNECTED = {
  text: "Connected in text. Type what you would say.",
  silent: "Connected without a microphone. Type, or play a recording.",
};

// What was typed belongs to this tab: it survives a reload of the page as well as one of the server.
const draftBefore = () => {
  try {
    return sessionStorage.getItem(DRAFT) ?? "";
  } catch {
    return "";
  }
};

export class Model {
  constructor(onChange) {
    this.onChange = onChange;
    this.state = {
      phase: "idle", note: "", program: null, call: null, began: null, muted: false, noMicrophone: "", playing: "",
      loudness: new Loudness(), ending: 0, inText: false, isSilent: false, timeline: null, pending: "", draft: draftBefore(),
    };
    // The call by voice has a line and its sound, the one in text a chat.
    this.line = null;
    this.sound = null;
    this.chat = null;
    this.follower = null;
    this.unfollow = () => {};
    this.waiting = null;
    this.lostSince = 0;
  }

  set(change) {
    this.state = { ...this.state, ...change };
    this.onChange(this.state);
  }

  /** Begin to look at the program. */
  open() {
    addEventListener("pagehide", () => this.hangUp());
    this.look();
  }

  async look() {
    // Durations and open words grow between the events, and the end may come a moment behind that of the connection.
    const { phase, timeline } = this.state;
    if (["connected", "ending"].includes(phase) || (timeline && !timeline.over)) this.follower?.ask();
    try {
      this.onProgram(await getJSON("program.json"));
    } catch {
      if (!LIVE.includes(this.state.phase)) this.lost();
    }
    setTimeout(() => this.look(), LOOK_EVERY_MS);
  }

  onProgram(program) {
    this.lostSince = 0;
    const before = this.state.program;
    const anew = before && before.boot !== program.boot;
    const inCall = LIVE.includes(this.state.phase);
    // The new program does not know the calls of the one before.
    if (anew && !inCall) this.follower?.close();
    if (program.reloading) {
      const note = `${program.file} has changed. The agent hangs up and is loaded anew.`;
      this.set({ program, note, phase: inCall ? this.state.phase : "reloading" });
    } else if (anew) {
      this.set({ program, phase: inCall ? this.state.phase : "idle", note: `${program.file} was loaded anew.` });
    } else if (["gone", "reloading"].includes(this.state.phase)) {
      this.set({ program, phase: "idle", note: "The agent is back." });
    } else if (JSON.stringify(before) !== JSON.stringify(program)) {
      this.set({ program });
    }
  }

  lost() {
    const phase = this.state.program?.reloading ? "reloading" : "gone";
    if (this.state.phase !== phase || !this.lostSince) {
      this.lostSince = performance.now();
      this.set({ phase, note: "" });
    } else if (phase === "reloading" && performance.now() - this.lostSince > LOADED_WITHIN_MS) {
      this.set({ note: NOT_LOADED });
    }
  }

  /** The instant of the call, in ms since it began. */
  get now() {
    return this.state.began === null ? 0 : performance.now() - this.state.began;
  }

  // The call ---------------------------------------------------------------------------------------------------------
  get isBusy() {
    return this.line !== null || this.chat !== null || ["microphone", ...LIVE].includes(this.state.phase);
  }

  begin(phase, inText) {
    this.follower?.close();
    this.follower = null;
    this.waiting = null;
    this.set({
      phase, inText, isSilent: false, note: "", noMicrophone: "", call: null, began: null, muted: false, playing: "",
      loudness: new Loudness(), ending: 0, timeline: null, pending: "",
    });
  }

  /** Call by voice; `recording` speaks once the agent has greeted. */
  async dial({ withMicrophone = true, recording = null } = {}) {
    if (this.isBusy) return;
    this.begin(withMicrophone ? "microphone" : "ringing", false);
    const { stream = null, reason = "" } = withMicrophone ? await microphone() : {};
    this.set({ phase: "ringing", isSilent: !stream, noMicrophone: NO_MICROPHONE[reason] ?? "" });
    // Before the ticket: no event of the call may be missed.
    this.unfollow = followEvents("../api/live/events", (record) => this.onRecord(record));
    try {
      const ticket = await postJSON("calls");
      this.called(ticket.call_id);
      this.waiting = recording;
      this.sound = await Sound.open(stream, this.soundHandlers());
      this.line = new Line(ticket, this.lineHandlers());
    } catch (error) {
      for (const track of stream ? stream.getTracks() : []) track.stop();
      await this.over(error instanceof Refused ? `The line is busy: ${error.message}.` : "The server does not answer.");
    }
  }

  /** Call in text: what is typed is what the caller says, and answers are read. */
  type() {
    if (this.isBusy) return;
    this.begin("ringing", true);
    this.chat = new Chat({
      onOpen: (callId) => {
        this.called(callId);
        this.set({ phase: "connected", began: performance.now() });
      },
      onRecord: (record) => this.onRecord(record),
      onClosed: ({ refused, lost }) => this.over(this.whyChat(refused, lost)),
    });
  }

  called(callId) {
    this.follower = new Follower(callId, (timeline) => this.onTimeline(timeline));
    this.set({ call: { id: callId } });
  }

  soundHandlers() {
    return {
      onFrame: (bytes) => this.line?.audio(bytes),
      onMark: (name) => this.line?.mark(name),
      onPeak: (side, peak, at) => {
        if (this.state.began !== null) this.state.loudness.add(side, at - this.state.began, peak);
      },
      onLost: () => this.set({ isSilent: true, noMicrophone: NO_MICROPHONE.lost }),
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
    if (this.state.phase !== "ringing") return;
    this.set({ phase: "connected" });
    const { call } = this.state;
    setTimeout(() => {
      const speaks = this.state.timeline?.words.some((one) => one.lane === "agent" && one.open);
      if (this.state.call === call && !speaks) this.playWaiting();
    }, GREETING_MS);
  }

  playWaiting() {
    const recording = this.waiting;
    this.waiting = null;
    if (recording && this.line) this.play(recording);
  }

  why(code, reason) {
    if (this.state.phase === "ending") return "You have hung up.";
    if (code === NORMAL) return this.state.program?.reloading ? "" : "The agent has hung up.";
    if (code === REFUSED) return `The server refused the call: ${reason || "it is unknown"}.`;
    return "The agent is gone: the connection was lost in the call.";
  }

  whyChat(refused, lost) {
    if (refused) return `The server refused the call: ${refused}.`;
    if (this.state.phase === "ending") return "You have hung up.";
    if (this.state.program?.reloading) return "";
    return lost ? "The agent is gone: the connection was lost in the call." : "The agent has hung up.";
  }

  async over(note) {
    const { sound, unfollow } = this;
    this.line = this.sound = this.chat = this.waiting = null;
    this.unfollow = () => {};
    unfollow();
    const phase = this.state.program?.reloading ? "reloading" : "idle";
    this.set({ phase, note: note || this.state.note, ending: this.now, playing: "", pending: "" });
    // The last event may have come a moment before the end: the picture of the whole call.
    if (this.state.timeline) this.follower.ask();
    await sound?.close();
  }

  hangUp() {
    if (!this.line && !this.chat) return;
    this.set({ phase: "ending" });
    if (this.line) this.line.hangUp();
    // The end of the stream ends the call, if this does not arrive.
    else this.chat.send({ hang_up: true }).catch(() => {});
  }

  mute() {
    const muted = !this.state.muted;
    this.sound?.mute(muted);
    this.set({ muted });
  }

  press(digit) {
    if (this.line) this.line.press(digit);
    else this.chat?.send({ keys: digit }).catch((error) => this.set({ note: `The key was not pressed: ${error.message}` }));
  }

  draft(text) {
    try {
      sessionStorage.setItem(DRAFT, text);
    } catch {
      // A browser may forbid it: then a reload of the page loses the text.
    }
    this.set({ draft: text });
  }

  async say() {
    const text = this.state.draft.trim();
    if (!text) return;
    try {
      if (this.chat) await this.chat.send({ text });
      else await postJSON(`../api/live/${encodeURIComponent(this.state.call.id)}/text`, { text });
      if (this.state.draft.trim() === text) this.draft("");
    } catch (error) {
      // What was typed stays in the field.
      const why = error instanceof Refused ? error.message : "the server does not answer";
      this.set({ note: `The text was not sent: ${why}` });
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

  onTimeline(timeline) {
    this.set({ timeline });
  }

  onRecord(record) {
    const { call, pending } = this.state;
    if (!call || record.call_id !== call.id) return;
    // An agent that waits for the caller sends no sound: the event says that it has answered.
    if (record.type === "call_started") this.connected();
    if (record.type === "agent_speech_ended") this.playWaiting();
    if (record.type === "agent_text") this.set({ pending: pending + record.data.text });
    if (record.type === "reply_ended" || (record.type === "transcript_final" && record.data.role === "assistant")) {
      this.set({ pending: "" });
    }
    this.follower?.ask();
  }
}
