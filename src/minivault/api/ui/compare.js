// Compare: one prompt to two models or settings at once, side by side, and whether the bytes are equal.

import { answerView } from "./answer.js";
import { chatModels } from "./catalog.js";
import { commonStart, diffText } from "./diff.js";
import { announce, badge, field, h, options, put } from "./dom.js";
import { count } from "./format.js";
import { messagesOf, requestOf, run } from "./generation.js";
import { settingsFields } from "./settings.js";
import { store } from "./store.js";

/** What was typed and answered: it outlives a look at another screen. */
const kept = { prompt: "", sides: [{ settings: { seed: 7 }, turn: null }, { settings: { seed: 7 }, turn: null }] };

store.addEventListener("erased", ({ detail }) => {
  for (const side of kept.sides) {
    if (side.turn?.answers.some(detail)) {
      side.turn = null;
      kept.prompt = "";
    }
  }
});

export async function show(main, _, signal) {
  const names = (await chatModels()).map((model) => model.name);
  if (signal.aborted) return;
  const input = h("textarea", { rows: 3, value: kept.prompt, placeholder: "One prompt for both sides", required: true });
  const verdict = h("div.verdict", { role: "status" });
  const diff = h("div");
  const columns = kept.sides.map((side, place) => column(side, "AB"[place], names));
  const button = h("button.primary", { type: "submit" }, "Run both");
  let controller = null;

  const judge = () => {
    const results = kept.sides.map((side) => side.turn?.answers[0]);
    verdict.replaceChildren(...(results.every((result) => result?.status === "done") ? [judgement(...results)] : []));
    const unequal = results.every((result) => result?.status === "done") && results[0].text !== results[1].text;
    diff.replaceChildren(...(unequal ? [h("section.card", h("h2", "From A to B"), diffText(results[0].text, results[1].text))] : []));
  };
  const submitted = async (event) => {
    event.preventDefault();
    if (controller) {
      controller.abort();
      return;
    }
    controller = new AbortController();
    kept.prompt = input.value;
    button.textContent = "Stop";
    verdict.replaceChildren();
    diff.replaceChildren();
    await Promise.all(columns.map((one) => one.ask(kept.prompt, controller.signal)));
    controller = null;
    button.textContent = "Run both";
    judge();
    announce(verdict.textContent || "Both sides have ended");
  };
  signal.addEventListener("abort", () => controller?.abort());
  put(main,
    h("div", h("h1", "Compare"), h("p.lead", "One prompt, two models or settings. With the same model, settings and seed, both answers are equal byte for byte.")),
    h("form.stack", { onsubmit: submitted }, field("Prompt", input), h("div.row.apart", verdict, button)),
    h("div.columns", columns.map((one) => one.element)),
    diff);
  judge();
}

function judgement(one, other) {
  if (one.text === other.text) return badge(`Equal bytes: ${count(new TextEncoder().encode(one.text).length)} of them`, "good", "check");
  return badge(`Differ from character ${count(commonStart(one.text, other.text) + 1)} on`, "warn");
}

function column(side, letter, names) {
  if (!names.includes(side.settings.model)) side.settings.model = names[0];
  const model = h("select", options(names.map((name) => [name, name]), side.settings.model));
  model.addEventListener("change", () => (side.settings.model = model.value));
  const output = h("div.output");
  let view = null;
  const draw = () => {
    view = side.turn ? answerView(side.turn, { retry: null, choose: null }) : null;
    output.replaceChildren(view?.element ?? h("p.faint", `The answer of ${letter} comes here.`));
  };
  const ask = async (text, signal) => {
    const result = { text: "", reasoning: "", status: "running" };
    side.turn = { text, answers: [result], shown: 0 };
    draw();
    const request = { ...requestOf(side.settings), messages: messagesOf({ settings: side.settings, turns: [side.turn] }) };
    await run(request, result, signal, () => view.update());
  };
  draw();
  const settings = h("details", h("summary", "Settings"), settingsFields(side.settings));
  const heading = h("div.row", h("span.letter", { "aria-hidden": "true" }, letter), field(`Model ${letter}`, model));
  return { ask, element: h("section.card.stack", { "aria-label": `Side ${letter}` }, heading, settings, output) };
}
