// Conversations in this browser's localStorage: a list of summaries, and each conversation under a key of its own.
// A change is told as an event on `store`, one by another tab also as "elsewhere". Knows nothing of the server or of the page.

const LIST = "minivault.chats";
const ONE = "minivault.chat.";
const PREFERENCES = "minivault.preferences";

export const store = new EventTarget();

function load(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function keep(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
    return true;
  } catch {
    store.dispatchEvent(new Event("full"));
    return false;
  }
}

/** Summaries `{id, title, updated}`, the newest first. */
export const list = () => load(LIST, []);

export function open(id) {
  const chat = load(ONE + id, null);
  // What ran when the page went away runs no more.
  for (const result of chat?.turns.flatMap((turn) => turn.answers) ?? []) {
    if (result.status === "running") result.status = "interrupted";
  }
  return chat;
}

/** A conversation that is not kept until it has a turn. */
export function fresh(settings) {
  return { id: newId(), title: "New chat", named: false, updated: Date.now(), settings: { ...settings }, turns: [] };
}

export function save(chat) {
  chat.updated = Date.now();
  if (!chat.named) chat.title = titleOf(chat);
  keep(ONE + chat.id, chat);
  const summary = { id: chat.id, title: chat.title, updated: chat.updated };
  keep(LIST, [summary, ...list().filter((one) => one.id !== chat.id)]);
  store.dispatchEvent(new Event("change"));
}

export function rename(id, title) {
  const chat = open(id);
  if (!chat) return;
  keep(ONE + id, { ...chat, title, named: true });
  keep(LIST, list().map((one) => (one.id === id ? { ...one, title } : one)));
  store.dispatchEvent(new Event("change"));
}

export function remove(id) {
  localStorage.removeItem(ONE + id);
  keep(LIST, list().filter((one) => one.id !== id));
  store.dispatchEvent(new Event("change"));
}

export const preferences = () => load(PREFERENCES, {});

export function prefer(change) {
  keep(PREFERENCES, { ...preferences(), ...change });
}

/** The answer that is shown of a turn: a retry adds one. */
export const shownOf = (turn) => turn.answers[turn.shown];

function titleOf(chat) {
  const first = chat.turns[0]?.text.trim().replace(/\s+/g, " ") ?? "New chat";
  return first.length > 48 ? `${first.slice(0, 47)}…` : first;
}

function newId() {
  const random = crypto.getRandomValues(new Uint32Array(2));
  return Array.from(random, (part) => part.toString(36)).join("");
}

const reread = () => ["elsewhere", "change"].forEach((told) => store.dispatchEvent(new Event(told)));
addEventListener("storage", (event) => event.key === LIST && reread());
// A tab in the background may have missed one.
addEventListener("focus", reread);
