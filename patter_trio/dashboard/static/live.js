// The live calls on top of the list, each with its moving picture.

import { html } from "../pages/vendor/htm-preact.js";
import { duration, money, number } from "./format.js";
import { addressOfCall, arrow, otherSide } from "./rows.js";
import { Strip } from "./strip.js";

const SIDES = { user: ["caller", "Caller: "], assistant: ["agent", "Agent: "] };

function LiveRow({ call, speech, whole }) {
  const [side, who] = SIDES[call.last_role] ?? ["quiet", ""];
  return html`<li><a href=${addressOfCall(call.call_id)}>
    <${Strip} speech=${speech} id=${call.call_id}
      words="Speech of the last 20 seconds: caller ${call.user_state}, agent ${call.agent_state}" />
    <span class="who"><strong>${number(otherSide(call), whole)}</strong>
      <span class="quiet">${arrow(call)} · ${duration(call.duration_s)} · ${call.turns}${call.turns === 1 ? " turn" : " turns"} · ${money(call.cost_usd)}</span>
    </span>
    <span class="newest ${side}">${call.last_text ? who + call.last_text : ""}</span>
  </a></li>`;
}

export function LiveCalls({ calls, speech, whole }) {
  return html`<section class="panel" aria-labelledby="live">
    <h2 id="live">Live now: ${calls.length.toLocaleString()}</h2>
    ${calls.length
      ? html`<ul class="live">${calls.map((call) => html`<${LiveRow} key=${call.call_id} call=${call} speech=${speech} whole=${whole} />`)}</ul>`
      : html`<p class="quiet">No call is live.</p>`}
  </section>`;
}
