/* Verify: a text that was pasted, dropped or chosen as a file. */

import { lengthHint, Mistake, runner, showError } from "./forms.js";
import { mostTextCharacters } from "./access.js";
import { whenServerChanges } from "./readiness.js";
import { call } from "./server.js";
import { showVerdict } from "./verdict.js";
import { $, announce, codePoints, count, plural } from "./words.js";

const BYTES_PER_CHARACTER = 4; /* at most, in UTF-8 and UTF-16 */
let run;

async function verify(signal) {
  const text = $("text").value;
  if (!countText()) throw new Mistake("text", $("text-count").textContent);
  const body = { text };
  if (!$("verify-choices").hidden) {
    body.false_positive_rate = Number($("false_positive_rate").value);
    if ($("issuers").value) body.issuers = [$("issuers").value];
  }
  const { answer, raw } = await call("verify", body, signal);
  return showVerdict(body, answer.results[0], raw);
}

export function verifyText(text) {
  $("text").value = text;
  countText();
  $("verify-button").focus(); /* so that the focus goes on to the verdict */
  run(verify);
}

const countText = () => lengthHint("text-count", codePoints($("text").value), mostTextCharacters());

/* ---- files ---- */
async function read(files) {
  try {
    const [file] = files;
    if (files.length !== 1) throw new Mistake("file", "One file at a time, please.");
    const most = mostTextCharacters();
    if (file.size > BYTES_PER_CHARACTER * most)
      throw new Mistake("file", `${file.name} has ${plural(file.size, "byte")}: more than the ${count(most)} characters that this server takes.`);
    $("text").value = decode(new Uint8Array(await file.arrayBuffer()), file.name);
    $("verify-error").hidden = true;
    $("file").removeAttribute("aria-invalid");
    countText();
    announce(`${file.name} loaded: ${$("text-count").textContent}.`);
  } catch (error) {
    showError($("verify-error"), error, $("verify"));
  }
}

function decode(bytes, name) {
  const [first, second] = bytes;
  const encoding = first === 0xff && second === 0xfe ? "utf-16le" : first === 0xfe && second === 0xff ? "utf-16be" : "utf-8";
  try {
    const text = new TextDecoder(encoding, { fatal: true }).decode(bytes);
    if (!text.includes("\0")) return text;
  } catch { /* told below */ }
  throw new Mistake("file", `${name} is not a text file (UTF-8 or UTF-16). Save it as plain text, or paste its text.`);
}

export function startVerify() {
  run = runner("verify", "Verifying");
  $("verify").addEventListener("submit", (event) => { event.preventDefault(); if (!$("verify-button").disabled) run(verify); });
  $("text").addEventListener("input", countText);
  whenServerChanges(countText);
  $("file").addEventListener("change", () => { if ($("file").files.length) read($("file").files); });

  const card = $("verify-card"), holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault(); /* elsewhere too: the browser would leave this page for the file */
    card.classList.toggle("dropping", card.contains(event.target));
    event.dataTransfer.dropEffect = card.contains(event.target) ? "copy" : "none";
  });
  for (const end of ["dragleave", "drop"]) document.addEventListener(end, () => card.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    if (card.contains(event.target)) read(event.dataTransfer.files);
  });
}
