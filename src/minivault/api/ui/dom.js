// Builds DOM nodes: the only way in which this page makes markup. Text goes in as text and is never read as HTML.
// Knows nothing of the server or of the screens.

const SVG = "http://www.w3.org/2000/svg";

/** Append what there is: null, undefined and false are nothing. */
export function put(element, ...children) {
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An element: `h("button.bad", {onclick: f}, "Send")`, its classes after dots; what is no plain object is a child. Null
 * children are left out. A button sends a form only where it says so. */
export function h(tag, props, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  if (name === "button") element.type = "button";
  if (props?.constructor !== Object) return put(element, props, ...children);
  for (const [key, value] of Object.entries(props)) set(element, key, value);
  return put(element, ...children);
}

const PROPERTIES = new Set(["value", "checked", "disabled", "open", "hidden", "selected", "tabIndex", "textContent"]);

function set(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (PROPERTIES.has(name)) element[name] = value;
  else element.setAttribute(name, value === true ? "" : String(value));
}

/** An SVG element. */
export function s(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const ICONS = {
  chat: "M4 5.5h16v11H10l-4.5 3.5v-3.5H4z",
  compare: "M4 5h6.5v14H4zM13.5 5H20v14h-6.5z",
  vault: "M4 4h16v16H4zM12 8.2a3.8 3.8 0 1 0 0 7.6 3.8 3.8 0 0 0 0-7.600zM12 8.2V6M12 18v-2.2M8.2 12H6M18 12h-2.2",
  models: "M12 3.5l8 4.3v8.400l-8 4.3-8-4.3V7.8zM4 7.8l8 4.3 8-4.3M12 12.1v8.4",
  live: "M3 13h4l2.5-7 4 13 3-9 1.5 3h3",
  keys: "M8.5 11.5a4 4 0 1 0 0 .1zM8.5 11.5H21M17 11.5v4M20.5 11.5v3",
  plus: "M12 5v14M5 12h14",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  check: "M5 12.5l4.5 4.5L19 7.5",
  edit: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  retry: "M20 12a8 8 0 1 1-2.5-5.8M20 4v4.5h-4.5",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
  sliders: "M4 7h9M17 7h3M15 5v4M4 17h3M11 17h9M9 15v4",
  menu: "M4 7h16M4 12h16M4 17h10",
  left: "M14.5 5l-7 7 7 7",
  right: "M9.5 5l7 7-7 7",
  search: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.3 15.3L20 20",
  download: "M12 4v11M7 10.5l5 5 5-5M4 20h16",
  shield: "M12 3.5l7.5 2.8v5.2c0 4.5-3 7.5-7.5 9.3-4.5-1.8-7.5-4.8-7.5-9.3V6.3z",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.400M17.3 17.3l1.4 1.400M5.3 18.700l1.4-1.400M17.3 6.700l1.4-1.4",
  close: "M6 6l12 12M18 6L6 18",
};

/** A drawn icon; it says nothing to a screen reader, so its button needs a label. */
export function icon(name) {
  return s("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false" }, s("path", { d: ICONS[name] }));
}

/** A button with an icon alone, and `label` as its name. */
export function iconButton(name, label, onclick, props) {
  return h("button.quiet", { "aria-label": label, title: label, onclick, ...props }, icon(name));
}

/** A labelled form field. `note` explains it to everybody. */
export function field(label, input, note) {
  const id = input.id || (input.id = `f${(fieldCount += 1)}`);
  const noted = note ? h("small", { id: `${id}-note` }, note) : null;
  if (noted) input.setAttribute("aria-describedby", noted.id);
  return h("div.field", h("label", { for: id }, label), input, noted);
}
let fieldCount = 0;

/** Options of a select; each `[value, text]`. */
export function options(pairs, chosen) {
  return pairs.map(([value, text]) => h("option", { value, selected: value === chosen }, text));
}

/** Say something to a screen reader. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

/** A short message at the edge, also announced. `kind`: "" or "bad". */
export function toast(text, kind = "") {
  const line = h("div", { class: `toast ${kind}` }, text);
  document.getElementById("toasts").append(line);
  announce(text);
  setTimeout(() => line.remove(), 5000);
}

/** A button that copies what `text()` gives. */
export function copyButton(text, label = "Copy") {
  const button = iconButton("copy", label, async () => {
    try {
      await navigator.clipboard.writeText(text());
    } catch {
      toast("The browser does not let this page copy.", "bad");
      return;
    }
    button.replaceChildren(icon("check"));
    announce("Copied");
    setTimeout(() => button.replaceChildren(icon("copy")), 1500);
  });
  return button;
}

/** A modal dialog; closed by Escape, its cross, another screen or `close()`. Resolves with what it was closed with. */
export function modal(title, build, { wide = false } = {}) {
  return new Promise((resolve) => {
    const heading = h("h2", { id: `m${(fieldCount += 1)}` }, title);
    const dialog = h("dialog", { class: wide ? "wide" : "", "aria-labelledby": heading.id });
    const left = () => close();
    const close = (value = null) => {
      removeEventListener("hashchange", left);
      dialog.close();
      dialog.remove();
      resolve(value);
    };
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      close();
    });
    dialog.addEventListener("click", (event) => event.target === dialog && close());
    addEventListener("hashchange", left);
    const top = h("div.bar", heading, iconButton("close", "Close", () => close()));
    dialog.append(h("div.sheet", top, build(close)));
    document.body.append(dialog);
    dialog.showModal();
    dialog.querySelector("[autofocus]")?.focus();
  });
}

/** Ask before something that cannot be undone. The safe answer has the focus. */
export function confirmed(title, text, deed) {
  return modal(title, (close) =>
    h("div.stack",
      h("p", text),
      h("div.row.end",
        h("button", { autofocus: true, onclick: () => close(false) }, "Cancel"),
        h("button.bad", { onclick: () => close(true) }, deed))));
}

/** Hand a text or Blob to the person as a file. */
export function save(name, content, type = "text/plain") {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A badge; kinds: "good", "bad", "warn", "" (plain). */
export function badge(text, kind = "", name = null) {
  return h("span", { class: `badge ${kind}` }, name ? icon(name) : null, text);
}

const KINDS = { stop: "good", length: "", imported: "", failed: "bad", interrupted: "bad" };

/** How a call of the vault ended. */
export const ending = (call) => badge(call.finish_reason ?? "open", KINDS[call.finish_reason] ?? "warn");

/** What to show where something went wrong. */
export function failure(error, retry) {
  return h("div.failure", { role: "alert" }, h("p", error.message),
    retry ? h("button", { onclick: retry }, "Try again") : null);
}

/** Names and values; those without a value are left out. */
export function pairs(entries) {
  const shown = entries.filter(([, value]) => value !== null && value !== undefined && value !== false && value !== "");
  return h("dl.pairs", shown.flatMap(([name, value]) => [h("dt", name), h("dd", value)]));
}
