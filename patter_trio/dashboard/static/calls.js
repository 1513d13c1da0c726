// The list of calls: the live ones with a moving picture, then those that are over, filtered as one types.

import { followEvents, getJSON } from "../pages/api.js";
import { html, useEffect, useRef, useState } from "../pages/vendor/htm-preact.js";
import { Days } from "./days.js";
import { duration, millis, moment, money, number, outcome, zone } from "./format.js";
import { Speech, Strip } from "./strip.js";

const PAGE_CALLS = 50;
// Judged: a pause between two letters of somebody who types.
const TYPING_MS = 180;
// Durations and costs of live calls grow between the events.
const LOOK_EVERY_MS = 2000;
// Judged: after that, what has happened at once is one look.
const GATHER_MS = 150;
const OUTCOMES = [
  "completed", "caller_hung_up", "agent_hung_up", "transferred", "silence", "voicemail", "no_answer", "busy", "rejected", "failed", "cancelled",
];

const address = (id) => `#call/${encodeURIComponent(id)}`;
const other = (call) => (call.direction === "outbound" ? call.callee : call.caller);
const arrow = (call) => (call.direction === "outbound" ? "↗ out" : "↙ in");

function query(typed, chosen, cursor = "") {
  const parameters = new URLSearchParams({ limit: String(PAGE_CALLS) });
  const text = typed.trim();
  // Digits and what stands between them are a part of a number; all else is words.
  if (/^\+?[\d\s().-]+$/.test(text)) parameters.set("number", text.replace(/[^\d+]/g, ""));
  else if (text) parameters.set("q", text);
  if (chosen) parameters.set("outcome", chosen);
  if (cursor) parameters.set("cursor", cursor);
  return `../api/calls?${parameters}`;
}

function LiveCalls({ calls, speech, whole }) {
  return html`<section class="panel" aria-labelledby="live">
    <h2 id="live">Live now: ${calls.length}</h2>
    ${!calls.length && html`<p class="quiet">No call is live.</p>`}
    <ul class="live">
      ${calls.map((call) => html`<li key=${call.call_id}><a href=${address(call.call_id)}>
        <${Strip} speech=${speech} id=${call.call_id}
          words="Speech of the last 20 seconds: caller ${call.user_state}, agent ${call.agent_state}" />
        <span class="who"><strong>${number(other(call), whole)}</strong>
          <span class="quiet">${arrow(call)} · ${duration(call.duration_s)} · turns ${call.turns} · ${money(call.cost_usd)}</span>
        </span>
        <span class="newest ${call.last_role === "user" ? "caller" : "agent"}">${call.last_text
          ? `${call.last_role === "user" ? "Caller" : "Agent"}: ${call.last_text}` : ""}</span>
      </a></li>`)}
    </ul>
  </section>`;
}

function Row({ call, whole }) {
  const { text, bad } = outcome(call.outcome);
  return html`<tr>
    <td data-label="Time"><a href=${address(call.call_id)}>${moment(call.started_at)}</a></td>
    <td data-label="Direction">${arrow(call)}</td>
    <td data-label="Number" class="phone">${number(other(call), whole)}</td>
    <td data-label="Duration" class="number">${duration(call.duration_s)}</td>
    <td data-label="Turns" class="number">${call.turns}</td>
    <td data-label="Answer, p50" class="number">${millis(call.answer_p50_ms)}</td>
    <td data-label="Outcome" class=${bad ? "bad" : ""}>${text}</td>
    <td data-label="Cost" class="number">${money(call.cost_usd)}</td>
    <td data-label="First words" class="words">${call.first_words}</td>
  </tr>`;
}

function Table({ calls, whole, why }) {
  return html`<div class="scroll"><table class="calls">
    <caption class="visually-hidden">Calls that are over, newest first</caption>
    <thead><tr>
      <th scope="col">Time (${zone})</th><th scope="col">Direction</th><th scope="col">Number</th>
      <th scope="col" class="number">Duration</th><th scope="col" class="number">Turns</th>
      <th scope="col" class="number">Answer, p50</th><th scope="col">Outcome</th>
      <th scope="col" class="number">Cost</th><th scope="col">First words</th>
    </tr></thead>
    <tbody>
      ${calls.map((call) => html`<${Row} key=${call.call_id} call=${call} whole=${whole} />`)}
      ${!calls.length && html`<tr><td colspan="9" class="quiet">${why}</td></tr>`}
    </tbody>
  </table></div>`;
}

function Kept({ facts }) {
  if (!facts || facts.kept === "log") return null;
  return html`<p class="note">No call log: this page shows the last ${facts.max_calls} calls since the server began, and they are
    lost when it ends.</p>`;
}

export function CallList({ whole, failure }) {
  const [live, setLive] = useState([]);
  const [found, setFound] = useState(null);
  const [facts, setFacts] = useState(null);
  const [trouble, setTrouble] = useState("");
  const [typed, setTyped] = useState("");
  const [chosen, setChosen] = useState("");
  const [ended, setEnded] = useState(0);
  const speech = useRef(null);
  speech.current ??= new Speech();
  const search = useRef(null);
  const asked = useRef({ number: 0, typed: "", chosen: "" });

  const tried = async (work) => {
    try {
      await work();
      setTrouble("");
    } catch (error) {
      setTrouble(failure(error));
    }
  };
  const look = () => tried(async () => setLive((await getJSON("../api/live")).calls));
  const find = () => tried(async () => {
    const mine = (asked.current.number += 1);
    const page = await getJSON(query(asked.current.typed, asked.current.chosen));
    // An answer to an older question comes too late.
    if (mine === asked.current.number) setFound(page);
  });
  const more = () => tried(async () => {
    const page = await getJSON(query(typed, chosen, found.next));
    setFound({ calls: [...found.calls, ...page.calls], next: page.next });
  });

  useEffect(() => {
    let gathered = 0;
    const soon = (work) => {
      gathered ||= setTimeout(() => {
        gathered = 0;
        work();
      }, GATHER_MS);
    };
    tried(async () => setFacts(await getJSON("facts.json")));
    look();
    const timer = setInterval(look, LOOK_EVERY_MS);
    const unfollow = followEvents("../api/live/events", (record) => {
      speech.current.take(record);
      if (record.type === "call_ended") {
        setTimeout(() => {
          find();
          setEnded((count) => count + 1);
        }, GATHER_MS);
      }
      if (["call_started", "call_ended", "transcript_final", "metrics_collected"].includes(record.type)) soon(look);
    }, (open) => setTrouble(open ? "" : "The connection is lost. This page tries again."));
    const slash = (event) => {
      if (event.key !== "/" || ["INPUT", "SELECT", "TEXTAREA"].includes(document.activeElement?.tagName)) return;
      event.preventDefault();
      search.current?.focus();
    };
    addEventListener("keydown", slash);
    return () => {
      clearInterval(timer);
      clearTimeout(gathered);
      unfollow();
      removeEventListener("keydown", slash);
    };
  }, []);
  useEffect(() => {
    asked.current = { ...asked.current, typed, chosen };
    const timer = setTimeout(find, found ? TYPING_MS : 0);
    return () => clearTimeout(timer);
  }, [typed, chosen]);

  const ids = new Set(live.map((call) => call.call_id));
  const over = (found?.calls ?? []).filter((call) => !ids.has(call.call_id));
  const filtered = typed.trim() || chosen;
  const why = !found ? "The calls are being loaded." : filtered ? "No call matches." : "No call has ended yet.";
  return html`<main>
    <p class="trouble bad" role="status">${trouble}</p>
    <${LiveCalls} calls=${live} speech=${speech.current} whole=${whole} />
    <${Days} round=${ended} />
    <section class="panel" aria-labelledby="over">
      <h2 id="over">Over</h2>
      <${Kept} facts=${facts} />
      <div class="filters" role="search">
        <label class="grow"><span>Words or number <span class="quiet">(key /)</span></span>
          <input ref=${search} type="text" autocomplete="off" maxlength="200" value=${typed}
            onInput=${(event) => setTyped(event.target.value)} /></label>
        <label>Outcome
          <select value=${chosen} onChange=${(event) => setChosen(event.target.value)}>
            <option value="">all</option>
            ${OUTCOMES.map((name) => html`<option key=${name} value=${name}>${outcome(name).text}</option>`)}
          </select></label>
      </div>
      <${Table} calls=${over} whole=${whole} why=${why} />
      ${found?.next && html`<button class="more" onClick=${more}>Older calls</button>`}
    </section>
  </main>`;
}
