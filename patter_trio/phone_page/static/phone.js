// The view of the browser phone. Words of callers and agents are always text nodes, never HTML.

import { html, render, useEffect, useRef, useState } from "../pages/vendor/htm-preact.js";
import { described, draw } from "./lanes.js";
import { Model, PHASES } from "./model.js";

const KEYS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "0", "#"];
const KEY_NAMES = { "*": "star", "#": "hash" };
// Judged: what callers hear as prompt; above the second figure they begin to ask whether somebody is there.
const TARGETS_MS = { endpoint_ms: 600, llm_ttft_ms: 500, tts_ms: 300, total_ms: 1200 };
const COLUMNS = [["endpoint_ms", "Endpoint"], ["llm_ttft_ms", "LLM"], ["tts_ms", "TTS"], ["total_ms", "Answer"]];
const LIVE = ["ringing", "connected", "ending"];

const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
const shownValue = (value) => (typeof value === "string" ? value : JSON.stringify(value) ?? "");

function Status({ state }) {
  const told = state.note || PHASES[state.phase];
  const phase = state.note && !LIVE.includes(state.phase) ? `${state.note} ` : "";
  return html`<div class="status" role="status">
    <p class="phase ${state.phase}">${LIVE.includes(state.phase) ? PHASES[state.phase] : phase || told}</p>
    ${LIVE.includes(state.phase) && state.note && html`<p class="quiet">${state.note}</p>`}
    ${state.noMicrophone && html`<p class="bad">${state.noMicrophone}</p>`}
  </div>`;
}

function Meter({ side, label, levels, live }) {
  const bar = useRef(null);
  useEffect(() => {
    if (!live) {
      bar.current.style.transform = "scaleX(0)";
      return undefined;
    }
    let frame = 0;
    const show = () => {
      const level = levels[side].at(-1)?.level ?? 0;
      bar.current.style.transform = `scaleX(${Math.min(1, Math.sqrt(level / 0.25)).toFixed(3)})`;
      frame = requestAnimationFrame(show);
    };
    show();
    return () => cancelAnimationFrame(frame);
  }, [levels, live]);
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

function Typing({ model, live }) {
  const [text, setText] = useState("");
  const send = async (event) => {
    event.preventDefault();
    if (text.trim() && (await model.type(text.trim()))) setText("");
  };
  return html`<form class="typing" onSubmit=${send}>
    <label for="typed">Type instead of speaking</label>
    <div class="row">
      <input id="typed" type="text" autocomplete="off" maxlength="1000" value=${text} placeholder="What you would say"
        onInput=${(event) => setText(event.target.value)} />
      <button type="submit" disabled=${!live || !text.trim()}>Send</button>
    </div>
  </form>`;
}

function Recordings({ model, state, live }) {
  const recordings = state.program?.recordings ?? [];
  const [chosen, choose] = useState(0);
  if (!recordings.length) return null;
  return html`<div class="recordings">
    <label for="recording">Or let a recorded caller speak</label>
    <div class="row">
      <select id="recording" value=${chosen} onChange=${(event) => choose(Number(event.target.value))}>
        ${recordings.map(({ name }, index) => html`<option key=${name} value=${index}>${name}</option>`)}
      </select>
      ${state.playing
        ? html`<button onClick=${() => model.stopPlaying()}>Stop</button>`
        : html`<button disabled=${!live} onClick=${() => {
            model.play(recordings[chosen]);
            choose((chosen + 1) % recordings.length);
          }}>Play</button>`}
    </div>
    ${state.playing && html`<p class="quiet">“${state.playing}” is being played.</p>`}
  </div>`;
}

function Telephone({ model, state }) {
  const live = LIVE.includes(state.phase);
  const waiting = ["microphone", "ringing", "ending"].includes(state.phase);
  const dead = ["gone", "reloading"].includes(state.phase);
  return html`<section class="telephone panel" aria-label="Telephone">
    <${Status} state=${state} />
    <div class="handset">
      ${live
        ? html`<button class="round hang-up" disabled=${state.phase === "ending"} onClick=${() => model.hangUp()}>
            Hang up</button>`
        : html`<button class="round call" disabled=${waiting || dead} onClick=${() => model.dial()}>Call</button>`}
      <${Clock} model=${model} live=${live} />
      ${live
        ? html`<button aria-pressed=${String(state.muted)} onClick=${() => model.mute()}>
            ${state.muted ? "Muted" : "Mute"}</button>`
        : html`<button disabled=${waiting || dead} onClick=${() => model.dial({ withMicrophone: false })}>
            Call without microphone</button>`}
    </div>
    <div class="meters">
      <${Meter} side="caller" label="You" levels=${state.levels} live=${live} />
      <${Meter} side="agent" label="Agent" levels=${state.levels} live=${live} />
    </div>
    <${Keypad} live=${live} onPress=${(key) => model.press(key)} />
    <${Typing} model=${model} live=${live} />
    <${Recordings} model=${model} state=${state} live=${live} />
  </section>`;
}

function Picture({ model, state }) {
  const canvas = useRef(null);
  const live = LIVE.includes(state.phase);
  const { call, levels, ending } = state;
  useEffect(() => {
    let frame = 0;
    const show = () => {
      if (canvas.current && model.state.call) draw(canvas.current, model.state.call, levels, live ? model.now : ending);
      if (live) frame = requestAnimationFrame(show);
    };
    show();
    const again = () => live || show();
    addEventListener("resize", again);
    return () => {
      cancelAnimationFrame(frame);
      removeEventListener("resize", again);
    };
  }, [live, levels, call, ending]);
  return html`<section class="panel picture" aria-label="Live picture">
    <p class="legend"><span class="caller">Caller</span> <span class="agent">Agent</span>
      <span class="quiet">grey: the caller waits</span></p>
    <canvas ref=${canvas} role="img" aria-label=${described(call)}></canvas>
  </section>`;
}

// By their begin: a caller may have spoken before the greeting, and is understood behind it.
function inOrder(utterances) {
  return utterances.filter((one) => one.text || one.to === null).sort((one, other) => one.from - other.from);
}

function Conversation({ call }) {
  const list = useRef(null);
  useEffect(() => {
    list.current.scrollTop = list.current.scrollHeight;
  }, [call]);
  return html`<section class="panel conversation" aria-labelledby="words">
    <h2 id="words">Words</h2>
    <ol ref=${list} aria-live="polite" tabindex="0" aria-labelledby="words">
      ${inOrder(call.utterances).map((one, index) => html`<li key=${index}
        class="${one.role}-line">
        <span class="who ${one.role}">${one.role === "caller" ? "You" : "Agent"}</span>
        <span class="at quiet">${seconds(one.from)}</span>
        <span class="said">${one.text || "is speaking …"}${one.cut && html` <em class="quiet">interrupted</em>`}</span>
      </li>`)}
      ${call.partial && html`<li key="partial" class="caller-line partial">
        <span class="who caller">You</span><span class="at quiet">now</span><span class="said">${call.partial.text} …</span>
      </li>`}
      ${!call.utterances.length && !call.partial && html`<li class="quiet">Nobody has said anything yet.</li>`}
    </ol>
  </section>`;
}

function Latency({ name, value }) {
  if (value === null || value === undefined) return html`<td class="number quiet">–</td>`;
  const late = value > TARGETS_MS[name];
  return html`<td class="number ${late ? "bad" : "good"}">${Math.round(value)}${late
    ? html`<span class="visually-hidden"> over the target</span> ▲` : ""}</td>`;
}

function Turns({ call }) {
  const turns = call.turns.filter((turn) => turn.latency);
  return html`<section class="panel" aria-labelledby="turns">
    <h2 id="turns">Turns</h2>
    <div class="scroll" tabindex="0" role="region" aria-label="Table of turns"><table>
      <thead><tr><th scope="col">Turn</th><th scope="col">You said</th>
        ${COLUMNS.map(([name, label]) => html`<th key=${name} scope="col" class="number">${label}, ms<br />
          <span class="quiet">target ${TARGETS_MS[name]}</span></th>`)}
        <th scope="col">Result</th></tr></thead>
      <tbody>
        ${turns.map((turn) => html`<tr key=${turn.index}><td>${turn.index}</td><td class="words">${turn.question || "–"}</td>
          ${COLUMNS.map(([name]) => html`<${Latency} key=${name} name=${name} value=${turn.latency[name]} />`)}
          <td>${turn.failed ? html`<span class="bad">failed</span>` : turn.interrupted ? "interrupted" : "spoken"}</td>
        </tr>`)}
        ${!turns.length && html`<tr><td colspan="7" class="quiet">No turn is over yet.</td></tr>`}
      </tbody></table></div>
    <p class="cost">Cost so far: <strong>${cost(call)}</strong></p>
  </section>`;
}

function cost(call) {
  if (!call.cost) return "not measured yet";
  return new Intl.NumberFormat(undefined, { style: "currency", currency: "USD", minimumFractionDigits: 4 })
    .format(call.cost.total);
}

function Tools({ call }) {
  if (!call.tools.length) return null;
  return html`<section class="panel" aria-labelledby="tools"><h2 id="tools">Tools</h2><ul class="tools">
    ${call.tools.map((tool) => html`<li key=${tool.id}>
      <code>${tool.name}(${shownValue(tool.given)})</code>
      ${tool.to === null ? html`<span class="quiet"> is running …</span>`
        : tool.error ? html`<span class="bad"> failed: ${tool.error}</span>`
        : html` → <code>${shownValue(tool.result)}</code>`}
      ${tool.duration !== undefined && html`<span class="quiet"> ${Math.round(tool.duration * 1000)} ms</span>`}
    </li>`)}
  </ul></section>`;
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
        <${Picture} model=${model.current} state=${state} />
        <${Conversation} call=${call} />
        <${Turns} call=${call} />
        <${Tools} call=${call} />
      </div>`}
    </main>`;
}

const root = document.getElementById("phone");
root.textContent = "";
render(html`<${Page} />`, root);
