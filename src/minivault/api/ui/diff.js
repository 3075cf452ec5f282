// What two texts, or two lists of tokens, have in common. Knows nothing of where they come from.

import { h } from "./dom.js";

const MOST = 1500;

/** Runs `{kind: "same" | "gone" | "added", items}` that lead from `before` to `after`. */
function difference(before, after) {
  let head = 0;
  while (head < before.length && head < after.length && before[head] === after[head]) head += 1;
  let tail = 0;
  const room = Math.min(before.length, after.length) - head;
  while (tail < room && before[before.length - 1 - tail] === after[after.length - 1 - tail]) tail += 1;
  const runs = [];
  add(runs, "same", before.slice(0, head));
  between(runs, before.slice(head, before.length - tail), after.slice(head, after.length - tail));
  add(runs, "same", before.slice(before.length - tail));
  return runs;
}

function add(runs, kind, items) {
  if (!items.length) return;
  if (runs.at(-1)?.kind === kind) runs.at(-1).items.push(...items);
  else runs.push({ kind, items: [...items] });
}

/** The longest common subsequence; where that would cost too much, one whole for the other. */
function between(runs, before, after) {
  if (before.length > MOST || after.length > MOST) {
    add(runs, "gone", before);
    add(runs, "added", after);
    return;
  }
  const width = after.length + 1;
  const longest = new Uint16Array((before.length + 1) * width);
  for (let i = before.length - 1; i >= 0; i -= 1) {
    for (let j = after.length - 1; j >= 0; j -= 1) {
      const cell = i * width + j;
      longest[cell] = before[i] === after[j] ? longest[cell + width + 1] + 1 : Math.max(longest[cell + width], longest[cell + 1]);
    }
  }
  for (let i = 0, j = 0; i < before.length || j < after.length; ) {
    if (i < before.length && j < after.length && before[i] === after[j]) {
      add(runs, "same", [before[i]]);
      i += 1;
      j += 1;
    } else if (i < before.length && (j === after.length || longest[(i + 1) * width + j] >= longest[i * width + j + 1])) {
      add(runs, "gone", [before[i++]]);
    } else add(runs, "added", [after[j++]]);
  }
}

/** Words, spaces and signs: joined they are the text. */
export const words = (text) => text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? [];

const TAGS = { same: "span", gone: "del", added: "ins" };

/** A text with what went and what came. */
export function diffText(before, after) {
  const runs = difference(words(before), words(after));
  return h("div.diff", runs.map((run) => h(TAGS[run.kind], null, run.items.join(""))));
}

/** Token ids with what went and what came; long equal stretches are folded to their ends. */
export function diffTokens(before, after) {
  const chips = difference(before, after).flatMap((run) => fold(run).map((id) => h(TAGS[run.kind], { class: "chip" }, String(id))));
  return h("div.chips", chips);
}

function fold({ kind, items }) {
  if (kind !== "same" || items.length <= 24) return items;
  return [...items.slice(0, 12), `… ${items.length - 24} the same …`, ...items.slice(-12)];
}

/** The number of characters that two texts begin with in common. */
export function commonStart(one, other) {
  const a = [...one];
  const b = [...other];
  let at = 0;
  while (at < a.length && at < b.length && a[at] === b[at]) at += 1;
  return at;
}
