// The fields of a request's settings, for a chat and for each side of a comparison. An empty field is the model's own
// default. Knows nothing of who uses the values.

import { field, h, modal } from "./dom.js";

const NUMBERS = [
  ["temperature", "Temperature", { min: 0, max: 10, step: 0.05 }, "0 always takes the likeliest token."],
  ["top_p", "Top p", { min: 0.01, max: 1, step: 0.01 }, "Keeps the likeliest tokens up to this share."],
  ["max_tokens", "Most tokens", { min: 1, max: 1_000_000, step: 1 }, "Where an answer is cut."],
  ["seed", "Seed", { min: 0, max: 9_007_199_254_740_991, step: 1 }, "The same seed gives the same bytes."],
];

/** Fields bound to `settings`; `changed()` after each change. */
export function settingsFields(settings, changed = () => {}) {
  const numbers = NUMBERS.map(([name, label, bounds, note]) => {
    const input = h("input", { type: "number", inputmode: "decimal", placeholder: "default", ...bounds, step: bounds.step < 1 ? "any" : 1 });
    if (Number.isFinite(settings[name])) input.value = String(settings[name]);
    input.addEventListener("input", () => {
      const sound = input.value !== "" && input.checkValidity();
      settings[name] = sound ? input.valueAsNumber : null;
      changed();
    });
    return field(label, input, note);
  });
  return h("div.settings", systemField(settings, changed), h("div.grid", numbers));
}

function systemField(settings, changed) {
  const input = h("textarea", { rows: 3, value: settings.system ?? "", placeholder: "You are …" });
  input.addEventListener("input", () => {
    settings.system = input.value;
    changed();
  });
  return field("System prompt", input, "Said to the model before your first message.");
}

export function settingsDialog(title, settings, changed) {
  return modal(title, (close) =>
    h("form.stack", { onsubmit: (event) => (event.preventDefault(), close()) },
      settingsFields(settings, changed),
      h("div.row.end", h("button.primary", { type: "submit" }, "Done"))));
}
