/* The text coloured by its evidence, with its marked passages delimited. Offsets count Unicode code points. */

import { $, count, make, plural, pValue } from "./words.js";

const MANY = 3000; /* elements that a browser lays out at once; longer texts are coloured by the mean of neighbouring tokens */

export const passageElement = (place) => $(`passage-${place + 1}`);

export function showEvidence(text, { issuer, evidence, segments }) {
  const characters = Array.from(text);
  const together = Math.ceil(evidence.length / MANY);
  const tokens = grouped(evidence, together);
  const level = levels(tokens);
  const whole = document.createDocumentFragment();
  let target = whole, passage = null;
  for (const run of cut(runs(tokens, characters.length), segments)) {
    if (run.passage !== passage) {
      if (passage !== null) target.append(make("span", ` [Passage ${passage + 1} ends]`, "unseen"));
      passage = run.passage;
      target = passage === null ? whole : opened(passage, segments[passage]);
      if (target !== whole) whole.append(target);
    }
    put(target, characters.slice(run.from, run.to).join(""), run.score, level);
  }
  if (passage !== null) target.append(make("span", ` [Passage ${passage + 1} ends]`, "unseen"));
  $("evidence-text").replaceChildren(whole);
  $("evidence-text").scrollTop = 0;
  $("evidence-issuer").textContent = `“${issuer}”`;
  const favourable = evidence.filter((token) => token.score > 0).length;
  const mean = together > 1 ? `; each colour is the mean of ${together} tokens` : "";
  $("evidence-count").textContent = `${count(favourable)} of ${plural(evidence.length, "token")} speak for it${mean}`;
}

function grouped(evidence, together) {
  if (together === 1) return evidence;
  const groups = [];
  for (let first = 0; first < evidence.length; first += together) {
    const group = evidence.slice(first, first + together);
    const score = group.reduce((sum, token) => sum + token.score, 0) / group.length;
    groups.push({ start: group[0].start, end: group.at(-1).end, score });
  }
  return groups;
}

/* Seven levels, so that the strongest twentieth of the tokens has the strongest colour. */
function levels(tokens) {
  const sizes = tokens.map((token) => Math.abs(token.score)).sort((a, b) => a - b);
  const scale = sizes[Math.floor(0.95 * (sizes.length - 1))] || 1;
  return (score) => Math.max(-3, Math.min(3, Math.round((3 * score) / scale)));
}

/* The whole text from its first to its last character; score null between tokens. Tokens may leave gaps and overlap. */
function* runs(tokens, length) {
  let at = 0;
  for (const { start, end, score } of tokens) {
    const from = Math.max(start, at);
    if (end <= from) continue;
    if (from > at) yield { from: at, to: from, score: null };
    yield { from, to: end, score };
    at = end;
  }
  if (at < length) yield { from: at, to: length, score: null };
}

/* The same, cut where passages begin and end, each with the place of its passage or null. */
function* cut(pieces, segments) {
  let place = 0;
  for (let { from, to, score } of pieces) {
    while (from < to) {
      while (place < segments.length && segments[place].end <= from) place += 1;
      const next = segments[place], inside = next !== undefined && next.start <= from;
      const stop = next === undefined ? to : Math.min(to, inside ? next.end : next.start);
      yield { from, to: stop, score, passage: inside ? place : null };
      from = stop;
    }
  }
}

function opened(place, segment) {
  const passage = make("span", undefined, "passage");
  passage.id = `passage-${place + 1}`;
  passage.dataset.number = place + 1;
  passage.title = `Passage ${place + 1}: issuer ${segment.issuer}, p-value ${pValue(segment.p_value)}`;
  passage.tabIndex = -1;
  passage.append(make("span", `[Passage ${place + 1}, issuer ${segment.issuer}, begins] `, "unseen"));
  return passage;
}

function put(target, piece, score, level) {
  if (score === null) return target.append(piece);
  const [, space, word] = /^(\s*)([^]*)$/.exec(piece); /* words are coloured, not the gaps in front of them */
  const strength = level(score);
  const element = make(strength ? "mark" : "span", word, strength ? `${strength > 0 ? "p" : "n"}${Math.abs(strength)}` : "");
  element.title = `evidence ${score >= 0 ? "+" : "−"}${Math.abs(score).toFixed(2)}`;
  target.append(space, element);
}
