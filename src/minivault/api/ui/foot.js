// The foot of the page: the server's state, the api_key, the theme, and the way to the API's docs. Shown at the side, and
// on a phone in the menu. Knows nothing of the screens.

import { apiKey, setApiKey } from "./api.js";
import { field, h, iconButton, modal } from "./dom.js";

/** Fresh nodes that keep themselves up to date. */
export function footParts() {
  return [serverState(), h("a.quiet-link", { href: "/docs" }, "API"), keyButton(), themeButton()];
}

function serverState() {
  const dot = h("span.state", { "aria-hidden": "true" });
  const text = h("span.state-text");
  const draw = () => {
    dot.className = `state ${now[0]}`;
    text.textContent = now[1];
    text.title = now[1];
  };
  server.addEventListener("change", draw);
  draw();
  return h("div.server", { "aria-label": "Server", role: "group" }, dot, text);
}

const server = new EventTarget();
let now = ["", "connecting"];

/** Ask again and again whether the server would answer. */
export async function watchServer() {
  let found = ["bad", "offline"];
  try {
    const response = await fetch("/readyz");
    if (response.ok) found = ["good", "ready"];
    else found = ["warn", (await response.json()).error?.message ?? "not ready"];
  } catch {
    // It cannot be reached: offline it is.
  }
  now = found;
  server.dispatchEvent(new Event("change"));
  setTimeout(watchServer, found[0] === "good" ? 10_000 : 2000);
}

const THEMES = { auto: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };

function themeButton() {
  const root = document.documentElement;
  const button = iconButton("sun", "", () => {
    const order = Object.keys(THEMES);
    const next = order[(order.indexOf(root.dataset.theme ?? "auto") + 1) % order.length];
    if (next === "auto") delete root.dataset.theme;
    else root.dataset.theme = next;
    localStorage.setItem("minivault.theme", next);
    name();
  });
  const name = () => {
    const label = THEMES[root.dataset.theme ?? "auto"];
    button.setAttribute("aria-label", label);
    button.title = label;
  };
  name();
  return button;
}

function keyButton() {
  const button = iconButton("keys", "API key", () => enterKey(false, true));
  const show = () => button.classList.toggle("on", apiKey() !== null);
  addEventListener("minivault-key", show);
  show();
  return button;
}

/** Ask for an api_key; gives it, or null. `bare`: nobody refused anything. */
export function enterKey(refused, bare = false) {
  return modal("API key", (close) => {
    const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false", autofocus: true, placeholder: "mv_…" });
    const keep = (event) => {
      event.preventDefault();
      if (!input.value.trim()) return;
      setApiKey(input.value.trim());
      close(apiKey());
    };
    const forget = () => {
      setApiKey(null);
      close(null);
    };
    const words = bare ? "Needed only if this server asks for one." : refused ? "The server does not accept this key. Try another." : "This server asks for an API key.";
    return h("form.stack", { onsubmit: keep },
      h("p", refused && !bare ? { class: "failure", role: "alert" } : null, words),
      h("p.soft", "It is kept in this tab until you close it."),
      field("API key", input),
      h("div.row.end",
        apiKey() ? h("button", { onclick: forget }, "Forget the key") : null,
        h("button.primary", { type: "submit" }, "Use this key")));
  });
}
