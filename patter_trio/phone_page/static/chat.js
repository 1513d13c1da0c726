// One call in text: a response that lasts as long as the call, and requests for what its caller does.

import { postJSON, Refused } from "../pages/api.js";

/** Yield the records of a stream of events (WHATWG HTML, section 9.2). */
async function* recordsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (waiting + value).split("\n\n");
    waiting = events.pop();
    for (const event of events) {
      const data = event.split("\n").find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice("data: ".length));
    }
  }
}

export class Chat {
  /** @param handlers onOpen(callId), onRecord(record), onClosed({ refused, lost }) */
  constructor(handlers) {
    this.handlers = handlers;
    this.ticket = null;
    this.run();
  }

  async run() {
    let [over, refused] = [false, ""];
    try {
      const response = await fetch("texts", { method: "POST", cache: "no-store" });
      if (!response.ok) throw new Refused(response.status, (await response.json()).error);
      for await (const record of recordsOf(response.body)) {
        if (record.type === "ticket") {
          this.ticket = record.data;
          this.handlers.onOpen(this.ticket.call_id);
        } else if (record.type === "refused") {
          refused = record.data.error;
        } else {
          over ||= record.type === "call_ended";
          this.handlers.onRecord(record);
        }
      }
    } catch (error) {
      if (error instanceof Refused) refused = error.message;
    }
    this.handlers.onClosed({ refused, lost: !over });
  }

  async send(what) {
    await postJSON(`texts/${encodeURIComponent(this.ticket.call_id)}`, { ticket: this.ticket.ticket, ...what });
  }
}
