// The list of conversations: open, rename, delete, begin a new one. Knows nothing of what was said in them.

import { confirmed, field, h, iconButton, icon, modal } from "./dom.js";
import { when } from "./format.js";
import { list, remove, rename, store } from "./store.js";

/** A list that keeps itself up to date. `done()` is called once something was chosen. */
export function chatList(done = () => {}) {
  const box = h("div.chat-list");
  const draw = () => {
    const rows = list().map((one) => row(one, done));
    box.replaceChildren(
      h("a.new-chat", { href: "#/chat/new", onclick: done }, icon("plus"), "New chat"),
      rows.length ? h("ul", rows) : h("p.faint", "Your conversations stay in this browser, and each answer in the vault."),
    );
    mark(box);
  };
  store.addEventListener("change", draw);
  addEventListener("hashchange", () => mark(box));
  draw();
  return box;
}

function mark(box) {
  for (const link of box.querySelectorAll("a.chat")) {
    if (link.hash === location.hash) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function row(one, done) {
  const date = new Date(one.updated).toISOString();
  return h("li",
    h("a.chat", { href: `#/chat/${one.id}`, onclick: done }, h("span", one.title), h("time", { datetime: date }, when(date))),
    iconButton("edit", `Rename ${one.title}`, () => askName(one)),
    iconButton("trash", `Delete ${one.title}`, () => askRemoval(one)));
}

async function askName(one) {
  const name = await modal("Rename conversation", (close) => {
    const input = h("input", { value: one.title, maxlength: 120, required: true, autofocus: true });
    const keep = (event) => {
      event.preventDefault();
      close(input.value.trim() || null);
    };
    return h("form.stack", { onsubmit: keep }, field("Name", input),
      h("div.row.end", h("button.primary", { type: "submit" }, "Rename")));
  });
  if (name) rename(one.id, name);
}

async function askRemoval(one) {
  const text = `“${one.title}” goes from this browser. What was asked and answered stays in the vault.`;
  if (!(await confirmed("Delete conversation?", text, "Delete"))) return;
  remove(one.id);
  if (location.hash === `#/chat/${one.id}`) location.hash = "#/chat/new";
}
