// Keys, for admins: list, make, rotate and revoke api_keys. A secret is shown once, and this page keeps none of them.

import { NO_KEYS, getJson } from "./api.js";
import { badge, confirmed, copyButton, failure, field, h, icon, modal, options, put, toast } from "./dom.js";
import { time } from "./format.js";

const STATES = { active: "good", expired: "warn", revoked: "bad" };
const ROLES = [["user", "user: asks, and reads its own records"], ["auditor", "auditor: reads and replays all records"], ["admin", "admin: everything"]];

const FIRST = "minivault keys create NAME --role admin";

export async function show(main, _, signal) {
  const list = h("div", { class: "models" });
  const draw = async () => {
    try {
      const { keys } = await getJson("/admin/keys", { signal });
      more.hidden = false;
      list.replaceChildren(...(keys.length ? keys.map((key) => card(key, draw)) : [h("p", { class: "faint" }, "There is no key yet.")]));
    } catch (error) {
      if (error.name === "AbortError") return;
      more.hidden = true;
      list.replaceChildren(error.code === NO_KEYS ? noKeys(draw) : failure(error, draw));
    }
  };
  const make = async () => {
    const made = await creation();
    if (!made) return;
    await draw();
    await secret("The new key", made);
  };
  const more = h("button", { type: "button", class: "primary", hidden: true, onclick: make }, icon("plus"), "New key");
  put(main,
    h("div", { class: "row apart" },
      h("div", null, h("h1", null, "Keys"), h("p", { class: "lead" }, "Who may ask, how much, and what is kept. A record names the key's id, never the key.")),
      more),
    list);
  await draw();
}

function noKeys(draw) {
  return h("div", { class: "card stack" },
    h("p", null, "This server has no keys yet: whoever reaches it may use it, and sees all records."),
    h("p", null, "The first one is made on the server's own machine, for an admin. From then on every request needs a key."),
    h("div", { class: "row nowrap" }, h("pre", { class: "sunk command" }, FIRST), copyButton(() => FIRST, "Copy the command")),
    h("div", { class: "row" }, h("button", { type: "button", onclick: draw }, "I have made it")));
}

function card(key, draw) {
  const facts = [
    ["Id", h("code", null, key.id)],
    ["Requests", key.requests === null ? "as the server's limit" : key.requests || "no limit"],
    ["Tokens", key.tokens || "no limit"],
    ["At one time", key.concurrent ? String(key.concurrent) : "no limit"],
    ["Models", key.models.length ? key.models.join(", ") : "all"],
    ["Vault keeps", key.store ? "the words" : "commitments only"],
    ["Made", time(key.created_at)],
    ["Rotated", key.rotated_at && time(key.rotated_at)],
    ["Expires", key.expires_at && time(key.expires_at)],
    ["Revoked", key.revoked_at && time(key.revoked_at)],
    ["Note", key.note || null],
  ].filter(([, value]) => value);
  const deeds = key.state === "revoked" ? null : h("div", { class: "row" },
    h("button", { type: "button", onclick: () => rotate(key, draw) }, icon("retry"), "Rotate"),
    h("button", { type: "button", class: "bad", onclick: () => revoke(key, draw) }, "Revoke"));
  return h("article", { class: "card stack tight", "aria-label": key.name },
    h("div", { class: "bar" }, h("h2", null, key.name), h("div", { class: "row" }, badge(key.role), badge(key.state, STATES[key.state]))),
    h("dl", { class: "pairs" }, facts.flatMap(([name, value]) => [h("dt", null, name), h("dd", null, value)])), deeds);
}

async function rotate(key, draw) {
  if (!(await confirmed(`Rotate ${key.name}?`, "It gets a new secret, and the one that is in use ends at once.", "Rotate"))) return;
  try {
    const made = await getJson(`/admin/keys/${encodeURIComponent(key.id)}/rotate`, { method: "POST", json: {} });
    await draw();
    await secret("The new secret", made);
  } catch (error) {
    toast(error.message, "bad");
  }
}

async function revoke(key, draw) {
  if (!(await confirmed(`Revoke ${key.name}?`, "For good: whoever uses it is refused from now on. Its records stay.", "Revoke"))) return;
  try {
    await getJson(`/admin/keys/${encodeURIComponent(key.id)}`, { method: "DELETE" });
    toast(`${key.name} is revoked.`);
    await draw();
  } catch (error) {
    toast(error.message, "bad");
  }
}

function secret(title, made) {
  return modal(title, (close) => h("div", { class: "stack" },
    h("p", null, "Copy it now. It is not kept anywhere, and cannot be shown again."),
    h("div", { class: "row nowrap" }, h("pre", { class: "sunk secret" }, made.key), copyButton(() => made.key, "Copy the key")),
    h("div", { class: "row end" }, h("button", { type: "button", class: "primary", autofocus: true, onclick: () => close() }, "I have it"))));
}

/** The made key, or null. */
function creation() {
  return modal("New key", (close) => {
    const inputs = {
      name: h("input", { type: "text", required: true, maxlength: 64, autofocus: true, placeholder: "who or what uses it" }),
      role: h("select", null, options(ROLES, "user")),
      requests: h("input", { type: "text", maxlength: 200, placeholder: "such as 60/minute; 1000/day" }),
      tokens: h("input", { type: "text", maxlength: 200, placeholder: "such as 100000/day" }),
      concurrent: h("input", { type: "number", min: 0, max: 100000, step: 1 }),
      models: h("input", { type: "text", placeholder: "such as guide, my-llama" }),
      expires_at: h("input", { type: "datetime-local" }),
      store: h("input", { type: "checkbox", checked: true, id: "key-store" }),
    };
    const problem = h("div");
    const submitted = async (event) => {
      event.preventDefault();
      try {
        close(await getJson("/admin/keys", { method: "POST", json: termsOf(inputs) }));
      } catch (error) {
        problem.replaceChildren(failure(error));
      }
    };
    return h("form", { class: "stack", onsubmit: submitted },
      field("Name", inputs.name), field("Role", inputs.role),
      h("div", { class: "grid" }, field("Requests", inputs.requests, "Empty: the server's limit."), field("Tokens", inputs.tokens, "Empty: no limit.")),
      h("div", { class: "grid" }, field("At one time", inputs.concurrent, "Requests. Empty: no limit."), field("Models", inputs.models, "With commas. Empty: all.")),
      field("Expires", inputs.expires_at, "Empty: never."),
      h("label", { class: "row", for: "key-store" }, inputs.store, "The vault keeps what is said with it"),
      problem, h("div", { class: "row end" }, h("button", { type: "submit", class: "primary" }, "Make the key")));
  });
}

function termsOf(inputs) {
  const terms = { name: inputs.name.value.trim(), role: inputs.role.value, store: inputs.store.checked };
  if (inputs.requests.value.trim()) terms.requests = inputs.requests.value.trim();
  if (inputs.tokens.value.trim()) terms.tokens = inputs.tokens.value.trim();
  if (inputs.concurrent.value) terms.concurrent = inputs.concurrent.valueAsNumber;
  const models = inputs.models.value.split(",").map((name) => name.trim()).filter(Boolean);
  if (models.length) terms.models = models;
  if (inputs.expires_at.value) terms.expires_at = new Date(inputs.expires_at.value).toISOString();
  return terms;
}
