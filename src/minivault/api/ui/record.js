// One call in full: what was said, what it depended on, its proof checked in this browser, replay and erasure.

import { abilities, ask, getJson, getText } from "./api.js";
import { diffText, diffTokens } from "./diff.js";
import { announce, badge, confirmed, copyButton, ending, failure, h, icon, pairs, put, save, toast } from "./dom.js";
import { count, ms, plural, short, speed, time } from "./format.js";
import { forgetCall } from "./generation.js";
import { show as showMarkdown } from "./markdown.js";
import { BadProof, canCheck, checkContents, checkProof, contentsOf, hex } from "./proof.js";

const VERDICTS = { MATCH: "good", MISMATCH: "bad", "NOT COMPARABLE": "warn" };
const RETRY_MS = 10_000;
const OPEN_MS = 1000;

export async function showRecord(main, id, signal) {
  const back = h("a.back", { href: "#/vault" }, icon("left"), "Vault");
  let call = null;
  try {
    call = await getJson(`/vault/records/${encodeURIComponent(id)}`, { signal });
  } catch (error) {
    if (signal.aborted) throw error;
    const again = error.status === 404 ? null : () => (main.replaceChildren(), showRecord(main, id, signal));
    put(main, back, h("h1", "Record"), failure(error, again));
    return;
  }
  const { can } = await abilities();
  if (signal.aborted) return;
  document.title = `Record ${call.outcome_index ?? call.index} · MiniVault`;
  const again = () => (main.replaceChildren(), showRecord(main, id, signal));
  const proof = h("section.card.stack.tight", { "aria-label": "Proof" });
  const replay = h("section.card.stack.tight", { "aria-label": "Replay" });
  put(main,
    back, heading(call),
    h("div.columns.record", h("div.stack", said(call), replay), h("div.stack", proof, facts(call))),
    pinned(call), erasure(call, can, again));
  if (call.finish_reason === null) onceEnded(id, signal, again);
  fillReplay(replay, call, can);
  await fillProof(proof, call, signal);
}

/** A call that goes on, or whose end is being recorded: it is looked at again until it has one. */
async function onceEnded(id, signal, redraw) {
  try {
    for (let call = null; !call?.finish_reason; ) {
      await new Promise((wake) => setTimeout(wake, OPEN_MS));
      call = await getJson(`/vault/records/${encodeURIComponent(id)}`, { signal });
    }
    await redraw();
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message, "bad");
  }
}

function heading(call) {
  const parts = [ending(call), badge(call.model), badge(call.surface)];
  if (call.altered) parts.push(badge("altered in the vault's file", "bad"));
  if (!call.store) parts.push(badge("content not stored"));
  if (call.erased_index !== null) parts.push(badge(`erased by record ${call.erased_index}`, "warn"));
  return h("div", h("h1", `Record ${call.outcome_index ?? call.index}`),
    h("div.row", parts, h("time.faint.small", { datetime: call.timestamp }, time(call.timestamp))));
}

// -- what was said --

const absent = (call) => (call.erased_index === null ? "Not stored." : "Erased.");

function said(call) {
  const gone = absent(call);
  const noAnswer = call.finish_reason === null ? "Not ended yet." : gone;
  const answer = h("div.md");
  const plain = h("div.plain", { hidden: true }, call.response ?? "");
  if (call.response !== null) showMarkdown(answer, call.response);
  const toggle = h("button.link", { "aria-pressed": "false" }, "as it was sent");
  toggle.addEventListener("click", () => {
    plain.hidden = !plain.hidden;
    answer.hidden = !plain.hidden;
    toggle.setAttribute("aria-pressed", String(!plain.hidden));
  });
  const title = (text, value, more) => h("div.bar", h("h2", text), h("div.row", more, value ? copyButton(() => value, `Copy ${text.toLowerCase()}`) : null));
  return h("section.card.stack", { "aria-label": "What was said" },
    title("Prompt", call.prompt), h("div.plain", call.prompt ?? h("span.faint", gone)),
    title("Answer", call.response, call.response ? toggle : null),
    call.response === null ? h("p.faint", noAnswer) : answer, plain,
    call.error ? h("p.failure", call.error) : null);
}

function facts(call) {
  const timings = call.timings ?? {};
  const decode = (timings.decode_ns ?? timings.total_ns - timings.first_token_ns) / 1e9;
  const pace = call.usage.completion_tokens > 1 && decode > 0 ? (call.usage.completion_tokens - 1) / decode : null;
  return h("section.card", h("h2", "Call"), pairs([
    ["Tokens", `${count(call.usage.prompt_tokens)} in, ${count(call.usage.completion_tokens)} out`],
    ["Time", call.processing_time_ms === null ? null : ms(call.processing_time_ms)],
    ["First token", timings.first_token_ns ? ms(timings.first_token_ns / 1e6) : null],
    ["Pace", pace === null ? null : speed(pace)],
    ["Mode", `${call.mode}, by ${call.source}`],
    ["API key", call.api_key_id],
    ["Id", call.id],
    ["Ignored", call.ignored.join(", ") || null],
  ]));
}

/** The parameters. Those that are content are shown as the proof checks them, with words in the place of what is gone. */
function parametersOf(call) {
  const { constraints = [], ...shown } = structuredClone(call.parameters);
  const kept = parsed(call.constraints);
  for (const name of constraints) {
    const path = name.split(".");
    const last = path.pop();
    path.reduce((at, step) => at[step], shown)[last] = kept[name] ?? absent(call);
  }
  return shown;
}

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {}; // altered: the proof says so
  }
}

function pinned(call) {
  const values = (object) => pairs(Object.entries(object).map(([name, value]) => [name.replaceAll("_", " "), h("code", typeof value === "string" ? value : JSON.stringify(value))]));
  const tokens = (title, ids) => (ids ? h("details", h("summary", `${title}: ${plural(ids.length, "token")}`), h("pre.sunk", { tabIndex: 0 }, ids.join(" "))) : null);
  return h("section.card.stack", h("h2", "What it pins"),
    h("div.columns",
      h("div", h("h3", "Model and arithmetic"), values(call.pin)),
      h("div", h("h3", "Parameters"), values(parametersOf(call)))),
    tokens("Prompt", call.prompt_token_ids), tokens("Answer", call.response_token_ids));
}

// -- the proof --

async function fillProof(box, call, signal) {
  const verdict = h("div.row", badge("checking…"));
  const detail = h("div.stack.tight");
  box.replaceChildren(h("div.bar", h("h2", "Proof"), verdict), detail);
  if (!canCheck()) {
    verdict.replaceChildren(badge("not checked", "warn"));
    detail.replaceChildren(h("p.soft", "Browsers offer SHA-256 only over https or on the same machine. Use minivault vault check-proof."));
    return;
  }
  const leaves = [call.record, call.intent].filter(Boolean);
  try {
    const { texts, key } = await fetchProofs(leaves, signal);
    const checked = await Promise.all(texts.map((text) => checkProof(text, key)));
    checked.forEach((proven, place) => compareWithCall(proven, leaves[place], call));
    const kinds = await checkContents(checked.map((proven) => proven.leaf), contentsOf(call), call.salts);
    verdict.replaceChildren(badge(checked[0].signature === "good" ? "proven" : "in the tree", "good", "shield"));
    detail.replaceChildren(...provenView(checked, texts, key, kinds));
  } catch (error) {
    if (error.name === "AbortError") return;
    const waits = error.status === 422;
    verdict.replaceChildren(badge(waits ? "not yet signed" : "not proven", waits ? "warn" : "bad"));
    detail.replaceChildren(waits ? h("p.soft", "No signed head covers this record yet; one is signed every minute. This page looks again by itself.") : failure(error));
    if (waits) setTimeout(() => signal.aborted || fillProof(box, call, signal), RETRY_MS);
  }
}

async function fetchProofs(leaves, signal) {
  const texts = await Promise.all(leaves.map((leaf) => getText(`/vault/records/${leaf.index}/proof`, { signal })));
  const head = await ask("/vault/head", { signal });
  return { texts, key: head.headers.get("minivault-key") };
}

/** The proof is of a leaf; what this page shows of the call must be what the leaf says. */
function compareWithCall({ index, leaf, leafHash }, expected, call) {
  if (index !== expected.index || leafHash !== expected.leaf) throw new BadProof("The proof is of another record.");
  if (leaf.request_id !== call.id) throw new BadProof("The leaf is of another call.");
  if (leaf.kind !== "outcome") return;
  const same = leaf.finish_reason === call.finish_reason && leaf.completion_tokens === call.usage.completion_tokens && leaf.prompt_tokens === call.usage.prompt_tokens;
  if (!same) throw new BadProof("The leaf says other things than are shown here.");
}

const NAMES = {
  prompt_text: "the prompt", response_text: "the answer", constraints: "the stop strings and the form asked for",
  prompt_token_ids: "the tokens of the prompt", response_token_ids: "the tokens of the answer",
};

/** Names just what was held against the commitments: nothing else that is shown is vouched for. */
function checkedWords(kinds) {
  const names = kinds.map((kind) => NAMES[kind]);
  if (!names.length) return " No content is shown, so none was checked.";
  const list = names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names[0];
  return ` Shown as the records commit to: ${list}.`;
}

function provenView(checked, texts, key, kinds) {
  const [proven] = checked;
  const words = checkedWords(kinds);
  const signed = proven.signature === "good" ? "whose Ed25519 signature is sound" : "whose signature this browser cannot check";
  const path = proven.steps.map(({ side, hash, result }) => h("li", h("span.faint", side === "left" ? "with left" : "with right"), h("code", short(hex(hash), 10)), h("span.faint", "gives"), h("code", short(hex(result), 10))));
  return [
    h("p.soft", `Checked in this browser: ${checked.length > 1 ? "both records of this call stand" : "the record stands"} in the tree of a head over ${plural(proven.size, "record")}, ${signed}.${words}`),
    h("details", h("summary", `${plural(proven.steps.length, "step")} from leaf to root`),
      h("ol.path", h("li", h("span.faint", `leaf ${proven.index}`), h("code", short(proven.leafHash, 10))), path, h("li", h("span.faint", "root of the head"), h("code", short(proven.root, 10)), badge("equal", "good", "check")))),
    h("details", h("summary", "The leaf"), h("pre.sunk", { tabIndex: 0 }, JSON.stringify(proven.leaf, null, 2))),
    h("p.faint.small", "The key comes from this server. Compare it with a copy that you keep: ", h("code.wrap", key)),
    h("div.row", h("button", { onclick: () => save(`record-${proven.index}.tlog-proof`, texts[0]) }, icon("download"), "Save the proof")),
  ];
}

// -- replay --

function fillReplay(box, call, can) {
  const result = h("div.stack.tight", { role: "status" });
  const button = h("button", icon("retry"), "Run it again");
  button.addEventListener("click", async () => {
    button.disabled = true;
    result.replaceChildren(h("p.faint", "Computing the answer again…"));
    try {
      result.replaceChildren(...(await replayed(call)));
    } catch (error) {
      result.replaceChildren(failure(error));
    }
    button.disabled = false;
  });
  box.hidden = !can("POST /vault/records/{}/replay");
  const gone = call.erased_index !== null;
  box.replaceChildren(h("div.bar", h("h2", "Replay"), gone ? null : button),
    h("p.soft", gone ? "What was said is erased: it cannot be run again." : "Runs the recorded tokens with the recorded parameters and seed, and compares each token. The replay is recorded too."), result);
}

async function replayed(call) {
  const found = await getJson(`/vault/records/${call.index}/replay`, { method: "POST" });
  const where = found.position === null ? "" : ` at token ${found.position + 1}`;
  const nodes = [h("div.row", badge(`${found.verdict}${where}`, VERDICTS[found.verdict], found.verdict === "MATCH" ? "check" : null),
    h("span.soft", found.reason ?? (found.verdict === "MATCH" ? `all ${plural(found.compared_tokens, "token")} are the same` : `${plural(found.compared_tokens, "token")} compared`)))];
  announce(`Replay: ${found.verdict}`);
  if (!found.record) return nodes;
  const again = await getJson(`/vault/records/${found.record.index}`);
  nodes.push(h("a", { href: `#/vault/${found.record.index}` }, `record ${found.record.index} of the replay`));
  return [...nodes, ...comparison(call, again, found.verdict === "MATCH")];
}

function comparison(call, again, same) {
  const nodes = [];
  if (call.response !== null && again.response !== null) nodes.push(h("h3", same ? "The text, again" : "From the record to the replay"), diffText(call.response, again.response));
  if (call.response_token_ids && again.response_token_ids) nodes.push(h("details", { open: !same }, h("summary", "Token by token"), diffTokens(call.response_token_ids, again.response_token_ids)));
  return nodes;
}

// -- erasure --

function erasure(call, can, again) {
  if (!can("DELETE /vault/records/{}/content") || call.erased_index !== null || (call.prompt === null && call.response === null)) return null;
  const erase = async () => {
    const text = "Prompt, answer, token ids, stop strings, the form asked for and salts go for good. Its replays, and answers that were taken from its record, go with it. The records and every proof stay, and the erasure is recorded. Their turns go from this browser's conversations; other browsers keep theirs. Later calls of a conversation repeat what was said before: erase those too.";
    if (!(await confirmed("Erase what this call said?", text, "Erase for good"))) return;
    try {
      const { copies } = await getJson(`/vault/records/${call.index}/content`, { method: "DELETE" });
      forgetCall({ ...call, copies });
      toast(`Erased${copies.length ? `, with ${count(copies.length)} ${copies.length === 1 ? "replay or repeat" : "replays and repeats"}` : ""}. The records and their proofs stay.`);
      await again();
    } catch (error) {
      toast(error.message, "bad");
    }
  };
  return h("section.card.row.apart", h("div", h("h2", "Erase"), h("p.soft", "Takes away what was said, and leaves the proof that something was.")),
    h("button.bad", { onclick: erase }, icon("trash"), "Erase content"));
}
