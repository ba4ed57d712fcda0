/* Who asks: the API key, what can be done with it or without one, and the issuers that it may see. */

import { clearError, Mistake, showError } from "./forms.js";
import { server, whenServerChanges } from "./readiness.js";
import { call, hasKey, useKey } from "./server.js";
import { $ } from "./words.js";

const PUBLIC_NOTE =
  "Without an API key you can verify one text at a time: the answer is coarse, without passages and evidence, and nothing is kept.";
const CLOSED_NOTE = "This server serves nobody without an API key.";
const KEY_NOTE = "An API key is in use. It is sent to this server only, and is gone when the page is closed or loaded again.";
const KEPT_NOTE = "An API key is in use. It is sent to this server only, and kept until this tab is closed.";

let payloadBits = {};
export const payloadBitsOf = (issuer) => payloadBits[issuer] ?? 0;

const known = () => !server.authentication || hasKey();
const open = () => known() || server.publicTextCharacters !== null;
/* Characters that a text to be verified may have for whoever asks now. */
export const mostTextCharacters = () => (known() ? server.maxTextCharacters : server.publicTextCharacters ?? server.maxTextCharacters);

function showAccess() {
  $("access").hidden = !server.authentication;
  $("forget-key").hidden = !hasKey();
  $("access-note").textContent = !hasKey() ? (open() ? PUBLIC_NOTE : CLOSED_NOTE) : $("keep-key").checked ? KEPT_NOTE : KEY_NOTE;
  $("generate-button").disabled = !server.ready || !known();
  $("verify-button").disabled = !server.ready || !open();
  $("verify-choices").hidden = !known();
  $("verify-note").hidden = known();
  $("verify-note").textContent = open() ? "Without an API key the answer is coarse." : "Verifying needs an API key.";
  $("generate-note").hidden = known();
  $("generate-note").textContent = "Generating needs an API key.";
  $("text").dispatchEvent(new Event("input")); /* how long it may be has changed with who asks */
}

let asked = 0;
async function loadIssuers() {
  if (!server.ready || !known()) return fillIssuers([]);
  const turn = (asked += 1);
  try {
    const { answer } = await call("issuers");
    if (turn !== asked) return; /* the key has changed meanwhile */
    clearError($("access-error"));
    fillIssuers(answer.issuers);
  } catch (error) {
    if (turn !== asked) return;
    showError($("access-error"), error, $("access-form"));
    $("access").hidden = false;
    if (error.problem?.status === 401 && hasKey()) {
      useKey("", false);
      fillIssuers([]);
      showAccess();
    }
  }
}

function fillIssuers(issuers) {
  const active = issuers.filter((issuer) => issuer.retired_at === null).map((issuer) => issuer.name);
  payloadBits = Object.fromEntries(issuers.map((issuer) => [issuer.name, issuer.payload_bits]));
  fill($("issuer"), active.map((name) => new Option(name, name)), "default");
  $("issuer").disabled = !active.length;
  const all = issuers.map(({ name, retired_at }) => new Option(retired_at === null ? name : `${name} (retired)`, name));
  fill($("issuers"), [new Option("any issuer", ""), ...all], "");
  $("issuer").dispatchEvent(new Event("change"));
}

/* Keeps what was chosen, where it is still there. */
function fill(select, options, otherwise) {
  const values = options.map((option) => option.value), chosen = select.value;
  select.replaceChildren(...options);
  const choice = [chosen, otherwise].find((value) => value !== "" && values.includes(value));
  if (choice !== undefined) select.value = choice;
}

export function startAccess() {
  $("keep-key").checked = hasKey(); /* it can only have been kept */
  whenServerChanges(() => { showAccess(); loadIssuers(); });
  $("access-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const key = $("api-key").value.trim();
    if (!/^[\x21-\x7e]+$/.test(key)) {
      const mistake = new Mistake("api-key", "It should be the letters, digits and signs of a key, without spaces.");
      showError($("access-error"), mistake, $("access-form"));
      return $("api-key").focus();
    }
    $("api-key").removeAttribute("aria-invalid");
    useKey(key, $("keep-key").checked);
    $("api-key").value = "";
    showAccess();
    loadIssuers();
  });
  $("keep-key").addEventListener("change", showAccess);
  $("forget-key").addEventListener("click", () => {
    useKey("", false);
    clearError($("access-error"));
    showAccess();
    loadIssuers();
    $("api-key").focus();
  });
}
