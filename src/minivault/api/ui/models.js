// Models: what is there, what is in memory, and what may be done with it on this server.

import { ask, getJson, lines } from "./api.js";
import { announce, badge, confirmed, copyButton, failure, field, h, icon, pairs, put, toast } from "./dom.js";
import { bytes, plural, scale, short, time } from "./format.js";

const LOOK_MS = 2000;

export async function show(main, _, signal) {
  const list = h("div.models");
  const changes = (await getJson("/health")).permissions.includes("models");
  const screen = { list, changes, signal, busy: new Map() };
  if (signal.aborted) return;
  put(main,
    h("div", h("h1", "Models"), h("p.lead", "What this machine can run. A record pins the digest of the weights that answered.")),
    changes ? pullForm(screen) : null, list);
  await draw(screen);
  watch(screen);
}

/** Others may load, pull or remove too: look again while this screen is open. */
function watch(screen) {
  const timer = setInterval(() => document.hidden || draw(screen), LOOK_MS);
  screen.signal.addEventListener("abort", () => clearInterval(timer));
}

async function draw(screen) {
  try {
    const { models, damaged } = await getJson("/models", { signal: screen.signal });
    const focused = document.activeElement?.getAttribute("data-deed");
    const cards = new Map(models.map((model) => [model.name, model]));
    for (const one of damaged) cards.set(one.name, { state: "failed", ...cards.get(one.name), ...one });
    screen.list.replaceChildren(...[...cards.values()].map((model) => card(model, screen)));
    if (focused) [...screen.list.querySelectorAll("[data-deed]")].find((one) => one.dataset.deed === focused)?.focus();
  } catch (error) {
    if (error.name !== "AbortError") screen.list.replaceChildren(failure(error, () => draw(screen)));
  }
}

const STATES = { loaded: ["in memory", "good"], unloaded: ["on disk", ""], failed: ["failed", "bad"] };

function stateOf({ state, loaded }) {
  return STATES[state ?? (loaded ? "loaded" : "unloaded")] ?? [state, "warn"];
}

function card(model, screen) {
  const badges = [
    badge(...stateOf(model)),
    model.default ? badge("default") : null,
    model.embedded ? badge("embedded") : null,
    model.kind && model.kind !== "generation" ? badge(model.kind) : null,
    model.engine && model.engine !== "native" ? badge(model.engine) : null,
  ];
  const facts = [
    ["Family", model.family],
    ["Parameters", model.parameters ? scale(model.parameters) : null],
    ["On disk", model.size_bytes ? bytes(model.size_bytes) : null],
    [model.loaded ? "In memory" : "Would take", model.memory_bytes ? bytes(model.memory_bytes) : null],
    ["In use by", model.in_use ? plural(model.in_use, "call") : null],
    ["Leaves", Number.isFinite(model.expires_in) ? `in ${plural(Math.round(model.expires_in), "second")} if idle` : null],
    ["Context", model.context_length ? plural(model.context_length, "token") : null],
    ["Imported", model.imported_at ? time(model.imported_at) : null],
    ["Digest", model.digest ? h("span.row", h("code", short(model.digest, 16)), copyButton(() => model.digest, `Copy digest of ${model.name}`)) : null],
  ];
  return h("article.card.stack.tight", { "aria-label": model.name },
    h("div.bar", h("h2", model.name), h("div.row", badges)),
    pairs(facts),
    model.error ? h("p.failure", model.error) : null, screen.changes ? actions(model, screen) : null, progressOf(model, screen));
}

function actions(model, screen) {
  const path = `/models/${encodeURIComponent(model.name)}`;
  const busy = screen.busy.has(model.name);
  const button = (label, kind, deed) => h("button", { class: kind, disabled: busy, "data-deed": `${kind} ${model.name}`, onclick: () => work(model.name, screen, label, deed) }, label);
  const [label, deed] = model.loaded ? ["Unload", "unload"] : ["Load", "load"];
  return h("div.row",
    button(label, "", () => ask(`${path}/${deed}`, { method: "POST", json: {} })),
    model.embedded ? null : button("Remove", "bad", () => remove(model, path)));
}

async function remove(model, path) {
  const text = `The files of ${model.name} go from this machine. Records that it answered stay, but can be replayed only with the same weights.`;
  if (await confirmed(`Remove ${model.name}?`, text, "Remove")) await ask(path, { method: "DELETE" });
}

async function work(name, screen, label, deed) {
  screen.busy.set(name, { status: `${label}…` });
  await draw(screen);
  try {
    await deed();
    announce(`${label}: done`);
  } catch (error) {
    toast(error.message, "bad");
  }
  screen.busy.delete(name);
  if (!screen.signal.aborted) await draw(screen);
}

function progressOf(model, screen) {
  if (model.progress) return progressView({ status: model.progress.phase, completed: model.progress.done_bytes, total: model.progress.total_bytes });
  const progress = screen.busy.get(model.name);
  return progress ? progressView(progress) : null;
}

function progressView({ status, completed, total, file }) {
  const known = Number.isFinite(completed) && total > 0;
  const bar = known ? h("progress", { value: completed, max: total, "aria-label": status }) : h("progress", { "aria-label": status });
  return h("div.stack.tight", bar, h("small", [status, file, known ? `${bytes(completed)} of ${bytes(total)}` : null].filter(Boolean).join(" · ")));
}

/** A route that answers with JSON lines of progress. */
async function streamed(path, json, told) {
  const response = await ask(path, { method: "POST", json });
  for await (const line of lines(response)) {
    if (!line.trim()) continue;
    const said = JSON.parse(line);
    if (said.error) throw new Error(said.error.message ?? said.error);
    if (said.status) told(said);
  }
}

// -- pull --

function pullForm(screen) {
  const input = h("input", { placeholder: "ORG/NAME, or a short name", required: true, maxlength: 300, spellcheck: "false", autocapitalize: "off" });
  const progress = h("div", { role: "status" });
  const button = h("button.primary", { type: "submit" }, icon("download"), "Pull");
  const submitted = async (event) => {
    event.preventDefault();
    button.disabled = true;
    let shown = 0;
    try {
      await streamed("/models/pull", { model: input.value.trim() }, (said) => {
        if (performance.now() - shown < 100) return;
        shown = performance.now();
        progress.replaceChildren(progressView(said));
      });
      announce(`${input.value} is here`);
      progress.replaceChildren();
      input.value = "";
    } catch (error) {
      progress.replaceChildren(failure(error));
    }
    button.disabled = false;
    if (!screen.signal.aborted) await draw(screen);
  };
  return h("form.card.stack.tight", { onsubmit: submitted },
    h("div.row.nowrap.end-aligned", field("Pull a model from Hugging Face", input), button), progress);
}
