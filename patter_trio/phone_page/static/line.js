// The media stream of one call: the page's side of the protocol in patter_trio/wire/browser.py.

const NORMAL = 1000;

/** Return the bytes of base64. */
export function bytesOf(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** Return bytes as base64. */
export function base64Of(bytes) {
  return btoa(String.fromCharCode(...bytes));
}

/** The media stream of one call, from its ticket to its end. */
export class Line {
  /**
   * @param {{call_id: string, ticket: string}} ticket from POST calls
   * @param handlers onOpen(), onAudio(bytes), onMark(name), onClear(), onClosed(code, reason)
   */
  constructor(ticket, handlers) {
    // Relative to the page, so that a prefix of a proxy in front does not matter.
    const url = new URL(`../ws/browser/stream/${encodeURIComponent(ticket.call_id)}`, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(url);
    this.socket.onopen = () => {
      this.send({ event: "start", ...ticket });
      handlers.onOpen();
    };
    this.socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.event === "media") handlers.onAudio(bytesOf(message.payload));
      else if (message.event === "mark") handlers.onMark(message.name);
      else if (message.event === "clear") handlers.onClear();
    };
    this.socket.onclose = ({ code, reason }) => handlers.onClosed(code, reason);
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  audio(bytes) {
    this.send({ event: "media", payload: base64Of(bytes) });
  }

  mark(name) {
    this.send({ event: "mark", name });
  }

  press(digit) {
    this.send({ event: "dtmf", digit });
  }

  /** Hang up; also while the page goes away, when nothing may wait. */
  hangUp() {
    this.send({ event: "stop" });
    this.socket.close(NORMAL);
  }
}
