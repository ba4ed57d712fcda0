/* Talking to the server that this page came from: JSON, event streams, problems, and the API key. */

const UNREACHABLE = "The server cannot be reached. Is it still running?";
const BROKEN_OFF = "The connection was lost before the text was finished.";

/* ---- the API key: in memory, and in the tab's own storage only when asked for ---- */
const KEPT = "countersign-api-key";
let apiKey = "";
try { apiKey = sessionStorage.getItem(KEPT) ?? ""; } catch { /* storage is blocked: then nothing is kept */ }

export const hasKey = () => apiKey !== "";
export function useKey(key, keep) {
  apiKey = key;
  try {
    if (keep && key) sessionStorage.setItem(KEPT, key);
    else sessionStorage.removeItem(KEPT);
  } catch { /* as above */ }
}

/* ---- errors ---- */
const IN_WORDS = {
  403: "This API key does not allow that.",
  429: "That was too much for the moment.",
  503: "The server cannot take this now.",
};

/* An answer that is no success, as RFC 9457 problem. `retryAfter` is in seconds, or NaN. */
export class ServerProblem extends Error {
  constructor(problem, retryAfter = NaN) {
    const lead = problem.status === 401 && hasKey() ? "The server does not accept this API key." : IN_WORDS[problem.status];
    super([lead, problem.detail || problem.title || "The server refused."].filter(Boolean).join(" "));
    this.problem = problem;
    this.retryAfter = retryAfter;
  }
}

async function send(path, body, signal) {
  const headers = {};
  if (apiKey) headers.Authorization = `Bearer ${apiKey}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const method = body === undefined ? "GET" : "POST";
  try {
    return await fetch(path, { method, headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerProblem({ detail: UNREACHABLE });
  }
}

/* Parses an answer's text. Throws ServerProblem when it is no success or no JSON. */
function understood(response, text) {
  let answer;
  try { answer = JSON.parse(text); } catch {
    const detail = `The answer is nothing that this page understands (status ${response.status}).`;
    throw new ServerProblem({ status: response.status, detail });
  }
  if (!response.ok) throw new ServerProblem(answer, Number.parseInt(response.headers.get("Retry-After"), 10));
  return answer;
}

/* JSON in, JSON out; GET without a body. `raw` is the answer as it came: JavaScript's numbers would round some of it. */
export async function call(path, body, signal) {
  const response = await send(path, body, signal);
  let raw;
  try { raw = await response.text(); } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerProblem({ detail: UNREACHABLE });
  }
  return { answer: understood(response, raw), raw };
}

/* Server-sent events of a POST as {event, data}. Throws ServerProblem; an `error` event is thrown as one too. */
export async function* stream(path, body, signal) {
  const response = await send(path, body, signal);
  if (!response.ok) understood(response, await response.text());
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    let part;
    try { part = await reader.read(); } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerProblem({ detail: BROKEN_OFF });
    }
    if (part.done) throw new ServerProblem({ detail: BROKEN_OFF });
    const blocks = (rest + part.value).split(/\r\n\r\n|\n\n|\r\r/);
    rest = blocks.pop();
    for (const block of blocks) {
      const { event, data } = fields(block);
      if (data === "") continue; /* a comment that keeps the connection alive */
      if (event === "error") throw new ServerProblem(JSON.parse(data));
      yield { event, data: JSON.parse(data) };
      if (event === "done") return;
    }
  }
}

function fields(block) {
  const found = { event: "message", data: [] };
  for (const line of block.split(/\r\n|\n|\r/)) {
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (name === "event") found.event = value;
    if (name === "data") found.data.push(value);
  }
  return { event: found.event, data: found.data.join("\n") };
}
