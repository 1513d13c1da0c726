// What steers a live call: say something, transfer the caller, hang up.

import { postJSON } from "../pages/api.js";
import { html, useState } from "../pages/vendor/htm-preact.js";
import { failure } from "./failures.js";
import { Listen } from "./listen.js";

export function Controls({ id }) {
  const [text, setText] = useState("");
  const [interrupts, setInterrupts] = useState(false);
  const [to, setTo] = useState("");
  const [sure, setSure] = useState(false);
  const [told, setTold] = useState("");

  // What was typed stays if the server refuses it.
  const order = async (name, body, done, words) => {
    try {
      await postJSON(`../api/live/${encodeURIComponent(id)}/${name}`, body);
      done();
      setTold(words);
    } catch (error) {
      setTold(`Not done: ${failure(error)}`);
    }
  };
  const say = (event) => {
    event.preventDefault();
    order("say", { text: text.trim(), interrupt: interrupts }, () => setText(""), "The agent says it.");
  };
  const transfer = (event) => {
    event.preventDefault();
    order("transfer", { to: to.trim() }, () => setTo(""), "The caller is being transferred.");
  };
  const hangUp = () => order("hang_up", {}, () => setSure(false), "The call ends after the current speech.");

  return html`<section class="panel controls" aria-labelledby="steer">
    <h2 id="steer">This call is live</h2>
    <form onSubmit=${say}>
      <label class="grow">Let the agent say
        <input type="text" autocomplete="off" maxlength="5000" value=${text} onInput=${(event) => setText(event.target.value)} />
      </label>
      <label class="check"><input type="checkbox" checked=${interrupts}
        onChange=${(event) => setInterrupts(event.target.checked)} /> cut its speech</label>
      <button type="submit" disabled=${!text.trim()}>Say</button>
    </form>
    <form onSubmit=${transfer}>
      <label class="grow">Transfer the caller to
        <input type="text" inputmode="tel" autocomplete="off" maxlength="255" value=${to} placeholder="+15550100003"
          onInput=${(event) => setTo(event.target.value)} /></label>
      <button type="submit" disabled=${!to.trim()}>Transfer</button>
      ${sure
        ? html`<button type="button" class="bad" onClick=${hangUp}>Yes, hang up</button>
            <button type="button" onClick=${() => setSure(false)}>No</button>`
        : html`<button type="button" onClick=${() => setSure(true)}>Hang up …</button>`}
    </form>
    <p role="status" class="told">${told}</p>
    <${Listen} id=${id} />
  </section>`;
}
