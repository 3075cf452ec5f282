// Asks the server: JSON, text, and streams. Adds the api_key when the person has given one, and asks for it on a 401.
// The key lives in this tab's sessionStorage and nowhere else. Knows nothing of the screens.

const KEY = "minivault.api_key";
/** The code of a 401 that no key can change: there are none yet. */
export const NO_KEYS = "no_api_keys";

/** What the server said when it refused. `status` is 0 where it could not be reached. */
export class ApiError extends Error {
  constructor(status, message, code = null) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const apiKey = () => sessionStorage.getItem(KEY);

export function setApiKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
  known = null;
  dispatchEvent(new Event("minivault-key"));
}

let askForKey = async () => null;
let asking = null;

/** `ask(refused)` gives a key or null; of several requests that are refused at once, it is asked once. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

/** The response if it is a good one. Raises ApiError; an abort stays an AbortError. */
export async function ask(path, { method = "GET", json, signal, headers } = {}) {
  for (;;) {
    const used = apiKey();
    const response = await send(path, method, json, signal, headers, used);
    if (response.ok) return response;
    const refused = await refusal(response);
    if (response.status !== 401 || refused.code === NO_KEYS) throw refused;
    if (apiKey() !== used) continue;
    asking ??= askForKey(used !== null).finally(() => (asking = null));
    if ((await asking) === null) throw refused;
  }
}

async function send(path, method, json, signal, headers, key) {
  const sent = { ...headers };
  if (key) sent.Authorization = `Bearer ${key}`;
  if (json !== undefined || method === "POST") sent["Content-Type"] = "application/json";
  try {
    return await fetch(path, { method, headers: sent, signal, body: json === undefined ? undefined : JSON.stringify(json) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server cannot be reached. Is it still running?");
  }
}

async function refusal(response) {
  let said = null;
  try {
    said = (await response.json()).error;
  } catch {
    // Not JSON: the status is all there is.
  }
  const message = typeof said === "string" ? said : said?.message;
  return new ApiError(response.status, message ?? `The server answered ${response.status}.`, said?.code ?? null);
}

export const getJson = async (path, more) => (await ask(path, more)).json();
export const getText = async (path, more) => (await ask(path, more)).text();

/** What the key of this tab may do; null where the server does not tell. Asks nobody for a key. */
export async function permissions() {
  const key = apiKey();
  const response = await fetch("/health", key ? { headers: { Authorization: `Bearer ${key}` } } : {}).catch(() => null);
  return response?.ok ? (await response.json()).permissions : null;
}

let known = null;

/** What this server can do: `can("POST /models/{}/load")`, and `takes("GET /vault/records", "surface")`. */
export function abilities() {
  known ??= getJson("/openapi.json").then(described).catch((error) => {
    known = null;
    throw error;
  });
  return known;
}

function described(document) {
  const routes = new Map();
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, route] of Object.entries(methods)) {
      routes.set(`${method.toUpperCase()} ${path.replace(/\{[^}]*\}/g, "{}")}`, route);
    }
  }
  return {
    can: (route) => routes.has(route),
    takes: (route, name) => Boolean(routes.get(route)?.parameters?.some((parameter) => parameter.name === name)),
    document,
  };
}

const BROKE = "The connection broke before the answer was whole.";

/** The lines of a streamed response, as they come. A connection that breaks is an ApiError, in words of our own. */
export async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        throw error.name === "AbortError" ? error : new ApiError(0, BROKE);
      });
      if (done) break;
      const found = (rest + value).split("\n");
      rest = found.pop();
      yield* found;
    }
    if (rest) yield rest;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * Stream an answer. `on` gets each `{text}` or `{reasoning}` as it comes. Gives `{finish, usage, record, id}`; `record`
 * is the index of the call's first record in the vault. A stream that ends without its end is an error.
 */
export async function streamChat(request, signal, on) {
  const asked = { ...request, stream: true, stream_options: { include_usage: true } };
  const response = await ask("/v1/chat/completions", { method: "POST", json: asked, signal });
  const answer = {
    id: response.headers.get("x-request-id"),
    record: Number(response.headers.get("minivault-record")?.split(":")[0] ?? NaN),
    finish: null,
    usage: null,
  };
  on({ begun: answer });
  for await (const line of lines(response)) {
    if (!line.startsWith("data:")) continue;
    const data = line.slice(5).trim();
    if (data === "[DONE]") return answer;
    read(JSON.parse(data), answer, on);
  }
  throw new ApiError(0, BROKE);
}

function read(event, answer, on) {
  if (event.error) throw new ApiError(500, event.error.message ?? "The answer failed.", event.error.code);
  if (event.usage) answer.usage = event.usage;
  const choice = event.choices?.[0];
  if (choice?.finish_reason) answer.finish = choice.finish_reason;
  const reasoning = choice?.delta?.reasoning_content ?? choice?.delta?.reasoning;
  if (reasoning) on({ reasoning });
  if (choice?.delta?.content) on({ text: choice.delta.content });
}
