/* A verdict in plain words, its numbers, its passages, and the whole as a file. */

import { passageElement, showEvidence } from "./evidence.js";
import { clearError } from "./forms.js";
import { saveReceipt } from "./receipts.js";
import { $, announce, count, make, oneIn, percent, plural, pValue, save, scientific } from "./words.js";

const SIGNS = { marked: "✓", not_detected: "–", insufficient_text: "?" };
const CAUTIONS = {
  marked: [
    "It does not say that the text is true, nor that nobody has edited it since.",
    "It guards against accidents, not against forgers: whoever holds the key can mark any text, " +
      "and whoever has gathered much marked text may learn to imitate the mark.",
  ],
  not_detected: [
    "It does not say that a person wrote the text. Only marks of this server's issuers are looked for, " +
      "and editing or translation can remove them.",
  ],
  insufficient_text: [
    "It says neither that the text is marked nor that it is not. The shorter a text, the less its words can carry.",
    "It does not say that a person wrote the text.",
  ],
};
let file = null; /* name and content of the evidence file of the verdict shown */

function title(result) {
  if (result.verdict === "not_detected") return "No mark found";
  if (result.verdict === "insufficient_text") return "Too short to tell";
  const others = [...new Set(result.segments.map((segment) => segment.issuer))].filter((name) => name !== result.issuer);
  return `Marked by issuer “${result.issuer}”${others.length ? `, other passages by ${others.map((name) => `“${name}”`).join(", ")}` : ""}`;
}

/* Returns what the focus should go to. */
export function showVerdict(body, result, raw) {
  $("verdict").dataset.verdict = result.verdict;
  $("verdict").querySelector(".sign").textContent = SIGNS[result.verdict];
  $("verdict-title").textContent = title(result);
  $("explanation").textContent = result.explanation;
  $("cautions").replaceChildren(...CAUTIONS[result.verdict].map((caution) => make("li", caution)));
  $("facts").replaceChildren(...factsOf(result));
  $("passages").hidden = !result.segments.length;
  $("passage-rows").replaceChildren(...result.segments.map(passageRow));
  const coloured = Boolean(result.evidence?.length);
  $("evidence").hidden = !coloured;
  if (coloured) showEvidence(body.text, result);
  showReceipts(result.receipts ?? []);
  file = evidenceFile(body, raw);
  $("verified").hidden = false;
  const message = result.payload_bits ? ` Payload ${result.payload ?? "unreadable"}.` : "";
  announce(`${title(result)}.${message} p-value ${pValue(result.p_value)}.`);
  return $("verdict-title");
}

function fact(name, value, ...notes) {
  const group = make("div"), definition = make("dd", value);
  definition.append(...notes.filter(Boolean).map((note) => make("small", note)));
  group.append(make("dt", name), definition);
  return group;
}

function factsOf(result) {
  const exact = result.exact_p_value === result.p_value ? "" : `exact for a random key: ${pValue(result.exact_p_value)}`;
  const facts = [fact("p-value", pValue(result.p_value), oneIn(result.p_value), exact)];
  if (result.issuer !== null) facts.push(fact("Issuer", result.issuer, `key ${result.key_version}`));
  if (result.payload_bits) facts.push(...payloadFacts(result));
  else if (result.payload !== null) facts.push(fact("Payload", result.payload));
  if (result.verdict !== "marked" && result.expected_detection !== null)
    facts.push(fact("Marks found", percent(result.expected_detection), "of marked texts of this length, when nobody edited them"));
  facts.push(fact("Text", plural(result.tokens, "token"), result.windows ? `and ${plural(result.windows, "part")} of it searched` : ""));
  const tried = result.candidates < 1e9 ? count(result.candidates) : scientific(result.candidates);
  facts.push(fact("Codewords tried", tried, `threshold ${pValue(result.false_positive_rate)}`));
  return facts;
}

function payloadFacts({ payload, payload_confidence, payload_bits }) {
  const sure = percent(payload_confidence);
  if (payload !== null) return [fact("Payload", payload, `${sure} sure`)];
  const facts = [fact("Payload", "unreadable", "a message is there, but too uncertain to be given", `the likeliest one: ${sure}`)];
  const bits = payload_bits.map((bit) => bit.value ?? "?").join("");
  if (/\d/.test(bits)) facts.push(fact("Bits that can be read", bits, "? where unsure"));
  return facts;
}

function passageRow(segment, place) {
  const row = make("tr"), heading = make("th", String(place + 1)), where = make("td");
  heading.scope = "row";
  const show = make("button", `${count(segment.start)} – ${count(segment.end)}`, "link");
  show.type = "button";
  show.setAttribute("aria-label", `Show passage ${place + 1}, characters ${segment.start} to ${segment.end}, in the text`);
  show.addEventListener("click", () => {
    const passage = passageElement(place);
    passage.scrollIntoView({ block: "nearest" });
    passage.focus();
  });
  where.append(show);
  const payload = make("td", segment.payload ?? (segment.payload_confidence === null ? "–" : "unreadable"));
  if (segment.payload_confidence !== null) payload.append(make("small", percent(segment.payload_confidence)));
  const cells = [segment.issuer, String(segment.key_version), payload, pValue(segment.p_value), count(segment.tokens)];
  row.append(heading, where, ...cells.map((cell) => (cell === payload ? payload : make("td", cell))));
  return row;
}

function showReceipts(ids) {
  clearError($("verdict-receipt-error"));
  $("verdict-receipts").replaceChildren(...ids.map((id, place) => {
    const button = make("button", ids.length === 1 ? "Save receipt of this text" : `Save receipt ${place + 1}`);
    button.type = "button";
    button.addEventListener("click", () => saveReceipt(id, $("verdict-receipt-error")));
    return button;
  }));
}

/* The server's answer goes in as it came: JavaScript's numbers would round some of it. */
function evidenceFile(body, raw) {
  const saved = new Date().toISOString();
  const head = { saved_at: saved, detector: new URL("verify", document.baseURI).href, request: body };
  return {
    name: `countersign-verdict-${saved.slice(0, 19).replaceAll(":", "-")}.json`,
    content: `${JSON.stringify(head, null, 1).slice(0, -2)},\n "answer": ${raw}\n}\n`,
  };
}

export function startVerdict() {
  $("save-verdict").addEventListener("click", () => { save(file.name, file.content); announce("Saved."); });
}
