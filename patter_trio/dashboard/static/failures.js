// What a page tells about a request that has failed. Whatever was typed stays in the page.

import { Refused } from "../pages/api.js";

const GONE = "The server does not answer. This page tries again, and keeps what you have typed.";
const ASK_TIMEOUT_MS = 3000;

/** Return what to tell about a failed request. */
export function failure(error) {
  if (!(error instanceof Refused)) return GONE;
  if (error.status !== 401) return error.message;
  return "Your login has ended. Log in again in another tab; this page keeps what you have typed.";
}

/** Return why a stream of events has ended, as the server tells it. */
export async function whyLost() {
  try {
    const answer = await fetch("../ready", { cache: "no-store", signal: AbortSignal.timeout(ASK_TIMEOUT_MS) });
    if (answer.status !== 503) return "The connection was lost. This page opens it again.";
    // It drains, or is full: live calls go on.
    return `The server takes no new calls: ${(await answer.json()).status}. Live calls go on, and so does this page.`;
  } catch {
    return GONE;
  }
}
