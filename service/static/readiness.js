/* Watches whether the server serves: while it loads, while a request runs, and after it was gone. */

import { $, plural } from "./words.js";

/* What the last answer of GET /readyz said, for the whole page. */
export const server = {
  ready: false, authentication: false, maxTextCharacters: Infinity, publicTextCharacters: null, maxPromptCharacters: Infinity, maxNewTokens: NaN,
};

const listeners = [];
export const whenServerChanges = (listener) => { listeners.push(listener); };

const PAUSE = { ready: 10_000, working: 2_000, waiting: 1_500 }; /* milliseconds */
let timer, asking = false, lost = 0;

export async function watch() {
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  let pause = PAUSE.waiting;
  try {
    const response = await fetch("readyz");
    const state = await response.json();
    if (typeof state.status !== "string") throw new TypeError("not a readiness answer");
    lost = 0;
    take(state);
    if (state.status === "ready") pause = document.querySelector(".running:not([hidden])") ? PAUSE.working : PAUSE.ready;
  } catch {
    lost += 1; /* one lost connection is no news */
    if (lost > 1) gone();
  }
  asking = false;
  timer = setTimeout(watch, pause);
}

function take(state) {
  const before = JSON.stringify(server);
  Object.assign(server, {
    ready: state.status === "ready",
    authentication: state.authentication,
    maxTextCharacters: state.max_text_characters,
    publicTextCharacters: state.public_text_characters, /* null where nobody verifies without a key */
    maxPromptCharacters: state.max_prompt_characters,
    maxNewTokens: state.max_new_tokens,
  });
  say(state);
  if (JSON.stringify(server) !== before) tell();
}

function gone() {
  show("failed", "The server cannot be reached. Is it still running?");
  if (!server.ready) return;
  server.ready = false;
  tell();
}

function tell() {
  for (const listener of listeners) listener();
}

function say(state) {
  if (state.status !== "ready") return show(state.status === "failed" ? "failed" : "wait", state.detail);
  const waiting = [[state.waiting_prompts, "prompt"], [state.waiting_texts, "text"]].filter(([number]) => number > 0);
  const queue = waiting.map(([number, what]) => plural(number, what)).join(" and ");
  show("ready", `Ready · ${state.model}${queue ? ` · ${queue} waiting` : ""}`);
}

function show(state, message) {
  if ($("status").textContent !== message) $("status").textContent = message; /* said aloud once, not at every look */
  $("status").dataset.state = state;
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) watch(); });
