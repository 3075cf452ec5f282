// The chat screen: the turns, the composer, and what can be done with each turn. What runs is kept by generation.js and
// what was said by store.js, so this can be left and come back to.

import { ApiError, apiKey, permissions } from "./api.js";
import { answerView, promptView } from "./answer.js";
import { chatModels } from "./catalog.js";
import { chatList } from "./chats.js";
import { announce, h, icon, iconButton, modal, options, toast } from "./dom.js";
import { footParts } from "./foot.js";
import { plural } from "./format.js";
import { answer, generations, isRunning, runningChat, stop } from "./generation.js";
import { settingsDialog } from "./settings.js";
import * as store from "./store.js";

const IDEAS = ["What model are you?", "Where are my prompts stored?", "How do I change the port?", "Tell me a short story."];
const NEAR = 80;

/** What is typed and not sent, by conversation: it outlives a look at another screen. */
const drafts = new Map();

export async function show(main, [id], signal) {
  const kept = id && id !== "new" ? (runningChat(id) ?? store.open(id)) : null;
  const chat = kept ?? store.fresh(store.preferences().settings ?? {});
  new ChatScreen(main, chat, signal).show();
}

class ChatScreen {
  constructor(main, chat, signal) {
    this.main = main;
    this.chat = chat;
    this.signal = signal;
    this.views = [];
    this.mayAsk = true;
    this.log = h("div.log", { role: "log", "aria-label": "Conversation", "aria-live": "off" });
    this.heading = h("h1", chat.title);
    this.model = h("select.model", { "aria-label": "Model" });
    this.input = h("textarea", { id: "prompt", rows: 1, placeholder: "Ask anything", "aria-label": "Message", enterkeyhint: "send" });
    this.button = h("button.send.primary", { type: "submit" });
  }

  show() {
    const tools = h("div.row",
      this.model,
      iconButton("sliders", "Settings of this chat", () => this.openSettings()),
      h("a.quiet.button", { href: "#/chat/new", "aria-label": "New chat", title: "New chat" }, icon("plus")));
    const menu = iconButton("menu", "Conversations and settings", () => modal("Conversations", (close) => h("div.stack", chatList(() => close()), h("div.foot", footParts()))), { class: "quiet phone" });
    this.main.append(h("div.bar.top", menu, this.heading, tools), this.log, this.composer());
    this.drawTurns();
    this.drawButton();
    this.fillModels();
    this.openOrShut();
    addEventListener("minivault-key", () => this.openOrShut(), { signal: this.signal });
    generations.addEventListener("change", (event) => this.changed(event.detail), { signal: this.signal });
    store.store.addEventListener("change", () => this.renamed(), { signal: this.signal });
    store.store.addEventListener("elsewhere", () => this.reread(), { signal: this.signal });
    store.store.addEventListener("full", () => toast("This browser's storage is full: delete old conversations. The vault has them all.", "bad"), { signal: this.signal });
    this.toEnd();
    if (matchMedia("(pointer: fine)").matches) this.input.focus();
  }

  composer() {
    this.input.value = drafts.get(this.chat.id) ?? drafts.get("") ?? "";
    const grow = () => {
      this.input.style.height = "auto";
      this.input.style.height = `${Math.min(this.input.scrollHeight, 240)}px`;
    };
    this.input.addEventListener("input", () => {
      drafts.set(this.chat.turns.length ? this.chat.id : "", this.input.value);
      grow();
    });
    this.input.addEventListener("keydown", (event) => this.typed(event));
    requestAnimationFrame(grow);
    const form = h("form.composer", { onsubmit: (event) => this.submitted(event) }, this.input, this.button);
    const hint = h("p.hint", "Enter sends, Shift + Enter begins a line, Escape stops. Every answer is on the record.");
    this.shut = h("p.card", { role: "status", hidden: true },
      "Your key reads and replays records, and may not ask. ", h("a", { href: "#/vault" }, "To the vault"));
    this.dock = h("div.dock", form, hint, this.shut);
    return this.dock;
  }

  /** Who may not ask is told so before anything is typed. Without a key, the first question asks for one. */
  async openOrShut() {
    const mine = apiKey() === null ? null : await permissions();
    if (this.signal.aborted) return;
    this.mayAsk = mine === null || mine.includes("generate");
    for (const part of this.dock.children) part.hidden = (part === this.shut) === this.mayAsk;
    this.drawTurns();
  }

  typed(event) {
    if (event.key === "Escape" && isRunning(this.chat.id)) stop(this.chat.id);
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!isRunning(this.chat.id)) this.submitted(event);
  }

  submitted(event) {
    event.preventDefault();
    if (isRunning(this.chat.id)) {
      stop(this.chat.id);
      return;
    }
    const text = this.input.value.trim();
    if (!text) return;
    this.input.value = "";
    this.input.style.height = "auto";
    drafts.delete(this.chat.id);
    drafts.delete("");
    this.ask(text);
  }

  ask(text) {
    const begins = this.chat.turns.length === 0;
    this.chat.turns.push({ text, answers: [], shown: 0 });
    // Without an event: this screen stays, and takes the address of what it shows.
    if (begins) history.replaceState(null, "", `#/chat/${this.chat.id}`);
    this.run();
  }

  run() {
    answer(this.chat);
    this.drawTurns();
    this.drawButton();
    this.toEnd();
    announce("Answering");
  }

  /** Another text for a turn; the turns after it go. */
  edit(place, text) {
    this.chat.turns.length = place;
    this.ask(text);
  }

  /** The same turn once more; of the last one, the earlier answers stay at hand. */
  retry(place) {
    if (place < this.chat.turns.length - 1) this.chat.turns.length = place + 1;
    this.run();
  }

  changed({ id, ended }) {
    if (id !== this.chat.id) return;
    if (ended) {
      this.drawTurns();
      this.drawButton();
      this.announceEnd();
      return;
    }
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      const follows = this.atEnd();
      this.views.at(-1)?.update();
      if (follows) this.toEnd();
    });
  }

  atEnd() {
    return this.main.scrollHeight - this.main.scrollTop - this.main.clientHeight < NEAR;
  }

  toEnd() {
    this.main.scrollTop = this.main.scrollHeight;
  }

  announceEnd() {
    const result = store.shownOf(this.chat.turns.at(-1));
    const said = { done: "Answer finished", stopped: "Answer stopped", failed: "Answer failed" }[result.status];
    announce(result.usage ? `${said}: ${plural(result.usage.completion_tokens, "token")}` : said);
  }

  drawTurns() {
    const follows = this.atEnd();
    const runs = isRunning(this.chat.id);
    this.views = [];
    const nodes = this.chat.turns.flatMap((turn, place) => this.turnNodes(turn, place, !runs && this.mayAsk));
    this.log.replaceChildren(...(nodes.length ? nodes : [this.welcome()]));
    this.log.setAttribute("aria-busy", String(runs));
    if (follows) this.toEnd();
  }

  turnNodes(turn, place, free) {
    const asked = promptView(turn.text, free ? (text) => this.edit(place, text) : null);
    if (!turn.answers.length) return [asked];
    const last = place === this.chat.turns.length - 1;
    const view = answerView(turn, {
      retry: free ? () => this.retry(place) : null,
      anew: () => this.askAnew(turn.text),
      alone: place === 0,
      choose: last && free ? (shown) => this.choose(turn, shown) : null,
    });
    this.views.push(view);
    return [asked, view.element];
  }

  askAnew(text) {
    drafts.set("", text);
    location.hash = "#/chat/new";
  }

  choose(turn, shown) {
    turn.shown = shown;
    store.save(this.chat);
    this.drawTurns();
  }

  drawButton() {
    const runs = isRunning(this.chat.id);
    this.button.replaceChildren(icon(runs ? "stop" : "send"));
    this.button.setAttribute("aria-label", runs ? "Stop" : "Send");
    this.button.title = runs ? "Stop (Escape)" : "Send (Enter)";
  }

  welcome() {
    const ideas = IDEAS.map((text) => h("li", h("button.idea", { onclick: () => this.ask(text) }, text)));
    return h("div.welcome",
      h("img", { src: "/assets/favicon.svg", alt: "", width: 56, height: 56 }),
      h("h2", "What would you like to know?"),
      h("p", "Answered on this machine. Kept in your vault, where it can be searched, proven and replayed."),
      this.mayAsk ? h("ul.ideas", ideas) : null);
  }

  renamed() {
    const kept = store.list().find((one) => one.id === this.chat.id);
    if (kept) Object.assign(this.chat, { title: kept.title, named: store.open(this.chat.id)?.named ?? this.chat.named });
    this.heading.textContent = this.chat.title;
  }

  /** Turns that another tab took out must not be kept again from here. */
  reread() {
    if (isRunning(this.chat.id) || !this.chat.turns.length) return;
    const kept = store.open(this.chat.id);
    if (JSON.stringify(kept?.turns) === JSON.stringify(this.chat.turns)) return;
    if (!kept) location.hash = "#/chat/new";
    else this.chat = kept;
    this.drawTurns();
  }

  openSettings() {
    settingsDialog("Settings of this chat", this.chat.settings, () => this.keepSettings());
  }

  keepSettings() {
    store.prefer({ settings: this.chat.settings });
    if (this.chat.turns.length) store.save(this.chat);
  }

  async fillModels() {
    try {
      const models = await chatModels();
      const names = models.map((model) => model.name);
      const wanted = this.chat.settings.model;
      const chosen = names.includes(wanted) ? wanted : names[0];
      this.model.replaceChildren(...options(names.map((name) => [name, name]), chosen));
      this.chat.settings.model = chosen;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.model.replaceChildren(...options([["", "default model"]], ""));
    }
    this.model.addEventListener("change", () => {
      this.chat.settings.model = this.model.value;
      this.keepSettings();
    }, { signal: this.signal });
  }
}
