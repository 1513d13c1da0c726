// The call beside the telephone: its picture, words, turns and tools, and its transcript once it is over.

import { Picture as Drawing } from "../pages/picture.js";
import { html, useEffect, useRef, useState } from "../pages/vendor/htm-preact.js";
import { LIVE } from "./model.js";
import { costOf, linesOf, markText, shownValue, transcriptOf } from "./timeline.js";

// Judged: what callers hear as prompt; above the second figure they begin to ask whether somebody is there.
const COLUMNS = [["endpoint_ms", "Endpoint", 600], ["llm_ms", "STT and LLM", 500], ["tts_ms", "TTS", 300],
  ["total_ms", "Answer", 1200]];

const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;

/** The picture of pages/picture.js: live while the call goes on, then the whole call. */
export function Picture({ model, state }) {
  const place = useRef(null);
  const drawing = useRef(null);
  const live = LIVE.includes(state.phase);
  const { timeline, loudness, inText } = state;
  useEffect(() => {
    drawing.current = new Drawing(place.current);
    return () => drawing.current.destroy();
  }, []);
  useEffect(() => {
    if (!timeline) return;
    const shown = inText ? timeline : { ...timeline, peaks: loudness.peaks };
    if (live && !timeline.over) drawing.current.live(shown, Math.max(model.now, timeline.duration_ms));
    // A server that is gone reports no end: what is known is the whole call.
    else drawing.current.show({ ...shown, over: true, duration_ms: Math.max(shown.duration_ms, state.ending) });
  }, [timeline, live, loudness]);
  return html`<section class="panel picture" aria-label="Picture of the call">
    <p class="legend"><span class="caller">Caller</span> <span class="agent">Agent</span>
      <span class="quiet">grey: the caller waits</span></p>
    <div ref=${place}></div>
  </section>`;
}

function Words({ words }) {
  const { lane, text, unheard, open, cut } = words;
  if (lane === "caller") return html`${text || "is speaking"}${open && " …"}`;
  if (open) return html`${text}${unheard ? html` <span class="quiet">${unheard}</span>` : !text && "is speaking …"}`;
  return html`${text}${unheard && html` <s class="quiet">${unheard}</s>
    <span class="visually-hidden"> (made, not heard)</span>`}${cut && html` <em class="bad">cut</em>`}`;
}

function Said({ line }) {
  const { lane, open } = line.words ?? line.mark;
  return html`<li class=${open && lane === "caller" ? "partial" : ""}>
    <span class="who ${lane}">${lane === "caller" ? "You" : "Agent"}</span>
    <span class="at quiet">${seconds(line.at)}</span>
    <span class="said">${line.words ? html`<${Words} words=${line.words} />`
      : html`<span class="quiet">${markText(line.mark)}</span>`}</span>
  </li>`;
}

export function Conversation({ state }) {
  const list = useRef(null);
  const { timeline, pending } = state;
  useEffect(() => {
    list.current.scrollTop = list.current.scrollHeight;
  }, [timeline, pending]);
  const lines = timeline ? linesOf(timeline).filter(({ words, mark }) => mark || words.text || words.unheard || words.open) : [];
  return html`<section class="panel conversation" aria-labelledby="words">
    <h2 id="words">Words</h2>
    <ol ref=${list} aria-live="polite" tabindex="0" aria-labelledby="words">
      ${lines.map((line, index) => html`<${Said} key=${index} line=${line} />`)}
      ${pending && html`<li key="pending"><span class="who agent">Agent</span><span class="at quiet">now</span>
        <span class="said">${pending}</span></li>`}
      ${!lines.length && !pending && html`<li class="quiet nothing">Nobody has said anything yet.</li>`}
    </ol>
  </section>`;
}

function Latency({ ms, target }) {
  if (ms === null) return html`<td class="number quiet">–</td>`;
  const late = ms > target;
  return html`<td class="number ${late ? "bad" : "good"}">${Math.round(ms)}${late
    ? html`<span class="visually-hidden"> over the target</span> ▲` : ""}</td>`;
}

function result(turn) {
  if (turn.failed) return html`<span class="bad">failed</span>`;
  if (turn.interrupted) return turn.bargein_ms === null ? "cut" : `cut, silent after ${Math.round(turn.bargein_ms)} ms`;
  return turn.end_ms === null ? html`<span class="quiet">goes on</span>` : "spoken";
}

export function Turns({ timeline }) {
  const turns = timeline?.turns ?? [];
  const said = (turn) => timeline.words.filter((one) => one.lane === "caller" && one.turn === turn.index)
    .map((one) => one.text).join(" ");
  return html`<section class="panel" aria-labelledby="turns">
    <h2 id="turns">Turns</h2>
    <div class="scroll" tabindex="0" role="region" aria-label="Table of turns"><table>
      <thead><tr><th scope="col">Turn</th><th scope="col">You said</th>
        ${COLUMNS.map(([name, label, target]) => html`<th key=${name} scope="col" class="number">${label}, ms<br />
          <span class="quiet">target ${target}</span></th>`)}
        <th scope="col">Result</th></tr></thead>
      <tbody>
        ${turns.map((turn) => html`<tr key=${turn.index}><td>${turn.index}</td>
          <td class="words">${said(turn) || (turn.index ? "–" : html`<span class="quiet">greeting</span>`)}</td>
          ${COLUMNS.map(([name, , target]) => html`<${Latency} key=${name} ms=${turn[name]} target=${target} />`)}
          <td>${result(turn)}</td>
        </tr>`)}
        ${!turns.length && html`<tr><td colspan="7" class="quiet">No turn has begun yet.</td></tr>`}
      </tbody></table></div>
    <p class="cost">Cost so far: <strong>${money(timeline && costOf(timeline))}</strong></p>
  </section>`;
}

function money(usd) {
  if (usd === null) return "not measured yet";
  return new Intl.NumberFormat(undefined, { style: "currency", currency: "USD", minimumFractionDigits: 4 }).format(usd);
}

export function Tools({ timeline }) {
  if (!timeline?.tools.length) return null;
  return html`<section class="panel" aria-labelledby="tools"><h2 id="tools">Tools</h2><ul class="tools">
    ${timeline.tools.map((tool, index) => html`<li key=${index}>
      <span class="quiet">${seconds(tool.start_ms)}</span> <code>${tool.name}(${shownValue(tool.arguments)})</code>
      ${tool.end_ms === null ? html`<span class="quiet"> is running …</span>`
        : tool.error ? html`<span class="bad"> failed: ${tool.error}</span>`
        : html` → <code>${shownValue(tool.result)}</code>`}
      ${tool.end_ms !== null && html`<span class="quiet"> ${Math.round(tool.end_ms - tool.start_ms)} ms</span>`}
    </li>`)}
  </ul></section>`;
}

/** The transcript of a call that is over: to the clipboard, or to a file. */
export function Ending({ state }) {
  const [told, tell] = useState("");
  const { timeline, program } = state;
  if (!timeline) return null;
  const text = () => transcriptOf(timeline, program?.file ?? "");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text());
      tell("Copied.");
    } catch {
      tell("The browser did not allow the copy. Download it instead.");
    }
  };
  const download = () => {
    const url = URL.createObjectURL(new Blob([text()], { type: "text/plain" }));
    const link = document.createElement("a");
    [link.href, link.download] = [url, "call.txt"];
    link.click();
    // Behind the click: the browser has taken the file by then.
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  };
  return html`<section class="panel ending" aria-label="The call is over">
    <p>The call is over: ${timeline.outcome ? timeline.outcome.replaceAll("_", " ") : "its end is not known"}.</p>
    <button onClick=${copy}>Copy transcript</button>
    <button onClick=${download}>Download transcript</button>
    <p class="quiet" role="status">${told}</p>
  </section>`;
}
