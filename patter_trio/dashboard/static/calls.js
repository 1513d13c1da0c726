// The list of calls: the live ones with a moving picture, figures by day, then the calls that are over, filtered as one
// types.

import { followEvents, getJSON, oneAtATime, postJSON } from "../pages/api.js";
import { html, useEffect, useRef, useState } from "../pages/vendor/htm-preact.js";
import { Days } from "./days.js";
import { addressOf, chipsOf, filtersIn, NO_FILTERS, OUTCOMES, searchOf } from "./filters.js";
import { outcome, zone } from "./format.js";
import { failure, whyLost } from "./failures.js";
import { LiveCalls } from "./live.js";
import { Rows } from "./rows.js";
import { Speech } from "./strip.js";

// Judged: four screens of rows; the server reads it in some milliseconds.
const PAGE_CALLS = 100;
// Judged: letters of one stroke of the keyboard or of a paste are one question, and the answer to the last letter is there
// within 200 ms, which is felt as at once.
const TYPING_MS = 60;
// Durations and costs of live calls grow between the events.
const LOOK_EVERY_MS = 2000;
// Judged: after that, what has happened at once is one look.
const GATHER_MS = 150;
const LOOK_TYPES = ["call_started", "call_ended", "transcript_final", "metrics_collected"];

function Kept({ facts }) {
  if (!facts || facts.kept === "log") return null;
  return html`<p class="note">No call log: this page shows the last ${facts.max_calls} calls since the server began, and they are
    lost when it ends.</p>`;
}

function Field({ label, name, filters, onChange, ...given }) {
  return html`<label>${label}<input value=${filters[name]} onChange=${(event) => onChange({ [name]: event.target.value })} ...${given} /></label>`;
}

function Filters({ filters, onChange }) {
  const chips = chipsOf(filters);
  return html`<details class="more-filters"><summary>Filters</summary><div class="filters">
      <label>Outcome
        <select value=${filters.outcome} onChange=${(event) => onChange({ outcome: event.target.value })}>
          <option value="">all</option>
          ${OUTCOMES.map((name) => html`<option key=${name} value=${name}>${outcome(name).text}</option>`)}
        </select></label>
      <${Field} label="From (${zone})" name="since" type="date" filters=${filters} onChange=${onChange} />
      <${Field} label="To (${zone})" name="until" type="date" filters=${filters} onChange=${onChange} />
      <${Field} label="Least duration, s" name="min_duration" type="number" min="0" filters=${filters} onChange=${onChange} />
      <${Field} label="Least cost, US$" name="min_cost" type="number" min="0" step="0.01" filters=${filters} onChange=${onChange} />
    </div></details>
    ${chips.length > 0 && html`<ul class="chips" aria-label="Filters that are set">
      ${chips.map(({ name, text }) => html`<li key=${name}><button type="button" class="chip" aria-label="Remove the filter: ${text}"
        onClick=${() => onChange({ [name]: "" })}>${text} <span aria-hidden="true">×</span></button></li>`)}
      ${chips.length > 1 && html`<li><button type="button" class="chip" onClick=${() => onChange(NO_FILTERS)}>Remove all</button></li>`}
    </ul>`}`;
}

const findCalls = (search) => postJSON("../api/calls/search", search);

/** Return the list with its newest page read again: what is new, has changed or was deleted there. */
function renewed(old, page) {
  const last = page.calls.at(-1)?.call_id;
  const place = old ? old.calls.findIndex((call) => call.call_id === last) : -1;
  return place < 0 ? page : { calls: [...page.calls, ...old.calls.slice(place + 1)], next: old.next };
}

/**
 * The page. `kept` is an object that outlives it: what was typed and found, and how far it was scrolled, for somebody
 * who comes back from a call's page.
 */
export function CallList({ whole, kept }) {
  const [live, setLive] = useState([]);
  const [found, setFound] = useState(kept.found ?? null);
  const [facts, setFacts] = useState(null);
  const [trouble, setTrouble] = useState("");
  const [lost, setLost] = useState("");
  const [typed, setTyped] = useState(kept.typed ?? "");
  const [filters, setFilters] = useState(filtersIn(location.hash));
  const [ended, setEnded] = useState(0);
  const speech = useRef(null);
  speech.current ??= new Speech();
  const search = useRef(null);
  const asked = useRef({ number: 0, reading: false });
  Object.assign(kept, { found, typed, hash: addressOf(filters) });

  const tried = async (work) => {
    try {
      await work();
      setTrouble("");
    } catch (error) {
      setTrouble(failure(error));
    }
  };
  const read = (cursor = "") => findCalls(searchOf(kept.typed, filtersIn(kept.hash), { cursor, limit: PAGE_CALLS }));
  const looking = useRef(null);
  looking.current ??= oneAtATime(() => tried(async () => setLive((await getJSON("../api/live")).calls)));
  const look = looking.current;
  const find = (again) => tried(async () => {
    const mine = (asked.current.number += 1);
    const page = await read();
    // An answer to an older question comes too late.
    if (mine === asked.current.number) setFound((old) => (again ? renewed(old, page) : page));
  });
  const more = () => {
    if (asked.current.reading) return;
    const mine = asked.current.number;
    asked.current.reading = true;
    tried(async () => {
      try {
        const page = await read(found.next);
        if (mine === asked.current.number) setFound((old) => ({ calls: [...old.calls, ...page.calls], next: page.next }));
      } finally {
        asked.current.reading = false;
      }
    });
  };
  const change = (changed) => {
    const now = { ...filters, ...changed };
    // No new entry of the history: "back" leaves the list.
    history.replaceState(null, "", addressOf(now));
    setFilters(filtersIn(addressOf(now)));
  };

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
          find(true);
          setEnded((count) => count + 1);
        }, GATHER_MS);
      }
      if (LOOK_TYPES.includes(record.type)) soon(look);
    }, async (open) => setLost(open ? "" : await whyLost()));
    const slash = (event) => {
      if (event.key !== "/" || ["INPUT", "SELECT", "TEXTAREA"].includes(document.activeElement?.tagName)) return;
      event.preventDefault();
      search.current?.focus();
    };
    const changed = () => setFilters(filtersIn(location.hash));
    const scrolled = () => {
      kept.scroll = scrollY;
    };
    addEventListener("keydown", slash);
    addEventListener("hashchange", changed);
    scrollTo(0, kept.scroll ?? 0);
    addEventListener("scroll", scrolled, { passive: true });
    return () => {
      clearInterval(timer);
      clearTimeout(gathered);
      unfollow();
      removeEventListener("keydown", slash);
      removeEventListener("hashchange", changed);
      removeEventListener("scroll", scrolled);
    };
  }, []);
  const first = useRef(true);
  useEffect(() => {
    const again = first.current && Boolean(found);
    first.current = false;
    const timer = setTimeout(() => find(again), found && !again ? TYPING_MS : 0);
    return () => clearTimeout(timer);
  }, [typed, filters]);

  const ids = new Set(live.map((call) => call.call_id));
  const over = (found?.calls ?? []).filter((call) => !ids.has(call.call_id));
  const filtered = typed.trim() || chipsOf(filters).length;
  const why = !found ? "The calls are being loaded." : filtered ? "No call matches." : "No call has ended yet.";
  return html`<main>
    <p class="trouble bad" role="status">${trouble || lost}</p>
    <${LiveCalls} calls=${live} speech=${speech.current} whole=${whole} />
    <${Days} round=${ended} />
    <section class="panel" aria-labelledby="over">
      <h2 id="over">Over</h2>
      <${Kept} facts=${facts} />
      <div role="search">
        <label class="search"><span>Words or number <span class="quiet">(key /)</span></span>
          <input ref=${search} type="text" autocomplete="off" maxlength="200" value=${typed}
            onInput=${(event) => setTyped(event.target.value)} /></label>
        <${Filters} filters=${filters} onChange=${change} />
      </div>
      <${Rows} calls=${over} hasMore=${Boolean(found?.next)} onMore=${more} whole=${whole} why=${why} />
    </section>
  </main>`;
}
