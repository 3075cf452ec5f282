// Markdown to DOM nodes, and to nothing else: text becomes text nodes, so no answer can bring markup of its own. Images
// are never loaded: they become links. Links lead to http, https or mailto only.
// Knows nothing of where the nodes go.

import { copyButton, h } from "./dom.js";
import { highlighted } from "./highlight.js";

const DEEPEST = 8;

/**
 * Show `text` in `container`. Blocks that did not change since the last call keep their nodes, so a growing answer
 * costs its last block, and a selection in what is above stays.
 */
export function show(container, text) {
  const blocks = split(text.split("\n"));
  const before = container.blocks ?? [];
  let same = 0;
  while (same < blocks.length && same < before.length && blocks[same].source === before[same]) same += 1;
  while (container.childNodes.length > same) container.lastChild.remove();
  container.append(...blocks.slice(same).map((block) => node(block, 0)));
  container.blocks = blocks.map((block) => block.source);
}

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^\s`]*)/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)(?:\s+#+)?\s*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(\s+|$)(.*)$/;
const QUOTE = /^ {0,3}> ?/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;

/** Lines to blocks `{kind, source, ...}`. */
function split(lines) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const block = fence(lines, at) ?? simple(lines[at]) ?? table(lines, at) ?? quote(lines, at) ?? listing(lines, at) ?? paragraph(lines, at);
    const end = at + (block.length ?? 1);
    blocks.push({ ...block, source: `${block.kind}\n${lines.slice(at, end).join("\n")}` });
    at = end;
  }
  return blocks;
}

function fence(lines, at) {
  const begun = FENCE.exec(lines[at]);
  if (!begun) return null;
  const closing = new RegExp(`^ {0,3}${begun[1][0]}{${begun[1].length},}\\s*$`);
  let end = at + 1;
  while (end < lines.length && !closing.test(lines[end])) end += 1;
  return { kind: "code", language: begun[2], text: lines.slice(at + 1, end).join("\n"), length: Math.min(end + 1, lines.length) - at };
}

function simple(line) {
  const heading = HEADING.exec(line);
  if (heading) return { kind: "heading", level: heading[1].length, text: heading[2] };
  return RULE.test(line) ? { kind: "rule" } : null;
}

function table(lines, at) {
  if (!lines[at].includes("|") || !TABLE_RULE.test(lines[at + 1] ?? "") || !lines[at + 1].includes("|")) return null;
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|")) end += 1;
  return { kind: "table", rows: [lines[at], ...lines.slice(at + 2, end)].map(cells), length: end - at };
}

function cells(line) {
  return line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function quote(lines, at) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  return end === at ? null : { kind: "quote", lines: lines.slice(at, end).map((line) => line.replace(QUOTE, "")), length: end - at };
}

function listing(lines, at) {
  const first = ITEM.exec(lines[at]);
  if (!first) return null;
  const ordered = /\d/.test(first[2]);
  const items = [];
  let end = at;
  let width = 0;
  for (; end < lines.length; end += 1) {
    const item = ITEM.exec(lines[end]);
    const indent = lines[end].search(/\S/);
    if (item && indent < Math.max(width, 2) && /\d/.test(item[2]) === ordered && !RULE.test(lines[end])) {
      width = item[1].length + item[2].length + 1;
      items.push([item[4]]);
    } else if (indent >= width || indent < 0) items.at(-1).push(lines[end].slice(Math.min(width, Math.max(indent, 0))));
    else if (lines[end - 1].trim() && !starts(lines[end])) items.at(-1).push(lines[end].trim());
    else break;
  }
  while (!lines[end - 1].trim()) end -= 1;
  return { kind: "list", ordered, start: Number.parseInt(first[2], 10), items, length: end - at };
}

const starts = (line) => FENCE.test(line) || HEADING.test(line) || RULE.test(line) || ITEM.test(line) || QUOTE.test(line);

function paragraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !starts(lines[end])) end += 1;
  return { kind: "paragraph", text: lines.slice(at, end).join("\n"), length: end - at };
}

function node(block, depth) {
  switch (block.kind) {
    case "code":
      return codeBlock(block.text, block.language);
    case "heading":
      return h(`h${Math.min(6, block.level + 2)}`, null, ...inline(block.text));
    case "rule":
      return h("hr");
    case "table":
      return tableNode(block.rows);
    case "quote":
      return h("blockquote", ...nested(block.lines, depth));
    case "list":
      return listNode(block, depth);
    default:
      return h("p", ...inline(block.text));
  }
}

function nested(lines, depth) {
  if (depth >= DEEPEST) return [lines.join("\n")];
  return split(lines).map((block) => node(block, depth + 1));
}

/** Code with its language and a button that copies it. */
function codeBlock(text, language) {
  const bar = h("div.code-bar", h("span", language || "code"), copyButton(() => text, "Copy code"));
  return h("div.code", bar, h("pre", { tabIndex: 0 }, h("code", ...highlighted(text, language))));
}

function tableNode(rows) {
  const [head, ...body] = rows;
  const line = (row, tag) => h("tr", head.map((_, at) => h(tag, null, ...inline(row[at] ?? ""))));
  return h("div.scrolled", { tabIndex: 0 }, h("table", h("thead", line(head, "th")), h("tbody", body.map((row) => line(row, "td")))));
}

function listNode({ ordered, start, items }, depth) {
  const nodes = items.map((lines) => {
    const box = /^\[([ xX])\]\s+/.exec(lines[0]);
    const rest = box ? [lines[0].slice(box[0].length), ...lines.slice(1)] : lines;
    const mark = box ? h("input", { type: "checkbox", disabled: true, checked: box[1] !== " ", "aria-label": box[1] === " " ? "open" : "done" }) : null;
    const blocks = nested(rest, depth);
    const tight = blocks[0]?.tagName === "P" ? [...blocks[0].childNodes] : blocks.slice(0, 1);
    return h("li", mark, ...tight, ...blocks.slice(1));
  });
  return h(ordered ? "ol" : "ul", ordered && start !== 1 ? { start } : null, nodes);
}

const SPANS = [
  [/^(`+)([\s\S]*?[^`])\1(?!`)/, (m) => h("code", m[2].replace(/^ ([\s\S]*\S[\s\S]*) $/, "$1"))],
  [/^\\([!-/:-@[-`{-~])/, (m) => m[1]],
  [/^!?\[((?:[^[\]\\]|\\.|\[[^[\]]*\])*)\]\(\s*<?([^\s<>()]*(?:\([^\s()]*\)[^\s<>()]*)*)>?(?:\s+["'][^"']*["'])?\s*\)/, (m, depth) => link(m[2], inline(m[1] || m[2], depth))],
  [/^\*\*(?=\S)([\s\S]*?\S)\*\*(?!\*)/, (m, depth) => h("strong", ...inline(m[1], depth))],
  [/^__(?=\S)([\s\S]*?\S)__(?!\w)/, (m, depth) => h("strong", ...inline(m[1], depth))],
  [/^~~(?=\S)([\s\S]*?\S)~~/, (m, depth) => h("del", ...inline(m[1], depth))],
  [/^\*(?=\S)([^*]*?\S)\*(?!\*)/, (m, depth) => h("em", ...inline(m[1], depth))],
  [/^_(?=\S)([^_]*?\S)_(?!\w)/, (m, depth) => h("em", ...inline(m[1], depth))],
  [/^https?:\/\/[^\s<>"'`]*[^\s<>"'`.,;:!?)\]*_~]/, (m) => link(m[0], [m[0]])],
  [/^(?: {2,}|\\)\n/, () => h("br")],
];

/** The nodes of a line of text with its spans. */
function inline(text, depth = 0) {
  if (depth > DEEPEST) return [text];
  const nodes = [];
  let plain = "";
  for (let at = 0; at < text.length; ) {
    const found = special(text, at) && span(text, at, depth);
    if (!found) {
      plain += text[at];
      at += 1;
      continue;
    }
    if (plain) nodes.push(plain);
    plain = "";
    nodes.push(found.node);
    at += found.length;
  }
  return plain ? [...nodes, plain] : nodes;
}

/** Whether a span may begin here; an underscore within a word begins none. */
function special(text, at) {
  const letter = text[at];
  if (letter === "_") return !/[\p{L}\p{N}]/u.test(text[at - 1] ?? " ");
  return "`\\![*~ ".includes(letter) || (letter === "h" && text.startsWith("http", at));
}

function span(text, at, depth) {
  const rest = text.slice(at, at + 4000);
  for (const [pattern, make] of SPANS) {
    const match = pattern.exec(rest);
    if (match) return { node: make(match, depth + 1), length: match[0].length };
  }
  return null;
}

function link(target, content) {
  let url;
  try {
    url = new URL(target);
  } catch {
    return h("span", ...content);
  }
  if (!["http:", "https:", "mailto:"].includes(url.protocol)) return h("span", ...content);
  return h("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow" }, ...content);
}
