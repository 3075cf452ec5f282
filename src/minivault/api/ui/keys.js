// Keys, for admins: list, make, rotate and revoke api_keys. A secret is shown once, and this page keeps none of them.

import { NO_KEYS, apiKey, getJson, setApiKey } from "./api.js";
import { badge, confirmed, copyButton, failure, field, h, icon, modal, options, pairs, put, toast } from "./dom.js";
import { plural, time } from "./format.js";

const STATES = { active: "good", expired: "warn", revoked: "bad" };
const ROLES = [["user", "user: asks, and reads its own records"], ["auditor", "auditor: reads and replays all records"], ["admin", "admin: everything"]];

const FIRST = "minivault keys create NAME --role admin";

export async function show(main, _, signal) {
  const list = h("div.models");
  const former = h("details", { hidden: true });
  const draw = async () => {
    try {
      const { keys } = await getJson("/admin/keys", { signal });
      more.hidden = false;
      const [revoked, rest] = [true, false].map((is) => keys.filter((key) => (key.state === "revoked") === is));
      rest.sort((one, other) => (one.state === "expired") - (other.state === "expired"));
      list.replaceChildren(...(rest.length ? rest.map((key) => card(key, draw)) : [h("p.faint", "No key is active.")]));
      former.hidden = !revoked.length;
      former.replaceChildren(h("summary", `Revoked: ${plural(revoked.length, "key")}`), h("div.models", revoked.map((key) => card(key, draw))));
    } catch (error) {
      if (error.name === "AbortError") return;
      more.hidden = former.hidden = true;
      list.replaceChildren(error.code === NO_KEYS ? noKeys(draw) : failure(error, draw));
    }
  };
  const make = async () => {
    const made = await creation();
    if (!made) return;
    await draw();
    await secret("The new key", made);
  };
  const more = h("button.primary", { hidden: true, onclick: make }, icon("plus"), "New key");
  put(main,
    h("div.row.apart",
      h("div", h("h1", "Keys"), h("p.lead", "Who may ask, how much, and what is kept. A record names the key's id, never the key.")),
      more),
    list, former);
  await draw();
}

function noKeys(draw) {
  return h("div.card.stack",
    h("p", "This server has no keys yet: whoever reaches it may use it, and sees all records."),
    h("p", "The first one is made on the server's own machine, for an admin. From then on every request needs a key."),
    h("div.row.nowrap", h("pre.sunk.command", FIRST.split(" ").flatMap((word, place) => [place ? " " : null, h("span", word)])), copyButton(() => FIRST, "Copy the command")),
    h("div.row", h("button", { onclick: draw }, "I have made it")));
}

function card(key, draw) {
  const facts = [
    ["Id", h("code", key.id)],
    ["Requests", key.requests === null ? "as the server's limit" : key.requests || "no limit"],
    ["Tokens", key.tokens || "no limit"],
    ["At one time", key.concurrent ? String(key.concurrent) : "no limit"],
    ["Models", key.models.length ? key.models.join(", ") : "all"],
    ["Vault keeps", key.store ? "the words" : "commitments only"],
    ["Made", time(key.created_at)],
    ["Rotated", key.rotated_at && time(key.rotated_at)],
    ["Former secret", new Date(key.former_secret_until) > new Date() && `taken until ${time(key.former_secret_until)}`],
    ["Expires", key.expires_at && time(key.expires_at)],
    ["Revoked", key.revoked_at && time(key.revoked_at)],
    ["Note", key.note],
  ];
  const deeds = key.state === "revoked" ? null : h("div.row",
    h("button", { onclick: () => rotate(key, draw) }, icon("retry"), "Rotate"),
    h("button.bad", { onclick: () => revoke(key, draw) }, "Revoke"));
  return h("article.card.stack.tight", { "aria-label": key.name },
    h("div.bar", h("h2", key.name), h("div.row", isOwn(key) ? badge("yours") : null, badge(key.role), badge(key.state, STATES[key.state]))),
    pairs(facts), deeds);
}

/** A key is `mv_<id>_<secret>`. */
const isOwn = (key) => apiKey()?.split("_")[1] === key.id;

async function rotate(key, draw) {
  const own = isOwn(key);
  const text = `It gets a new secret, and the one that is in use ends at once.${own ? " It is your own key: this page takes the new one." : ""}`;
  if (!(await confirmed(`Rotate ${key.name}?`, text, "Rotate"))) return;
  try {
    const made = await getJson(`/admin/keys/${encodeURIComponent(key.id)}/rotate`, { method: "POST", json: {} });
    if (own) setApiKey(made.key);
    await secret("The new secret", made);
    await draw();
  } catch (error) {
    toast(error.message, "bad");
  }
}

async function revoke(key, draw) {
  const own = isOwn(key);
  const text = `${own ? "This is your own key, and this page will need another. " : ""}For good: whoever uses it is refused from now on. Its records stay.`;
  if (!(await confirmed(`Revoke ${key.name}?`, text, "Revoke"))) return;
  try {
    await getJson(`/admin/keys/${encodeURIComponent(key.id)}`, { method: "DELETE" });
    toast(`${key.name} is revoked.`);
    if (own) setApiKey(null);
    await draw();
  } catch (error) {
    toast(error.message, "bad");
  }
}

function secret(title, made) {
  return modal(title, (close) => h("div.stack",
    h("p", `Copy it now: it cannot be shown again. ${isOwn(made) ? "This tab uses it until you close it." : "It is not kept anywhere."}`),
    h("div.row.nowrap", h("pre.sunk.secret", made.key), copyButton(() => made.key, "Copy the key")),
    h("div.row.end", h("button.primary", { autofocus: true, onclick: () => close() }, "I have it"))));
}

/** The made key, or null. */
function creation() {
  return modal("New key", (close) => {
    const inputs = {
      name: h("input", { required: true, maxlength: 64, autofocus: true, placeholder: "who or what uses it" }),
      role: h("select", options(ROLES, "user")),
      requests: h("input", { maxlength: 200, placeholder: "such as 60/minute; 1000/day" }),
      tokens: h("input", { maxlength: 200, placeholder: "such as 100000/day" }),
      concurrent: h("input", { type: "number", min: 0, max: 100000, step: 1 }),
      models: h("input", { placeholder: "such as guide, my-llama" }),
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
    return h("form.stack", { onsubmit: submitted },
      field("Name", inputs.name), field("Role", inputs.role),
      h("div.grid", field("Requests", inputs.requests, "Empty: the server's limit."), field("Tokens", inputs.tokens, "Empty: no limit.")),
      h("div.grid", field("At one time", inputs.concurrent, "Requests. Empty: no limit."), field("Models", inputs.models, "With commas. Empty: all.")),
      field("Expires", inputs.expires_at, "Empty: never."),
      h("label.row", { for: "key-store" }, inputs.store, "The vault keeps what is said with it"),
      problem, h("div.row.end", h("button.primary", { type: "submit" }, "Make the key")));
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
