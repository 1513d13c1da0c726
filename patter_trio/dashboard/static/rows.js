// The table of calls that are over. Only the rows in the window, and some around them, are in the document; those above
// and below are two empty rows of the same height. All rows are equally high (dashboard.css).

import { html, useEffect, useLayoutEffect, useRef, useState } from "../pages/vendor/htm-preact.js";
import { duration, millis, minute, money, number, outcome, zone } from "./format.js";

// Judged: a flick of a finger scrolls so far between two frames.
const SPARE_ROWS = 12;
// Judged: the next page is there before somebody who scrolls sees the end of this one.
const ROWS_AHEAD = 60;

export const addressOfCall = (id) => `#call/${encodeURIComponent(id)}`;
export const otherSide = (call) => (call.direction === "outbound" ? call.callee : call.caller);
export const arrow = (call) => (call.direction === "outbound" ? "↗ out" : "↙ in");

function Row({ call, index, whole }) {
  const { text, bad } = outcome(call.outcome);
  const turns = `${call.turns.toLocaleString()}${call.turns === 1 ? " turn" : " turns"}`;
  return html`<tr role="row" aria-rowindex=${index + 2}>
    <td role="cell" class="time"><a href=${addressOfCall(call.call_id)}>${minute(call.started_at)}</a></td>
    <td role="cell" class="direction">${arrow(call)}</td>
    <td role="cell" class="phone">${number(otherSide(call), whole)}</td>
    <td role="cell" class="number">${duration(call.duration_s)}</td>
    <td role="cell" class="number">${turns}</td>
    <td role="cell" class="number">${millis(call.answer_p50_ms)}</td>
    <td role="cell" class="outcome ${bad ? "bad" : ""}">${text}</td>
    <td role="cell" class="number">${money(call.cost_usd)}</td>
    <td role="cell" class="words" title=${call.first_words}>${call.first_words}</td>
  </tr>`;
}

const Empty = ({ height }) => (height
  ? html`<tr aria-hidden="true" role="presentation" class="empty"><td colspan="9" style=${{ height: `${height}px` }}></td></tr>` : null);

/**
 * The table. `onMore` is called when the last rows come near; `hasMore` says whether there are further ones.
 */
export function Rows({ calls, hasMore, onMore, whole, why }) {
  const body = useRef(null);
  const before = useRef("");
  const [view, setView] = useState({ first: 0, last: 2 * SPARE_ROWS, height: 0 });

  const look = () => {
    const row = body.current?.querySelector("tr[aria-rowindex]");
    if (!row) return;
    const { height } = row.getBoundingClientRect();
    const { top } = body.current.getBoundingClientRect();
    const first = Math.max(0, Math.floor(-top / height) - SPARE_ROWS);
    const last = Math.ceil((innerHeight - top) / height) + SPARE_ROWS;
    setView((old) => (old.first === first && old.last === last && old.height === height ? old : { first, last, height }));
  };
  useEffect(() => {
    let frame = 0;
    const soon = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        look();
      });
    };
    const sizes = new ResizeObserver(soon);
    // What is above the table grows when its figures come, and moves the table.
    sizes.observe(document.body);
    addEventListener("scroll", soon, { passive: true });
    addEventListener("resize", soon);
    return () => {
      cancelAnimationFrame(frame);
      sizes.disconnect();
      removeEventListener("scroll", soon);
      removeEventListener("resize", soon);
    };
  }, []);
  useLayoutEffect(() => {
    // New rows above those that somebody reads must not move them.
    const added = before.current ? calls.findIndex((call) => call.call_id === before.current) : 0;
    before.current = calls[0]?.call_id ?? "";
    if (added > 0 && view.height && body.current.getBoundingClientRect().top < 0) scrollBy(0, added * view.height);
    look();
  }, [calls]);
  useEffect(() => {
    if (hasMore && view.last + ROWS_AHEAD >= calls.length) onMore();
  }, [view, calls, hasMore]);

  const keys = (event) => {
    const by = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const link = by && event.target.closest("tr")?.[by]?.querySelector("a");
    if (!link) return;
    event.preventDefault();
    link.focus();
  };
  // A list that has become shorter is shown from its end.
  const first = Math.min(view.first, Math.max(0, calls.length - 1));
  const last = Math.min(view.last, calls.length);
  const rest = calls.length - last;
  return html`<table class="calls" role="table" aria-rowcount=${hasMore ? -1 : calls.length + 1}>
    <caption class="visually-hidden">Calls that are over, newest first. Arrow keys go from call to call.</caption>
    <thead><tr role="row" aria-rowindex="1">
      <th role="columnheader" scope="col" class="time">Time (${zone})</th>
      <th role="columnheader" scope="col" class="direction">Direction</th>
      <th role="columnheader" scope="col" class="phone">Number</th>
      <th role="columnheader" scope="col" class="number">Duration</th>
      <th role="columnheader" scope="col" class="number">Turns</th>
      <th role="columnheader" scope="col" class="number">Answer, p50</th>
      <th role="columnheader" scope="col" class="outcome">Outcome</th>
      <th role="columnheader" scope="col" class="number">Cost</th>
      <th role="columnheader" scope="col" class="words">First words</th>
    </tr></thead>
    <tbody ref=${body} onKeyDown=${keys}>
      <${Empty} height=${first * view.height} />
      ${calls.slice(first, last).map((call, place) => html`<${Row} key=${call.call_id} call=${call} index=${first + place} whole=${whole} />`)}
      <${Empty} height=${rest * view.height} />
      ${!calls.length && html`<tr role="row"><td role="cell" colspan="9" class="quiet nothing">${why}</td></tr>`}
    </tbody>
  </table>`;
}
