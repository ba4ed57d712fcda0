/* Generate: the text appears while it is written; what its mark amounts to is said at the end. */

import { payloadBitsOf } from "./access.js";
import { clearError, lengthHint, Mistake, number, runner } from "./forms.js";
import { server, whenServerChanges } from "./readiness.js";
import { saveReceipt } from "./receipts.js";
import { stream } from "./server.js";
import { verifyText } from "./verify.js";
import { $, announce, codePoints, make, plural, pValue } from "./words.js";

const WHY_ENDED = { stop: "ended by itself or at a stop string", length: "cut at the length asked for" };
const UNFINISHED = "Unfinished. Its mark was not checked, and no receipt was kept: verify the text to see whether a mark can be read.";
let written = ""; /* the continuation so far */
let receiptId = null;

function requestBody() {
  const body = { prompt: $("prompt").value, stream: true, receipt: $("receipt").checked };
  if (codePoints(body.prompt) > server.maxPromptCharacters) throw new Mistake("prompt", $("prompt-count").textContent);
  for (const field of ["max_new_tokens", "min_new_tokens", "temperature", "top_k", "top_p"]) body[field] = number(field);
  if ($("issuer").value) body.issuer = $("issuer").value;
  body.strength = $("watermark").checked ? Number($("strength").value) / 100 : 0;
  if (!$("payload-row").hidden && $("payload").value.trim()) body.payload = $("payload").value.trim();
  const seed = $("seed").value.trim();
  if (seed) body.seed = wholeNumber(seed);
  const stops = $("stop").value.split("\n").filter((line) => line !== "");
  if (stops.length) body.stop = stops.map((line) => line.replaceAll("\\n", "\n"));
  return body;
}

/* Sent as typed, a seed above 2^53 would become another number. */
function wholeNumber(seed) {
  if (/^\d+$/.test(seed) && Number.isSafeInteger(Number(seed))) return Number(seed);
  throw new Mistake("seed", "It should be a whole number from 0 to 9007199254740991.");
}

async function generate(signal, progress) {
  const body = requestBody();
  const began = performance.now();
  let first = null, tokens = 0, result = null, live = null;
  const begin = () => { first = performance.now(); live = showBeginning(body.prompt); };
  progress("Waiting for the first token");
  try {
    for await (const { event, data } of stream("generate", body, signal)) {
      if (event === "piece") {
        if (!live) begin();
        written += data.text;
        tokens = data.tokens;
        append(live, data.text);
        progress(`Writing · ${plural(tokens, "token")}${rate(tokens, first)}`);
      } else if (event === "result") result = data;
    }
  } catch (error) {
    if (live) showUnfinished(tokens);
    throw error;
  }
  if (!live) live = showBeginning(body.prompt);
  live.data = written = result.text;
  showResult(body, result, (performance.now() - began) / 1000, rate(tokens, first));
  return $("generated-title");
}

/* Nothing is said before there is something to measure. */
function rate(tokens, first) {
  const seconds = (performance.now() - first) / 1000;
  return first === null || tokens < 2 || seconds < 0.2 ? "" : ` · ${((tokens - 1) / seconds).toPrecision(2)} tokens/s`;
}

function showBeginning(prompt) {
  const live = document.createTextNode("");
  written = "";
  $("generated-text").replaceChildren(make("span", prompt, "prompt"), live);
  $("generated-text").scrollTop = 0;
  $("generated-title").textContent = "Continuation";
  $("generated-marking").hidden = $("generated-actions").hidden = true;
  $("generated-facts").textContent = "";
  clearError($("receipt-error"));
  $("generated").hidden = false;
  return live;
}

/* Follows the text down, unless its reader has scrolled up. */
function append(live, text) {
  const box = $("generated-text"), following = box.scrollTop + box.clientHeight > box.scrollHeight - 40;
  live.appendData(text);
  if (following) box.scrollTop = box.scrollHeight;
}

function showUnfinished(tokens) {
  $("generated-title").textContent = "Continuation, unfinished";
  showMarking(false, UNFINISHED);
  $("generated-facts").textContent = plural(tokens, "token");
  showActions(null);
}

function showResult(body, result, seconds, speed) {
  const mark = result.marking;
  showMarking(mark.watermark, markingInWords(body, mark));
  $("generated-facts").textContent = [
    `${plural(mark.tokens, "token")}${mark.marked_tokens ? `, ${mark.marked_tokens} of them marked` : ""}`,
    `${seconds.toFixed(1)} s${speed}`,
    WHY_ENDED[result.finish_reason] ?? result.finish_reason,
    `seed ${result.seed}`,
  ].join(" · ");
  showActions(result.receipt_id);
  announce(`Done. ${$("generated-marking").textContent}`);
}

function markingInWords(body, mark) {
  if (mark.watermark) {
    const payload = mark.payload === null ? "" : `, payload ${mark.payload}`;
    return `Marked by issuer “${mark.issuer}”${payload}. The mark was read back from the finished text: p = ${pValue(mark.p_value)}.`;
  }
  return body.strength === 0 ? "Not marked: the watermark was off." : `Not marked. ${mark.reason}`;
}

function showMarking(marked, words) {
  const line = $("generated-marking");
  line.dataset.marked = marked;
  line.textContent = words;
  line.hidden = false;
}

function showActions(receipt) {
  receiptId = receipt;
  $("generated-receipt").hidden = receipt === null;
  $("verify-generated").disabled = written === "";
  $("generated-actions").hidden = false;
}

function showPayload() {
  const bits = payloadBitsOf($("issuer").value);
  $("payload-row").hidden = !bits;
  $("payload-hint").textContent = bits ? `optional, ${bits} bits: 0 to ${((1n << BigInt(bits)) - 1n).toString(16)} in hexadecimal` : "";
}
function showStrength() {
  const on = $("watermark").checked;
  $("strength").disabled = !on;
  $("strength-value").textContent = on ? `${$("strength").value} %` : "off";
}

async function copy() {
  let done = true;
  try { await navigator.clipboard.writeText(written); } catch { done = false; }
  $("copy").textContent = done ? "Copied" : "Copying is blocked";
  announce($("copy").textContent);
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1600);
}

export function startGenerate() {
  const run = runner("generate", "Generating");
  $("generate").addEventListener("submit", (event) => { event.preventDefault(); if (!$("generate-button").disabled) run(generate); });
  $("prompt").addEventListener("input", () => {
    const length = codePoints($("prompt").value); /* worth a word only when it is too much */
    if (lengthHint("prompt-count", length, server.maxPromptCharacters)) $("prompt-count").textContent = "";
  });
  $("issuer").addEventListener("change", showPayload);
  $("watermark").addEventListener("change", showStrength);
  $("strength").addEventListener("input", showStrength);
  $("verify-generated").addEventListener("click", () => verifyText(written));
  $("copy").addEventListener("click", copy);
  $("generated-receipt").addEventListener("click", () => saveReceipt(receiptId, $("receipt-error")));
  whenServerChanges(() => { if (server.maxNewTokens) $("max_new_tokens").max = server.maxNewTokens; });
  showStrength();
}
