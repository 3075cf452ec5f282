// The vault: search, filters and pages of calls, or one of them in full. Knows nothing of how records are kept.

import { abilities, ask, getJson } from "./api.js";
import { badge, ending, failure, field, h, icon, modal, options, put, save, toast } from "./dom.js";
import { count, ms, plural, short, time, when } from "./format.js";
import { hex, readNote } from "./proof.js";
import { showRecord } from "./record.js";
import { forget, witness } from "./witness.js";

const REASONS = ["stop", "length", "cancelled", "failed", "interrupted", "imported"];
const SURFACES = ["native", "openai", "responses", "ollama", "anthropic", "replay", "import"];
const PAUSE_MS = 220;
const PAGE = 30;

/** What was last searched for: it outlives a look at a record. */
const filters = { query: "", model: "", finish_reason: "", surface: "", after: "", before: "" };

export async function show(main, [id], signal) {
  if (id) return showRecord(main, id, signal);
  const list = h("ol.calls", { "aria-label": "Calls, newest first" });
  const note = h("p.faint", { role: "status" });
  const more = h("button", { hidden: true }, "Older calls");
  const can = await abilities().catch(() => null);
  if (signal.aborted) return null;
  const search = new Search(list, note, more, signal, can);
  put(main,
    h("div.row.apart",
      h("div", h("h1", "Vault"), h("p.lead", "Every prompt and every answer, in an append-only tree whose head is signed.")),
      can?.can("GET /vault/export") ? h("button", { onclick: () => exportDialog(search) }, icon("download"), "Export") : null),
    await headCard(signal), filterForm(search, can), note, list, h("div.row.center", more));
  await search.begin();
  return null;
}

class Search {
  constructor(list, note, more, signal, can) {
    Object.assign(this, { list, note, more, signal, can, cursor: null, running: new AbortController() });
    more.addEventListener("click", () => this.next());
    signal.addEventListener("abort", () => {
      clearTimeout(this.timer);
      this.running.abort();
    });
  }

  /** Soon, unless something else is typed before. */
  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.begin(), PAUSE_MS);
  }

  begin() {
    this.cursor = null;
    return this.page(true);
  }

  next() {
    return this.page(false);
  }

  parameters() {
    const set = Object.entries(filters).filter(([, value]) => value);
    return new URLSearchParams(set.map(([name, value]) => [name, name === "after" || name === "before" ? new Date(value).toISOString() : value]));
  }

  async page(first) {
    this.running.abort();
    if (filters.query && !/[\p{L}\p{N}]/u.test(filters.query)) {
      this.note.textContent = "Type a word to search for.";
      return;
    }
    this.running = new AbortController();
    const asked = this.parameters();
    asked.set("limit", String(PAGE));
    if (this.cursor) asked.set("cursor", this.cursor);
    try {
      const { records, next_cursor: next } = await getJson(`/vault/records?${asked}`, { signal: this.running.signal });
      if (first) this.list.replaceChildren();
      const before = this.list.children.length;
      this.list.append(...records.map(row));
      if (!first) this.list.children[before]?.querySelector("a").focus();
      this.cursor = next;
      this.more.hidden = next === null;
      this.say();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.note.textContent = "";
      this.more.hidden = true;
      this.list.replaceChildren(h("li", failure(error, () => this.begin())));
    }
  }

  say() {
    const shown = this.list.children.length;
    const filtered = Object.values(filters).some(Boolean);
    if (shown) this.note.textContent = `${plural(shown, "call")} shown${this.cursor ? ", there are older ones" : ""}`;
    else this.note.textContent = filtered ? "No call fits." : "The vault is empty. Ask something, and it will be here.";
  }
}

function row(call) {
  const tokens = call.usage?.total_tokens ?? 0;
  return h("li", h("a.call", { href: `#/vault/${encodeURIComponent(call.id)}` },
    h("span.call-head",
      h("span.call-prompt", lastTurn(call.prompt) || (call.erased_index === null ? "(content not stored)" : "(erased)")),
      h("time", { datetime: call.timestamp, title: time(call.timestamp) }, when(call.timestamp))),
    h("span.call-response", call.response?.trim().slice(0, 300) ?? ""),
    h("span.call-facts",
      ending(call),
      call.erased_index === null ? null : badge("erased", "warn"),
      call.altered ? badge("altered", "bad") : null,
      h("span", call.model), h("span", call.surface), h("span", plural(tokens, "token")),
      call.processing_time_ms === null ? null : h("span", ms(call.processing_time_ms)),
      h("span", `record ${call.outcome_index ?? call.index}`))));
}

/** Of a conversation, what was asked last; the record itself shows all of it. */
function lastTurn(prompt) {
  const asked = prompt?.lastIndexOf("\nuser: ") ?? -1;
  return asked < 0 ? prompt?.trim() : `… ${prompt.slice(asked + "\nuser: ".length).trim()}`;
}

// -- filters --

function filterForm(search, can) {
  const query = h("input", { type: "search", value: filters.query, placeholder: "Words, or “words in quotes” that follow each other", maxlength: 1000, "aria-label": "Search prompts and answers" });
  query.addEventListener("input", () => {
    filters.query = query.value.trim();
    search.later();
  });
  const bound = (input, name) => {
    input.value = filters[name];
    input.addEventListener("input", () => {
      filters[name] = input.value;
      search.later();
    });
    return input;
  };
  const model = h("input", { placeholder: "any", maxlength: 200 });
  const reason = h("select", options([["", "any"], ...REASONS.map((one) => [one, one])], filters.finish_reason));
  const surface = h("select", options([["", "any"], ...SURFACES.map((one) => [one, one])], filters.surface));
  const fields = [
    field("Model", bound(model, "model")),
    field("How it ended", bound(reason, "finish_reason")),
    can?.takes("GET /vault/records", "surface") ? field("Surface", bound(surface, "surface")) : null,
    field("From", bound(h("input", { type: "datetime-local" }), "after")),
    field("Until", bound(h("input", { type: "datetime-local" }), "before")),
  ];
  const open = Object.entries(filters).some(([name, value]) => name !== "query" && value);
  return h("form.stack.tight", { role: "search", onsubmit: (event) => (event.preventDefault(), search.begin()) },
    h("div.searching", icon("search"), query),
    h("details", { open }, h("summary", "Filters"), h("div.filters", fields)));
}

// -- the head --

async function headCard(signal) {
  const box = h("div.card.facts-card");
  try {
    const stats = await getJson("/vault/stats", { signal });
    const facts = [[count(stats.calls), "calls"], [count(stats.prompt_tokens + stats.completion_tokens), "tokens"]];
    const p50 = stats.processing_time_ms?.p50;
    if (Number.isFinite(p50)) facts.push([ms(p50), "median time"]);
    box.append(...facts.map(([value, name]) => h("div.fact", h("strong", value), h("span", name))));
    box.append(await headFact(signal));
  } catch (error) {
    if (error.name === "AbortError") throw error;
    box.append(error.status === 404 ? h("p.faint", "No head is signed yet.") : failure(error));
  }
  return box;
}

async function headFact(signal) {
  const response = await ask("/vault/head", { signal });
  const text = await response.text();
  const key = response.headers.get("minivault-key");
  const head = readNote(text);
  const seen = witness({ origin: head.origin, size: head.size, root: hex(head.root), key });
  return h("div.fact.wide",
    h("strong", `head over ${plural(head.size, "record")}`),
    h("span", badge(seen.kind === "good" ? "continuous" : "look here", seen.kind, "shield"), " ",
      h("button.link", { onclick: () => headDialog(text, key, seen) }, short(hex(head.root), 16))));
}

function headDialog(text, key, seen) {
  return modal("The signed head", (close) => h("div.stack",
    h("p", badge(seen.text, seen.kind)),
    h("p.soft", "Keep a copy elsewhere: with it, anybody can show later whether the vault was set back or rewritten."),
    h("pre.sunk", text), h("pre.sunk", key),
    h("div.row.end",
      h("button", { onclick: () => (forget(), close()) }, "Forget what this browser saw"),
      h("button.primary", { onclick: () => save("vault.head", text) }, icon("download"), "Save the head"))), { wide: true });
}

// -- export --

function exportDialog(search) {
  return modal("Export", (close) => {
    const progress = h("p.faint", { role: "status" });
    const begin = (form) => exported(form, search, progress).then(() => close(), (error) => toast(error.message, "bad"));
    return h("div.stack",
      h("p", "All calls that fit the search and the filters."), progress,
      h("div.row.end",
        h("button", { onclick: () => begin("csv") }, "CSV"),
        h("button.primary", { onclick: () => begin("jsonl") }, "JSON Lines")));
  });
}

async function exported(form, search, progress) {
  const asked = search.parameters();
  asked.set("format", form);
  progress.textContent = "Exporting…";
  save(`vault-${new Date().toISOString().slice(0, 10)}.${form}`, await (await ask(`/vault/export?${asked}`)).blob());
}
