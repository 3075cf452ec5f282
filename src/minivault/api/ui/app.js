// The shell: screens by their hash, and who is offered which.
// Each screen is a module with `show(main, args, signal)`; the signal is aborted when the screen is left.

import { apiKey, onKeyNeeded, permissions } from "./api.js";
import * as chat from "./chat.js";
import { chatList } from "./chats.js";
import { failure, h, icon } from "./dom.js";
import { enterKey, footParts, watchServer } from "./foot.js";

const SCREENS = {
  chat: { label: "Chat", load: async () => chat },
  compare: { label: "Compare", load: () => import("./compare.js") },
  vault: { label: "Vault", load: () => import("./vault.js") },
  models: { label: "Models", load: () => import("./models.js") },
  live: { label: "Live", load: () => import("./live.js") },
  keys: { label: "Keys", load: () => import("./keys.js"), hidden: true },
};

const main = document.getElementById("main");
const tabs = document.getElementById("tabs");
let leaving = new AbortController();
let first = true;

async function route() {
  const [name, ...args] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  const chosen = Object.hasOwn(SCREENS, name) ? name : "chat";
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  mark(chosen);
  document.title = `${SCREENS[chosen].label} · MiniVault`;
  try {
    const screen = await SCREENS[chosen].load();
    if (signal.aborted) return;
    main.replaceChildren();
    main.className = `screen-${chosen}`;
    main.scrollTop = 0;
    if (!first) main.focus({ preventScroll: true });
    first = false;
    await screen.show(main, args, signal);
  } catch (error) {
    if (!signal.aborted) main.replaceChildren(h("h1", SCREENS[chosen].label), failure(error, route));
  }
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function mark(chosen) {
  for (const tab of tabs.children) {
    if (tab.dataset.screen === chosen) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
}

function buildTabs() {
  tabs.replaceChildren(
    ...Object.entries(SCREENS).map(([name, screen]) =>
      h("a", { href: `#/${name}`, "data-screen": name, hidden: Boolean(screen.hidden) }, icon(name), h("span", screen.label))));
}

/** Some screens are for those alone whose key opens them. Nobody sees keys without one. This asks for none. */
async function offer() {
  const key = apiKey();
  const told = await permissions();
  const mine = told ?? [];
  const tab = (name) => tabs.querySelector(`[data-screen=${name}]`);
  tab("keys").hidden = !mine.includes("keys");
  tab("live").hidden = key !== null && !mine.includes("observe");
  tab("compare").hidden = key !== null && told !== null && !mine.includes("generate");
}

onKeyNeeded((refused) => enterKey(refused));
buildTabs();
document.getElementById("foot").append(...footParts());
document.getElementById("chats").append(chatList());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", route);
addEventListener("minivault-key", offer);
route();
watchServer();
offer();
