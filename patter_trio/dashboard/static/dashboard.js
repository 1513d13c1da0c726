// The dashboard: the list of calls, and the page of each one. Words of callers and agents are always text nodes.
//
// The address of a call's page is behind "#": it never reaches a server or its logs.

import { Refused } from "../pages/api.js";
import { html, render, useEffect, useState } from "../pages/vendor/htm-preact.js";
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

/** Return what to tell about a failed request. */
export function failure(error) {
  if (error instanceof Refused && error.status === 401) return "Your login has ended. Load the page anew to log in.";
  if (error instanceof Refused) return error.message;
  return "The server does not answer. This page tries again.";
}

function Page() {
  const [id, setId] = useState(idInAddress());
  const [whole, setWhole] = useState(false);
  useEffect(() => {
    const changed = () => {
      setId(idInAddress());
      scrollTo(0, 0);
    };
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return html`<header class="top">
      <h1>${id ? html`<a href="#">Calls</a> <span class="quiet">/</span> A call` : "Calls"}</h1>
      <button aria-pressed=${String(whole)} onClick=${() => setWhole(!whole)}>Show numbers</button>
    </header>
    ${id ? html`<${CallPage} key=${id} id=${id} whole=${whole} failure=${failure} />`
      : html`<${CallList} whole=${whole} failure=${failure} />`}`;
}

const root = document.getElementById("dashboard");
root.textContent = "";
render(html`<${Page} />`, root);
