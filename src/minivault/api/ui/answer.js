// One turn as it is shown: what was asked, and the answer with its thoughts, its figures and its record. Knows nothing
// of how answers come about.

import { copyButton, h, iconButton } from "./dom.js";
import { count, ms, plural, speed } from "./format.js";
import { paceOf } from "./generation.js";
import { show } from "./markdown.js";
import { shownOf } from "./store.js";

/** What the person asked. `edit(text)` or null. */
export function promptView(text, edit) {
  const bubble = h("div.bubble", text);
  const tools = h("div.tools", copyButton(() => text, "Copy message"),
    edit ? iconButton("edit", "Edit message", () => openEditor(view, text, edit)) : null);
  const view = h("article.turn.asked", { "aria-label": "You" }, bubble, tools);
  return view;
}

/** Puts the editor in the view's place. The focus moves at once: a frame later it could take the marks of who types. */
function openEditor(view, text, edit) {
  const form = editor(text, edit, () => promptView(text, edit));
  view.replaceWith(form);
  const input = form.querySelector("textarea");
  input.focus();
  input.setSelectionRange(text.length, text.length);
}

function editor(text, edit, back) {
  const input = h("textarea", { value: text, rows: Math.min(10, text.split("\n").length + 1), "aria-label": "Edit message" });
  const form = h("form.turn.asked.editing", { "aria-label": "Edit message" }, input,
    h("div.row.end",
      h("button", { onclick: () => form.replaceWith(back()) }, "Cancel"),
      h("button.primary", { type: "submit" }, "Ask again")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.value.trim()) edit(input.value.trim());
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") form.replaceWith(back());
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  return form;
}

/** The shown answer of a turn: `{element, update()}`. `retry()`, `choose(place)` and `anew()`, a new chat, may be null;
 * `alone` when no turn went before, so that a new chat would have no more room. */
export function answerView(turn, { retry, choose, anew, alone }) {
  const result = shownOf(turn);
  const body = h("div.md");
  const thoughts = thoughtsView(result);
  const figures = h("div.figures");
  const problem = h("div.failure", { role: "alert", hidden: true });
  const tools = h("div.tools", copyButton(() => result.text, "Copy answer"),
    retry ? iconButton("retry", "Retry", retry) : null, choose ? versions(turn, choose) : null);
  const under = h("div.under", tools, figures);
  const element = h("article.turn.answered", { "aria-label": result.model ? `Answer of ${result.model}` : "Answer" }, thoughts.element, body, problem, under);
  const update = () => {
    show(body, result.text);
    thoughts.update();
    element.classList.toggle("running", result.status === "running");
    element.classList.toggle("waiting", result.status === "running" && !result.text && !result.reasoning);
    figures.replaceChildren(...figuresOf(result));
    problem.hidden = !result.error;
    problem.replaceChildren(...problemOf(result, anew, alone));
  };
  update();
  return { element, update };
}

/** What went wrong, and the way on. */
function problemOf({ error, code, text }, anew, alone) {
  if (!error) return [];
  const words = anew && !text ? `${error}${/[.?!]$/.test(error) ? "" : "."} This message is not sent again with the next one.` : error;
  const full = anew && !alone && code === "context_length_exceeded";
  return [h("p", words), full ? h("button", { onclick: anew }, "Ask it in a new chat") : ""];
}

function thoughtsView(result) {
  const text = h("div.thoughts");
  const summary = h("summary");
  const element = h("details.thinking", { hidden: true }, summary, text);
  const update = () => {
    element.hidden = !result.reasoning;
    summary.textContent = result.text || result.status !== "running" ? `Thought for ${ms(result.thoughtMs ?? 0)}` : "Thinking…";
    if (result.reasoning) text.textContent = result.reasoning;
  };
  return { element, update };
}

function versions(turn, choose) {
  const total = turn.answers.length;
  if (total < 2) return null;
  return h("span.versions",
    iconButton("left", "Earlier answer", () => choose(turn.shown - 1), { disabled: turn.shown === 0 }),
    h("span", `${turn.shown + 1} of ${total}`),
    iconButton("right", "Later answer", () => choose(turn.shown + 1), { disabled: turn.shown === total - 1 }));
}

const ENDS = { length: "cut at the most tokens", content_filter: "filtered" };

/** Figures of an answer and the link to its record. */
function figuresOf(result) {
  const parts = [];
  const add = (text, title) => parts.push(h("span", title ? { title } : null, text));
  if (result.status === "stopped") add("stopped");
  if (result.status === "interrupted") add("left unfinished");
  if (ENDS[result.finish]) add(result.cut ?? ENDS[result.finish]);
  if (result.usage) add(plural(result.usage.completion_tokens, "token"), `${count(result.usage.prompt_tokens)} of the prompt, ${count(result.usage.completion_tokens)} of the answer`);
  else if (result.pieces) add(plural(result.pieces, "piece"));
  const pace = paceOf(result);
  if (pace) add(speed(pace), "after the first token");
  if (result.firstMs !== undefined) add(`first in ${ms(result.firstMs)}`, "time to the first token");
  if (result.id) parts.push(h("a.record-link", { href: `#/vault/${encodeURIComponent(result.id)}`, title: "See it in the vault" }, "record"));
  return parts;
}
