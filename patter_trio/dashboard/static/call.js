// The page of one call: who and when, the picture, the words, the turns, tools and events; of a live one also its controls.

import { followEvents, getJSON, Refused, sendDelete } from "../pages/api.js";
import { Picture } from "../pages/picture.js";
import { html, useEffect, useRef, useState } from "../pages/vendor/htm-preact.js";
import { Controls } from "./controls.js";
import { failure } from "./failures.js";
import { duration, millis, moment, money, NONE, number, outcome, zone } from "./format.js";
import { Events, LogLines, Tools, Transcript, Turns } from "./parts.js";

// Judged: as often as a reader follows, and each look reads all events of the call.
const LOOK_EVERY_MS = 1000;

function Fact({ name, children }) {
  return html`<div class="fact"><dt>${name}</dt><dd>${children}</dd></div>`;
}

function Costs({ cost }) {
  if (!cost) return null;
  const parts = ["stt", "llm", "tts", "telephony"].filter((name) => cost[name]);
  if (!parts.length) return null;
  const names = { stt: "STT", llm: "LLM", tts: "TTS", telephony: "telephony" };
  return html`<span class="quiet"> (${parts.map((name) => `${names[name]} ${money(cost[name])}`).join(", ")})</span>`;
}

function Head({ call, live, whole }) {
  const { text, bad } = outcome(call.outcome);
  return html`<dl class="facts">
    <${Fact} name="From">${number(call.caller, whole)}<//>
    <${Fact} name="To">${call.callee ? number(call.callee, whole) : NONE}<//>
    <${Fact} name="Began (${zone})">${moment(call.started_at)}<//>
    <${Fact} name="Direction">${call.direction}${call.provider && html` <span class="quiet">${call.provider}</span>`}<//>
    <${Fact} name="Outcome"><span class=${bad ? "bad" : ""}>${text}</span>
      ${call.error && html`<span class="bad">: ${call.error}</span>`}<//>
    <${Fact} name="Duration">${duration(live ? live.duration_s : call.duration_s)}<//>
    <${Fact} name="Turns">${live ? live.turns : call.turns}<//>
    <${Fact} name="Answer, p50">${millis(call.answer_p50_ms)}<//>
    <${Fact} name="Cost">${money(live ? live.cost_usd : call.cost_usd)}<${Costs} cost=${call.metrics?.cost} /><//>
  </dl>`;
}

/** `audio` is the reference of the player, which the words use as well. */
function Drawn({ timeline, live, recording, audio }) {
  const place = useRef(null);
  const picture = useRef(null);
  useEffect(() => {
    const onPlay = (ms) => {
      const sound = audio.current;
      if (!sound) return;
      if (!sound.paused) {
        sound.pause();
        return;
      }
      sound.currentTime = ms / 1000;
      sound.play();
    };
    // A click plays from there; an arrow key, which steps by turn, only moves.
    let clicked = false;
    const noted = (event) => {
      clicked = event.type === "pointerup";
    };
    const onSeek = (ms) => {
      if (!audio.current) return;
      audio.current.currentTime = ms / 1000;
      if (clicked) audio.current.play();
    };
    const element = place.current;
    for (const type of ["pointerup", "keydown"]) element.addEventListener(type, noted, true);
    picture.current = new Picture(element, { onPlay, onSeek });
    // The picture's keys work wherever nothing else has the focus.
    const passed = (event) => {
      if (event.target !== document.body || ![" ", "ArrowLeft", "ArrowRight"].includes(event.key)) return;
      event.preventDefault();
      picture.current.canvas.dispatchEvent(new KeyboardEvent("keydown", { key: event.key }));
    };
    addEventListener("keydown", passed);
    return () => {
      removeEventListener("keydown", passed);
      for (const type of ["pointerup", "keydown"]) element.removeEventListener(type, noted, true);
      picture.current.destroy();
    };
  }, []);
  const moved = () => picture.current.position(audio.current.currentTime * 1000);
  useEffect(() => {
    if (live) picture.current.live(timeline, Math.max(timeline.duration_ms, live.duration_s * 1000));
    else picture.current.show(timeline);
  }, [timeline, live]);
  return html`<section class="panel" aria-labelledby="picture">
    <h2 id="picture">Picture</h2>
    <p class="legend"><span class="caller">Caller</span> <span class="agent">Agent</span>
      <span class="quiet">grey: the caller waits</span></p>
    <div ref=${place}></div>
    ${recording && !live && html`<audio ref=${audio} controls preload="metadata" src=${recording} onTimeUpdate=${moved}
      aria-label="Recording: the caller on the left, the agent on the right"></audio>`}
  </section>`;
}

function Files({ base, live, recording, onDelete }) {
  const [sure, setSure] = useState(false);
  return html`<p class="files">
    <a href=${base} download="call.json">Call as JSON</a>
    <a href=${`${base}/timeline`} download="timeline.json">Timeline as JSON</a>
    <a href=${`${base}/timeline.svg`} download="call.svg">Picture as SVG</a>
    ${recording && html`<a href=${`${base}/recording.wav`} download="call.wav">Recording</a>`}
    ${!live && (sure
      ? html`<button class="bad" onClick=${onDelete}>Delete for ever</button>
          <button onClick=${() => setSure(false)}>Keep</button>`
      : html`<button onClick=${() => setSure(true)}>Delete …</button>`)}
  </p>`;
}

export function CallPage({ id, whole }) {
  const [shown, setShown] = useState(null);
  const [trouble, setTrouble] = useState("");
  const audio = useRef(null);
  const base = `../api/calls/${encodeURIComponent(id)}`;

  useEffect(() => {
    let [timer, closed, unfollow, following] = [0, false, () => {}, false];
    const follow = () => {
      following = true;
      unfollow = followEvents(`../api/live/${encodeURIComponent(id)}/events`, (record) => {
        if (record.type === "call_ended") unfollow();
        soon(record.type === "call_ended" ? 50 : 250);
      });
    };
    const soon = (ms) => {
      clearTimeout(timer);
      timer = setTimeout(look, ms);
    };
    const look = async () => {
      try {
        // At once: one behind the other, the page comes a round trip later.
        const [{ calls }, call, timeline] = await Promise.all([getJSON("../api/live"), getJSON(base), getJSON(`${base}/timeline`)]);
        if (closed) return;
        const live = calls.find((one) => one.call_id === id) ?? null;
        if (live && !following) follow();
        setShown({ call, timeline, live });
        setTrouble("");
        if (live || !call.outcome) soon(LOOK_EVERY_MS);
      } catch (error) {
        if (closed) return;
        setTrouble(error instanceof Refused && error.status === 404 ? "This call is not kept, or not yet." : failure(error));
        soon(2 * LOOK_EVERY_MS);
      }
    };
    look();
    return () => {
      closed = true;
      clearTimeout(timer);
      unfollow();
    };
  }, [id]);

  const remove = async () => {
    try {
      await sendDelete(base);
      location.hash = "";
    } catch (error) {
      setTrouble(`The call was not deleted: ${failure(error)}`);
    }
  };
  const play = (ms) => {
    if (!audio.current) return;
    audio.current.currentTime = ms / 1000;
    audio.current.play();
  };
  const status = html`<p class="trouble bad" role="status">${trouble}</p>`;
  if (!shown) return html`<main>${status}${!trouble && html`<p class="quiet">The call is being loaded.</p>`}</main>`;
  const { call, timeline, live } = shown;
  return html`<main>
    ${status}
    <section class="panel" aria-label="The call"><${Head} call=${call} live=${live} whole=${whole} /></section>
    ${live && html`<${Controls} id=${id} />`}
    <${Drawn} timeline=${timeline} live=${live} audio=${audio}
      recording=${call.has_recording ? `${base}/recording.wav` : ""} />
    <div class="columns">
      <${Transcript} timeline=${timeline} onPlay=${call.has_recording && !live ? play : null} />
      <div class="column">
        <${Turns} timeline=${timeline} />
        <${Tools} timeline=${timeline} />
      </div>
    </div>
    <${LogLines} base=${base} live=${Boolean(live)} />
    <${Events} base=${base} live=${Boolean(live)} />
    <${Files} base=${base} live=${live} recording=${call.has_recording} onDelete=${remove} />
    <p class="quiet">Instants count from the begin of the media.</p>
  </main>`;
}
