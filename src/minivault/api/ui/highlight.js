// Colours code a little: comments, strings, numbers and common words. One small set of rules for all languages, so it
// is a help to the eye and no parser. Gives nodes made of text. Knows nothing else.

import { h } from "./dom.js";

const WORDS = new Set(
  ("and as async await begin break case catch class const continue def default del do elif else end enum export extends "
    + "false finally fn for from func function global if impl import in interface is lambda let loop match mod module mut "
    + "new nil none not null of or package pass private protected pub public raise return self static struct super switch "
    + "this throw trait true try type typeof use using var void where while with yield select insert update delete create "
    + "table into values join on group by order limit echo then fi done esac local").split(" "),
);
const HASHES = new Set(["", "py", "python", "sh", "bash", "shell", "console", "zsh", "toml", "yaml", "yml", "ruby", "rb", "r", "perl", "make", "makefile", "dockerfile", "ini"]);
const MOST = 40_000;

const PIECES = /(\/\/[^\n]*|\/\*[\s\S]*?(?:\*\/|$)|#[^\n]*|--[ \t][^\n]*)|("(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`)|\b(\d[\w.]*)\b|([A-Za-z_]\w*)/g;

/** Nodes for `text`. */
export function highlighted(text, language) {
  if (text.length > MOST || language === "text") return [text];
  const nodes = [];
  let at = 0;
  for (const match of text.matchAll(PIECES)) {
    const kind = kindOf(match, language.toLowerCase());
    if (!kind) continue;
    nodes.push(text.slice(at, match.index), h("span", { class: `hl-${kind}` }, match[0]));
    at = match.index + match[0].length;
  }
  return [...nodes, text.slice(at)];
}

function kindOf([, comment, string, number, word], language) {
  if (comment?.startsWith("#")) return HASHES.has(language) ? "comment" : null;
  if (comment?.startsWith("--")) return ["sql", "lua", "haskell"].includes(language) ? "comment" : null;
  if (comment) return HASHES.has(language) && language ? null : "comment";
  if (string) return "string";
  if (number) return "number";
  return word && WORDS.has(word.toLowerCase()) ? "word" : null;
}
