// The dashboard: the list of calls, and the page of each one. Words of callers and agents are always text nodes.
//
// The address of a call's page, and the filters of the list, are behind "#": they never reach a server or its logs.

import { html, render, useEffect, useRef, useState } from "../pages/vendor/htm-preact.js";
import { CallPage } from "./call.js";
import { CallList } from "./calls.js";

const idInAddress = () => {
  const [, id] = /^#call\/(.+)$/.exec(location.hash) ?? [];
  try {
    return id ? decodeURIComponent(id) : "";
  } catch {
    return "";
  }
};

function Page() {
  const [id, setId] = useState(idInAddress());
  const [whole, setWhole] = useState(false);
  // What the list keeps while a call's page is open.
  const kept = useRef({});
  useEffect(() => {
    const changed = () => {
      const now = idInAddress();
      setId(now);
      if (now) scrollTo(0, 0);
    };
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return html`<header class="top">
      <h1>${id ? html`<a href=${kept.current.hash || "#"}>Calls</a> <span class="quiet">/</span> A call` : "Calls"}</h1>
      <button aria-pressed=${String(whole)} onClick=${() => setWhole(!whole)}>Show numbers</button>
    </header>
    ${id ? html`<${CallPage} key=${id} id=${id} whole=${whole} />`
      : html`<${CallList} whole=${whole} kept=${kept.current} />`}`;
}

const root = document.getElementById("dashboard");
root.textContent = "";
render(html`<${Page} />`, root);
