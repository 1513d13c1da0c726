// The parts of a call's page below the picture: words, turns with their waits, tools, raw events.

import { getJSON } from "../pages/api.js";
import { instantOf } from "../pages/picture_items.js";
import { html, useEffect, useState } from "../pages/vendor/htm-preact.js";
import { failure } from "./failures.js";
import { clockTime, instant, NONE, value, zone } from "./format.js";

// Judged: what callers hear as prompt; above the second figure they begin to ask whether somebody is there.
const PARTS = [["endpoint_ms", "Endpoint", 600], ["llm_ms", "STT and LLM", 500], ["tts_ms", "TTS", 300]];
const TARGET_MS = 1200;
const MAX_EVENTS_SHOWN = 2000;

/** Words of which each can be clicked, to be played from there. */
function Said({ one, onPlay }) {
  if (!onPlay) return one.text;
  const item = { start: one.start_ms, end: one.end_ms, text: one.text };
  let place = 0;
  return one.text.split(/(?<=\s)/).map((word, index) => {
    const at = place;
    place += word.length;
    return html`<span key=${index} onClick=${() => onPlay(instantOf(item, at))}>${word}</span>`;
  });
}

/** `onPlay` plays the recording from an instant, in ms; null: there is none. */
export function Transcript({ timeline, onPlay }) {
  return html`<section class="panel transcript" aria-labelledby="words">
    <h2 id="words">Words</h2>
    <ol>
      ${timeline.words.map((one, index) => html`<li key=${index}>
        <span class="who ${one.lane}">${one.lane === "caller" ? "Caller" : "Agent"}</span>
        ${onPlay
          ? html`<button type="button" class="at" aria-label="Play from ${instant(one.start_ms)}" onClick=${() => onPlay(one.start_ms)}>${instant(one.start_ms)}</button>`
          : html`<span class="at quiet">${instant(one.start_ms)}</span>`}
        <span class="said ${onPlay ? "plays" : ""}">${one.text ? html`<${Said} one=${one} onPlay=${onPlay} />` : one.open ? "…" : ""}${one.unheard && !one.open
          ? html` <s class="quiet">${one.unheard}</s><span class="visually-hidden"> (not heard)</span>` : ""}${one.cut
          ? html` <em class="bad">cut</em>` : ""}</span>
      </li>`)}
      ${!timeline.words.length && html`<li class="quiet nothing">Nobody has said anything.</li>`}
    </ol>
  </section>`;
}

function Bar({ turn, scale }) {
  const share = (ms) => `${Math.min(100, (100 * ms) / scale).toFixed(2)}%`;
  return html`<div class="wait" aria-hidden="true">
    ${PARTS.map(([name]) => turn[name] !== null && html`<span key=${name} class="part ${name}" style=${{ width: share(turn[name]) }}>
    </span>`)}
    <span class="target" style=${{ left: share(TARGET_MS) }}></span>
  </div>`;
}

function Figure({ ms, target }) {
  if (ms === null) return html`<td class="number quiet">${NONE}</td>`;
  const late = ms > target;
  return html`<td class="number ${late ? "bad" : ""}">${Math.round(ms)}${late
    ? html`<span class="visually-hidden"> over the target</span> ▲` : ""}</td>`;
}

export function Turns({ timeline }) {
  const turns = timeline.turns.filter((turn) => turn.total_ms !== null || turn.failed);
  const scale = Math.max(2 * TARGET_MS, ...turns.map((turn) => turn.total_ms ?? 0));
  return html`<section class="panel" aria-labelledby="turns">
    <h2 id="turns">Turns</h2>
    <div class="scroll" tabindex="0" role="region" aria-label="Waits of each turn"><table class="turns">
      <thead><tr><th scope="col">Turn</th><th scope="col">Wait, 0 to ${(scale / 1000).toFixed(1)} s</th>
        ${PARTS.map(([name, label, target]) => html`<th key=${name} scope="col" class="number"><span class="key ${name}"></span>
          ${label}, ms<br />≤ ${target}</th>`)}
        <th scope="col" class="number">Answer, ms<br />≤ ${TARGET_MS}</th><th scope="col">Result</th></tr></thead>
      <tbody>
        ${turns.map((turn) => html`<tr key=${turn.index}><td>${turn.index}</td>
          <td class="bar"><${Bar} turn=${turn} scale=${scale} /></td>
          ${PARTS.map(([name, , target]) => html`<${Figure} key=${name} ms=${turn[name]} target=${target} />`)}
          <${Figure} ms=${turn.total_ms} target=${TARGET_MS} />
          <td>${turn.failed ? html`<span class="bad">failed</span>` : turn.interrupted ? "cut" : turn.end_ms === null ? "goes on" : "spoken"}</td>
        </tr>`)}
        ${!turns.length && html`<tr><td colspan="7" class="quiet">No answer was measured.</td></tr>`}
      </tbody></table></div>
  </section>`;
}

export function Tools({ timeline }) {
  if (!timeline.tools.length) return null;
  return html`<section class="panel" aria-labelledby="tools"><h2 id="tools">Tools</h2><ul class="tools">
    ${timeline.tools.map((tool, index) => html`<li key=${index}>
      <span class="quiet">${instant(tool.start_ms)}</span> <code>${tool.name}(${value(tool.arguments)})</code>
      ${tool.end_ms === null ? html`<span class="quiet"> is running …</span>`
        : tool.error ? html`<span class="bad"> failed: ${tool.error}</span>`
        : html` → <code>${value(tool.result)}</code>`}
      ${tool.end_ms !== null && html`<span class="quiet"> ${Math.round(tool.end_ms - tool.start_ms)} ms</span>`}
    </li>`)}
  </ul></section>`;
}

/** Read a list of a call while it is shown, again and again if the call is live. */
function useList(path, name, open, live) {
  const [list, setList] = useState(null);
  const [trouble, setTrouble] = useState("");
  useEffect(() => {
    if (!open) return undefined;
    let closed = false;
    const look = async () => {
      try {
        const found = await getJSON(path);
        if (closed) return;
        setList(found[name]);
        setTrouble("");
      } catch (error) {
        if (!closed) setTrouble(failure(error));
      }
    };
    look();
    const timer = live ? setInterval(look, 2000) : 0;
    return () => {
      closed = true;
      clearInterval(timer);
    };
  }, [open, live]);
  return [list, trouble];
}

export function LogLines({ base, live }) {
  const [open, setOpen] = useState(false);
  const [lines, trouble] = useList(`${base}/log`, "lines", open, live);
  return html`<details class="panel events" onToggle=${(event) => setOpen(event.target.open)}>
    <summary>Log lines${lines && ` (${lines.length})`}</summary>
    <p class="bad" role="status">${trouble}</p>
    ${lines && !lines.length && html`<p class="quiet">The log has no line about this call since the server began, at the levels that
      the program lets through.</p>`}
    ${lines?.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-label="Log lines"><table>
      <thead><tr><th scope="col">Time (${zone})</th><th scope="col">Level</th><th scope="col">Logger</th><th scope="col">Line</th></tr></thead>
      <tbody>${lines.map((line, index) => html`<tr key=${index}><td class="number">${clockTime(line.time)}</td>
        <td class=${line.level === "INFO" || line.level === "DEBUG" ? "" : "bad"}>${line.level}</td><td>${line.logger}</td>
        <td class="data"><pre>${line.text}</pre></td></tr>`)}</tbody>
    </table></div>`}
  </details>`;
}

export function Events({ base, live }) {
  const [open, setOpen] = useState(false);
  const [events, trouble] = useList(`${base}/events`, "events", open, live);
  const shown = (events ?? []).slice(-MAX_EVENTS_SHOWN);
  return html`<details class="panel events" onToggle=${(event) => setOpen(event.target.open)}>
    <summary>Events${events && ` (${events.length})`}</summary>
    <p class="bad" role="status">${trouble}</p>
    ${events && events.length > shown.length && html`<p class="quiet">The last ${shown.length} are shown.</p>`}
    <div class="scroll" tabindex="0" role="region" aria-label="Events"><table>
      <thead><tr><th scope="col" class="number">Instant</th><th scope="col">Type</th><th scope="col">Data</th></tr></thead>
      <tbody>${shown.map((event) => html`<tr key=${event.seq}><td class="number">${instant(event.at_ms)}</td>
        <td>${event.type}</td><td class="data"><code>${value(event.data)}</code></td></tr>`)}</tbody>
    </table></div>
  </details>`;
}
