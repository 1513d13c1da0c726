// Listening to a live call: a ticket, a WebSocket with the audio of both sides, and the speaker.

import { postJSON } from "../pages/api.js";
import { html, useEffect, useRef, useState } from "../pages/vendor/htm-preact.js";
import { failure } from "./failures.js";
import { samplesOf } from "./mulaw.js";

const RATE_HZ = 8000;
// Judged: what a network is late by, most of the time.
const LEAD_S = 0.2;
// Judged: beyond, what was late is left out, because a listener wants to hear the present.
const MAX_LEAD_S = 1;

/** Play pieces one behind the other: the caller on the left, the agent on the right. */
class Speaker {
  constructor() {
    this.context = new AudioContext();
    this.next = 0;
    /** Seconds of audio that were played, for tests. */
    this.played = 0;
  }

  play(bytes) {
    const half = bytes.length / 2;
    const now = this.context.currentTime;
    if (this.next > now + MAX_LEAD_S) return;
    if (this.next < now) this.next = now + LEAD_S;
    const sound = this.context.createBuffer(2, half, RATE_HZ);
    sound.copyToChannel(samplesOf(bytes.subarray(0, half)), 0);
    sound.copyToChannel(samplesOf(bytes.subarray(half)), 1);
    const source = this.context.createBufferSource();
    source.buffer = sound;
    source.connect(this.context.destination);
    source.start(this.next);
    this.next += sound.duration;
    this.played += sound.duration;
  }

  close() {
    return this.context.close();
  }
}

/** Listen to a call; `onEnd` gets why it has ended. Return what ends it. */
function listen(id, onBegin, onEnd) {
  // At once, because browsers let a page play only behind a click.
  const speaker = new Speaker();
  let socket = null;
  let closed = false;
  const end = (why) => {
    if (closed) return;
    closed = true;
    socket?.close();
    speaker.close();
    onEnd(why);
  };
  const open = async () => {
    try {
      const { ticket } = await postJSON(`../api/live/${encodeURIComponent(id)}/listen`);
      if (closed) return;
      const url = new URL(`../ws/listen/${encodeURIComponent(id)}`, location.href);
      url.protocol = url.protocol.replace("http", "ws");
      url.hash = "";
      socket = new WebSocket(url);
      socket.binaryType = "arraybuffer";
      socket.addEventListener("open", () => socket.send(JSON.stringify({ ticket })));
      socket.addEventListener("message", ({ data }) => {
        speaker.play(new Uint8Array(data));
        onBegin(speaker);
      });
      socket.addEventListener("close", ({ reason }) => end(`Listening has ended: ${reason || "the connection was lost"}.`));
    } catch (error) {
      end(`You cannot listen: ${failure(error)}`);
    }
  };
  open();
  return () => end("");
}

export function Listen({ id }) {
  const [told, setTold] = useState("");
  const [state, setState] = useState("off");
  const stop = useRef(() => {});
  useEffect(() => () => stop.current(), [id]);
  const begin = () => {
    setState("opening");
    setTold("The audio is being opened.");
    stop.current = listen(id, () => {
      setState("on");
      setTold("You hear the call: the caller on the left, the agent on the right, half a second late.");
    }, (why) => {
      setState("off");
      setTold(why);
    });
  };
  return html`<div class="listen">
    <button type="button" aria-pressed=${String(state !== "off")} onClick=${() => (state === "off" ? begin() : stop.current())}>Listen</button>
    <span role="status" class="told">${told}</span>
  </div>`;
}
