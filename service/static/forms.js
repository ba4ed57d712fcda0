/* What the forms share: one request at a time with progress and a stop button, errors in words, waiting times counted down. */

import { $, announce, count, make, plural } from "./words.js";
import { watch } from "./readiness.js";

/* A mistake that is seen before anything is sent. `field` is the id of its control. */
export class Mistake extends Error {
  constructor(field, detail) { super(detail); this.problem = { errors: [{ pointer: `/${field}`, detail }] }; }
}

/* The number in a field; undefined leaves the choice to the server. */
export function number(id) {
  if ($(id).validity.badInput) throw new Mistake(id, "It should be a number.");
  return $(id).value.trim() === "" ? undefined : Number($(id).value);
}

/* Whether `length` characters are within `limit`, said under a text area. */
export function lengthHint(id, length, limit) {
  const over = length > limit;
  $(id).textContent = length ? `${plural(length, "character")}${over ? `: more than the ${count(limit)} that this server takes` : ""}` : "";
  return !over;
}

/* Makes `run(work)` for the form `name`: `work(signal, progress)` sends the request, `progress(text)` says how it goes. */
export function runner(name, verb) {
  const form = $(name), box = $(`${name}-error`), running = $(`${name}-running`), actions = $(`${name}-actions`);
  let controller = null;
  $(`${name}-stop`).addEventListener("click", () => controller?.abort());

  return async function run(work) {
    if (controller) return;
    controller = new AbortController();
    clearError(box);
    for (const field of form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
    const focused = actions.contains(document.activeElement);
    actions.hidden = true;
    running.hidden = false;
    if (focused) $(`${name}-stop`).focus();
    const began = performance.now();
    let how = verb;
    const tick = () => { $(`${name}-progress`).textContent = `${how} … ${Math.floor((performance.now() - began) / 1000)} s`; };
    const timer = setInterval(tick, 250);
    const progress = (text) => { how = text; tick(); };
    tick();
    announce(`${verb}.`);
    watch();
    let done = null;
    try {
      done = await work(controller.signal, progress);
    } catch (error) {
      if (error.name === "AbortError") announce("Stopped.");
      else {
        showError(box, error, form);
        if (!error.problem) console.error(error);
      }
    }
    clearInterval(timer);
    const held = running.contains(document.activeElement) || document.activeElement === document.body;
    running.hidden = true;
    actions.hidden = false;
    controller = null;
    if (held && done) { /* whoever has gone on to something else is left there */
      done.focus({ preventScroll: true });
      done.parentElement.scrollIntoView({ block: "nearest", behavior: "auto" });
    } else if (held) $(`${name}-button`).focus();
    watch();
  };
}

const countdowns = new WeakMap();
export function clearError(box) {
  clearInterval(countdowns.get(box));
  box.hidden = true;
  box.replaceChildren();
}

/* Shows an error in `box`, beside the fields of `form` that it is about, and counts down to the next try where the server named one. */
export function showError(box, error, form) {
  clearError(box);
  const problem = error.problem ?? {}, places = problem.errors ?? [];
  const message = make("div");
  message.setAttribute("role", "alert");
  message.append(make("span", places.length ? "Please check:" : error.message));
  if (places.length) {
    const list = make("ul");
    list.append(...places.map((place) => make("li", `${labelOf(place, form)}: ${place.detail}`)));
    message.append(list);
  }
  if (problem.error_id) message.append(make("small", `Error id ${problem.error_id}: the server's log has the details under it.`));
  box.classList.toggle("mild", problem.status === 503 || problem.status === 429);
  box.hidden = false;
  box.append(message);
  if (error.retryAfter > 0) countDown(box, error.retryAfter);
}

function labelOf(place, form) {
  const field = form?.querySelector(`#${CSS.escape(place.pointer.split("/")[1] || "none")}`);
  field?.setAttribute("aria-invalid", "true");
  return field?.labels?.[0]?.firstChild.textContent.trim() || place.pointer || "The request";
}

function countDown(box, seconds) {
  const line = make("span", "", "countdown"), end = performance.now() + 1000 * seconds;
  const tick = () => {
    const left = Math.ceil((end - performance.now()) / 1000);
    line.textContent = left > 0 ? `Try again in ${inWords(left)}.` : "You can try again now.";
    if (left > 0) return;
    clearInterval(countdowns.get(box));
    announce(line.textContent);
  };
  box.append(line);
  countdowns.set(box, setInterval(tick, 250));
  tick();
}

function inWords(seconds) {
  if (seconds < 120) return plural(seconds, "second");
  return seconds < 7200 ? plural(Math.ceil(seconds / 60), "minute") : plural(Math.ceil(seconds / 3600), "hour");
}
