// The view of the browser phone. Words of callers and agents are always text nodes, never HTML.

import { html, render, useEffect, useRef, useState } from "../pages/vendor/htm-preact.js";
import { CONNECTED, LIVE, Model, PHASES } from "./model.js";
import { Conversation, Ending, Picture, Tools, Turns } from "./parts.js";

const KEYS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "0", "#"];
const KEY_NAMES = { "*": "star", "#": "hash" };
function phaseOf({ phase, inText, isSilent }) {
  if (phase !== "connected") return PHASES[phase];
  if (inText) return CONNECTED.text;
  return isSilent ? CONNECTED.silent : PHASES.connected;
}

function Status({ state }) {
  const live = LIVE.includes(state.phase);
  return html`<div class="status" role="status">
    <p class="phase ${state.phase}">${live || !state.note ? phaseOf(state) : state.note}</p>
    ${live && state.note && html`<p class="quiet">${state.note}</p>`}
    ${state.noMicrophone && html`<p class="bad">${state.noMicrophone}</p>`}
    ${state.program?.mistake && html`<p class="bad">${state.program.mistake}. The version before goes on.</p>`}
  </div>`;
}

function Meter({ side, label, loudness, live }) {
  const bar = useRef(null);
  useEffect(() => {
    if (!live) {
      bar.current.style.transform = "scaleX(0)";
      return undefined;
    }
    let frame = 0;
    const show = () => {
      // A root, so that soft speech is seen beside loud speech.
      bar.current.style.transform = `scaleX(${Math.min(1, Math.sqrt(loudness.newest[side])).toFixed(3)})`;
      frame = requestAnimationFrame(show);
    };
    show();
    return () => cancelAnimationFrame(frame);
  }, [loudness, live]);
  return html`<div class="meter"><span class=${side}>${label}</span><div class="track"><div class="bar ${side}" ref=${bar}>
    </div></div></div>`;
}

function Clock({ model, live }) {
  const [, tick] = useState(0);
  useEffect(() => {
    if (!live) return undefined;
    const timer = setInterval(() => tick((count) => count + 1), 500);
    return () => clearInterval(timer);
  }, [live]);
  const whole = Math.floor((live ? model.now : model.state.ending || 0) / 1000);
  return html`<span class="clock">${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}</span>`;
}

function Keypad({ onPress, live }) {
  return html`<div class="keypad" role="group" aria-label="Keypad">
    ${KEYS.map((key) => html`<button key=${key} disabled=${!live} aria-label="Key ${KEY_NAMES[key] ?? key}"
      onClick=${() => onPress(key)}>${key}</button>`)}
  </div>`;
}

function Typing({ model, state }) {
  const send = (event) => {
    event.preventDefault();
    model.say();
  };
  return html`<form class="typing" onSubmit=${send}>
    <label for="typed">${state.inText ? "What you say" : "Type instead of speaking"}</label>
    <div class="row">
      <input id="typed" type="text" autocomplete="off" maxlength="1000" value=${state.draft} placeholder="What you would say"
        onInput=${(event) => model.draft(event.target.value)} />
      <button type="submit" disabled=${state.phase !== "connected" || !state.draft.trim()}>Send</button>
    </div>
  </form>`;
}

function Recordings({ model, state, live, disabled }) {
  const recordings = state.program?.recordings ?? [];
  const [chosen, choose] = useState(0);
  if (!recordings.length) return null;
  const play = () => {
    if (live) model.play(recordings[chosen]);
    else model.dial({ withMicrophone: false, recording: recordings[chosen] });
    choose((chosen + 1) % recordings.length);
  };
  return html`<div class="recordings">
    <label for="recording">${live ? "Or let a recorded caller speak" : "Or let a recorded caller call"}</label>
    <div class="row">
      <select id="recording" value=${chosen} onChange=${(event) => choose(Number(event.target.value))}>
        ${recordings.map(({ name }, index) => html`<option key=${name} value=${index}>${name}</option>`)}
      </select>
      ${state.playing
        ? html`<button onClick=${() => model.stopPlaying()}>Stop</button>`
        : html`<button disabled=${disabled} onClick=${play}>${live ? "Play" : "Call and play"}</button>`}
    </div>
    ${state.playing && html`<p class="quiet">“${state.playing}” is being played.</p>`}
  </div>`;
}

function Handset({ model, state, live, disabled }) {
  return html`<div class="handset">
    ${live
      ? html`<button class="round hang-up" disabled=${state.phase === "ending"} onClick=${() => model.hangUp()}>
          Hang up</button>`
      : html`<button class="round call" disabled=${disabled} onClick=${() => model.dial()}>Call</button>`}
    ${state.call && html`<${Clock} model=${model} live=${live} />`}
    ${live && !state.inText && html`<button aria-pressed=${String(state.muted)} onClick=${() => model.mute()}>
      ${state.muted ? "Muted" : "Mute"}</button>`}
  </div>`;
}

/** The ways to call without a microphone. */
function Others({ model, state, disabled }) {
  return html`<div class="others">
    <h2>Without a microphone</h2>
    <button disabled=${disabled} onClick=${() => model.dial({ withMicrophone: false })}>Call without microphone</button>
    <p class="quiet">You type, and the agent speaks.</p>
    <button disabled=${disabled} onClick=${() => model.type()}>Chat in text</button>
    <p class="quiet">You type, and the agent writes: no speech on either side.</p>
    <${Recordings} model=${model} state=${state} disabled=${disabled} />
  </div>`;
}

function Telephone({ model, state }) {
  const live = LIVE.includes(state.phase);
  const disabled = model.isBusy || ["gone", "reloading"].includes(state.phase);
  return html`<section class="telephone panel" aria-label="Telephone">
    <${Status} state=${state} />
    <${Handset} model=${model} state=${state} live=${live} disabled=${disabled} />
    ${!live && html`<${Others} model=${model} state=${state} disabled=${disabled} />`}
    ${live && !state.inText && html`<div class="meters">
      <${Meter} side="caller" label="You" loudness=${state.loudness} live=${live} />
      <${Meter} side="agent" label="Agent" loudness=${state.loudness} live=${live} />
    </div>`}
    ${(live || state.draft) && html`<${Typing} model=${model} state=${state} />`}
    ${live && html`<${Keypad} live=${live} onPress=${(key) => model.press(key)} />`}
    ${live && !state.inText && html`<${Recordings} model=${model} state=${state} live=${live}
      disabled=${state.phase !== "connected"} />`}
  </section>`;
}

function Page() {
  const [state, setState] = useState(null);
  const model = useRef(null);
  useEffect(() => {
    model.current = new Model(setState);
    setState(model.current.state);
    model.current.open();
  }, []);
  if (!state) return null;
  const { call, program } = state;
  return html`<header class="top"><h1>Browser phone</h1>
      ${program && html`<p class="quiet">${program.file}${program.number && ` · ${program.number}`}</p>`}</header>
    <main class=${call ? "with-call" : "first"}>
      ${!call && html`<p class="welcome">Press Call and talk to the agent of
        ${" "}<strong>${program ? program.file : "this program"}</strong>, as on a telephone.</p>`}
      <${Telephone} model=${model.current} state=${state} />
      ${call && html`<div class="live">
        ${!LIVE.includes(state.phase) && html`<${Ending} state=${state} />`}
        <${Picture} key=${call.id} model=${model.current} state=${state} />
        <${Conversation} state=${state} />
        <${Turns} timeline=${state.timeline} />
        <${Tools} timeline=${state.timeline} />
      </div>`}
    </main>`;
}

const root = document.getElementById("phone");
root.textContent = "";
render(html`<${Page} />`, root);
