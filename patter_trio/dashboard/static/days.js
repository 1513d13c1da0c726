// Figures by day: calls, waits for an answer, cost. As plots, and as a table for those who do not see them.

import { getJSON } from "../pages/api.js";
import { html, useEffect, useRef, useState } from "../pages/vendor/htm-preact.js";
import uPlot from "../pages/vendor/uplot.js";
import { duration, millis, money } from "./format.js";

// Judged: a season; a point a day fits into a third of a page.
const DAYS = 90;
const HEIGHT = 130;
const DAY_S = 86_400;

const unix = (day) => Date.parse(`${day}T00:00:00Z`) / 1000;
const sum = (days, name) => days.reduce((total, day) => total + day[name], 0);

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function options(title, unit, lines, width, bars) {
  const axis = { stroke: colour("quiet"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
  const paths = bars ? { paths: uPlot.paths.bars({ size: [0.7, 24] }) } : {};
  return {
    title: "", width, height: HEIGHT, legend: { show: false }, cursor: { show: false },
    // Days are those of UTC, as the server counts them.
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
    scales: { x: { range: (_, least, most) => [least - DAY_S, most + DAY_S] }, y: { range: (_, __, most) => [0, most * 1.1 || 1] } },
    axes: [
      { ...axis, size: 24, space: 56, incrs: [1, 2, 7, 14, 28].map((days) => days * DAY_S),
        values: (_, ticks) => ticks.map((tick) => new Date(tick * 1000).toISOString().slice(5, 10)) },
      { ...axis, size: 64, space: 34, values: (_, ticks) => ticks.map((tick) => unit(tick)) },
    ],
    series: [{}, ...lines.map((name) => ({
      stroke: colour(name), width: 2, fill: bars ? colour(name) : undefined, spanGaps: true, points: bars ? { show: false } : { size: 5 }, ...paths,
    }))],
  };
}

function Plot({ title, unit, data, lines, bars, words }) {
  const place = useRef(null);
  useEffect(() => {
    let plot = null;
    const draw = () => {
      plot?.destroy();
      plot = new uPlot(options(title, unit, lines, Math.max(160, place.current.clientWidth), bars), data, place.current);
    };
    const sizes = new ResizeObserver(() => {
      if (plot && Math.abs(plot.width - place.current.clientWidth) > 1) draw();
    });
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    draw();
    sizes.observe(place.current);
    scheme.addEventListener("change", draw);
    return () => {
      sizes.disconnect();
      scheme.removeEventListener("change", draw);
      plot?.destroy();
    };
  }, [JSON.stringify(data)]);
  return html`<figure><figcaption>${title}</figcaption><div class="plot" ref=${place} role="img" aria-label=${words}></div></figure>`;
}

function Figures({ days }) {
  return html`<details><summary>As a table</summary><div class="scroll" tabindex="0" role="region" aria-label="Figures by day"><table>
    <thead><tr><th scope="col">Day (UTC)</th><th scope="col" class="number">Calls</th><th scope="col" class="number">Duration</th>
      <th scope="col" class="number">Answer, p50</th><th scope="col" class="number">Answer, p95</th>
      <th scope="col" class="number">Cost</th></tr></thead>
    <tbody>${[...days].reverse().map((day) => html`<tr key=${day.day}><td>${day.day}</td><td class="number">${day.calls}</td>
      <td class="number">${duration(day.duration_s)}</td><td class="number">${millis(day.answer_p50_ms)}</td>
      <td class="number">${millis(day.answer_p95_ms)}</td><td class="number">${money(day.cost_usd)}</td></tr>`)}</tbody>
  </table></div></details>`;
}

/** The figures of the last days; `round` changes when a call has ended. */
export function Days({ round }) {
  const [days, setDays] = useState([]);
  useEffect(() => {
    let closed = false;
    const since = new Date(Date.now() - DAYS * DAY_S * 1000).toISOString().slice(0, 10);
    // Without an answer, the list below tells what is wrong.
    getJSON(`../api/stats?by=day&since=${since}`).then((found) => closed || setDays(found.days), () => {});
    return () => {
      closed = true;
    };
  }, [round]);
  if (!days.length) return null;
  const x = days.map((day) => unix(day.day));
  const calls = sum(days, "calls");
  const of = (name) => days.map((day) => day[name]);
  return html`<section class="panel" aria-labelledby="days">
    <h2 id="days">The last ${DAYS} days</h2>
    <p>${calls.toLocaleString()} ${calls === 1 ? "call" : "calls"}, ${duration(sum(days, "duration_s"))}, ${money(sum(days, "cost_usd"))}</p>
    ${days.length > 1 && html`<div class="plots" tabindex="0" role="region" aria-label="Plots">
      <${Plot} title="Calls a day" bars unit=${(tick) => (Number.isInteger(tick) ? String(tick) : "")} lines=${["caller"]}
        data=${[x, of("calls")]} words="Calls a day; the table below has the figures." />
      <${Plot} title="Answer, p50 (blue) and p95 (orange)" unit=${(tick) => `${Math.round(tick)} ms`} lines=${["caller", "agent"]}
        data=${[x, of("answer_p50_ms"), of("answer_p95_ms")]} words="Median and 95th percentile of the wait for an answer." />
      <${Plot} title="Cost a day" bars unit=${(tick) => money(tick)} lines=${["agent"]}
        data=${[x, of("cost_usd")]} words="Cost a day; the table below has the figures." />
    </div>`}
    <${Figures} days=${days} />
  </section>`;
}
