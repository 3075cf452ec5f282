// Runs answers and keeps their state, so that one goes on while another screen is shown. Changes are told as events on
// `generations`. Knows nothing of the page.

import { getJson, streamChat } from "./api.js";
import { list, open, remove, save, shownOf, store } from "./store.js";

export const generations = new EventTarget();

/** Conversation id -> {chat, controller}: those that run now. */
const running = new Map();

export const isRunning = (id) => running.has(id);
export const runningChat = (id) => running.get(id)?.chat ?? null;

export function stop(id) {
  running.get(id)?.controller.abort();
}

/** Answer the last turn of `chat`: a turn is `{text, answers, shown}`. */
export async function answer(chat) {
  const turn = chat.turns.at(-1);
  const result = { text: "", reasoning: "", status: "running", begun: Date.now() };
  const messages = messagesOf(chat);
  turn.answers.push(result);
  turn.shown = turn.answers.length - 1;
  const controller = new AbortController();
  running.set(chat.id, { chat, controller });
  save(chat);
  tell(chat);
  try {
    await run({ ...requestOf(chat.settings), messages }, result, controller.signal, () => tell(chat));
  } finally {
    running.delete(chat.id);
    save(chat);
    tell(chat, true);
  }
}

/** Stream one answer into `result`; never raises: what went wrong is in `result.error`. */
export async function run(request, result, signal, changed) {
  const clock = stopwatch(result);
  result.model = request.model;
  try {
    const ended = await streamChat(request, signal, (part) => {
      if (part.begun) Object.assign(result, { id: part.begun.id, record: part.begun.record });
      if (part.reasoning) result.reasoning += part.reasoning;
      if (part.text) result.text += part.text;
      if (part.text || part.reasoning) clock.piece(part.text === undefined);
      changed();
    });
    Object.assign(result, { status: "done", finish: ended.finish, usage: ended.usage });
    if (ended.finish === "length") result.cut = await cutOf(request, ended.usage);
  } catch (error) {
    if (leaving) return; // Still "running" where it is kept: left unfinished, and no fault of the server.
    const stopped = error.name === "AbortError";
    Object.assign(result, stopped ? { status: "stopped" } : { status: "failed", error: error.message, code: error.code });
  }
  clock.end();
  changed();
}

/** What an answer was cut at: what was asked for, the model's context, or the server's own default. */
async function cutOf(request, usage) {
  const cut = "cut at the most tokens";
  if (!usage || !request.model || request.max_tokens <= usage.completion_tokens) return cut;
  const { context_length: context } = await getJson(`/models/${encodeURIComponent(request.model)}`).catch(() => ({}));
  if (usage.total_tokens >= context) return "the model's context ended";
  return context ? `${cut} of this server` : cut;
}

/** Times as the person lived them: from asking to the first piece, and the pace after it. */
function stopwatch(result) {
  const begun = performance.now();
  let first = null;
  result.pieces = 0;
  return {
    piece(thinking) {
      const now = performance.now();
      first ??= now;
      result.pieces += 1;
      result.firstMs = first - begun;
      if (thinking) result.thoughtMs = now - begun;
    },
    end() {
      result.totalMs = performance.now() - begun;
    },
  };
}

/** Tokens a second after the first; of an answer that came at once, over its whole time. Null where too little is known. */
export function paceOf(result) {
  const tokens = result.usage?.completion_tokens ?? result.pieces;
  const after = result.totalMs - result.firstMs;
  if (!(tokens > 1) || !Number.isFinite(after)) return null;
  return after > 150 ? ((tokens - 1) * 1000) / after : (tokens * 1000) / result.totalMs;
}

/** What settings mean on the wire; one that is left empty is the model's own default. */
export function requestOf(settings) {
  const request = {};
  if (settings.model) request.model = settings.model;
  for (const name of ["temperature", "top_p", "max_tokens", "seed"]) {
    if (Number.isFinite(settings[name])) request[name] = settings[name];
  }
  return request;
}

/** The conversation so far. A turn that was refused, or failed before a word, is left out. */
export function messagesOf(chat) {
  const messages = chat.settings.system ? [{ role: "system", content: chat.settings.system }] : [];
  for (const turn of chat.turns) {
    const said = turn === chat.turns.at(-1) ? null : shownOf(turn);
    if (said?.status === "failed" && !said.text) continue;
    messages.push({ role: "user", content: turn.text });
    if (said?.text) messages.push({ role: "assistant", content: said.text });
  }
  return messages;
}

// In another tab, a chat that goes on would write the turn back.
const tabs = new BroadcastChannel("erased");
tabs.onmessage = ({ data }) => forgetCall(data, true);

/** A call was erased: its turn goes from this browser, with its other answers. Copies have an index alone, as calls of a former vault do. */
export function forgetCall(call, heard) {
  if (!heard) tabs.postMessage(call);
  const gone = (one) => one.id === call.id || (call.copies.includes(one.record) && one.text === call.response);
  for (const { id: place } of list()) {
    const chat = runningChat(place) ?? open(place);
    const left = chat?.turns.filter((turn) => !turn.answers.some(gone));
    if (!left || left.length === chat.turns.length) continue;
    chat.turns = left;
    if (left.length) save(chat);
    else remove(place);
  }
  store.dispatchEvent(new CustomEvent("erased", { detail: gone }));
}

// A page that goes away takes its streams with it: what came so far is kept.
let leaving = false;
addEventListener("pageshow", () => (leaving = false));
addEventListener("pagehide", () => {
  leaving = true;
  for (const { chat } of running.values()) save(chat);
});

function tell(chat, ended = false) {
  generations.dispatchEvent(new CustomEvent("change", { detail: { id: chat.id, ended } }));
}
