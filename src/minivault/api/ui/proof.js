// Checks a record's proof in the browser: SHA-256 of the leaf, the path of RFC 9162 up to the root, and the signature of
// the head. Needs the proof's text and the log's public key, and nothing of the server. Knows nothing of the page.

const HEADING = /^c2sp\.org\/tlog-proof@v1\nextra (\S+)\nindex (0|[1-9][0-9]{0,15})\n((?:\S+\n)*)\n/;
const HASH = 32;
const ED25519 = 1;
const SIGNATURE = /^\u2014 ([^\s+]+) ([A-Za-z0-9+/]+={0,2})$/;
const KEY_ID = 4;
const MAX_SIGNATURES = 100;

/** A proof that proves nothing; the message says why. */
export class BadProof extends Error {}

/** Whether this browser offers SHA-256 here: only over https, or on this machine. */
export const canCheck = () => Boolean(globalThis.crypto?.subtle);

/**
 * What a good proof says: `{index, leaf, leafHash, size, origin, root, steps, signature, note}`. A step is `{side, hash,
 * result}`. `signature` is "good", or "unsupported" where this browser has no Ed25519. Raises BadProof.
 */
export async function checkProof(text, key) {
  const match = HEADING.exec(text);
  if (!match) throw new BadProof("It is no c2sp.org/tlog-proof@v1 with its leaf.");
  const data = decode(match[1]);
  const index = Number(match[2]);
  const path = match[3].split("\n").filter(Boolean).map(decode);
  const note = text.slice(match[0].length);
  const head = readNote(note);
  const leafHash = await sha256(0, data);
  const steps = await climb(index, head.size, leafHash, path, head.root);
  const signature = await checkSignature(head, key);
  return { index, leaf: readLeaf(data), leafHash: hex(leafHash), size: head.size, origin: head.origin, root: hex(head.root), steps, signature, note };
}

/** The steps from a leaf to `root` by RFC 9162, 2.1.3.2; raises BadProof if they lead elsewhere. Divided, not shifted: an index may have more than 32 bits. */
export async function climb(index, size, leafHash, path, root) {
  if (!(Number.isSafeInteger(index) && Number.isSafeInteger(size) && index >= 0 && index < size)) throw new BadProof("The index lies outside the tree.");
  if (leafHash.length !== HASH || root.length !== HASH) throw new BadProof("A hash has 32 bytes.");
  let first = index;
  let last = size - 1;
  let running = leafHash;
  const steps = [];
  for (const hash of path) {
    if (hash.length !== HASH || last === 0) throw new BadProof("The path does not fit the tree.");
    const left = first % 2 === 1 || first === last;
    running = left ? await sha256(1, hash, running) : await sha256(1, running, hash);
    steps.push({ side: left ? "left" : "right", hash, result: running });
    while (left && first !== 0 && first % 2 === 0) [first, last] = [first / 2, Math.floor(last / 2)];
    [first, last] = [Math.floor(first / 2), Math.floor(last / 2)];
  }
  if (last !== 0) throw new BadProof("The path is too short.");
  if (!equal(running, root)) throw new BadProof("The path does not lead to the root of the signed head.");
  return steps;
}

/** A C2SP checkpoint: origin, size, root, and signature lines, of which each must be well-formed, whosever it is. */
export function readNote(note) {
  const cut = note.lastIndexOf("\n\n");
  if (cut < 0 || !note.endsWith("\n")) throw new BadProof("The head is no signed note.");
  const text = note.slice(0, cut + 1);
  const [origin, size, root, rest, ...more] = text.split("\n");
  if (!origin || !/^(0|[1-9][0-9]{0,15})$/.test(size ?? "") || rest !== "" || more.length) throw new BadProof("The head is no checkpoint.");
  const signatures = note.slice(cut + 2, -1).split("\n").map(readSignature);
  if (signatures.length > MAX_SIGNATURES) throw new BadProof("The head has too many signatures.");
  return { origin, size: Number(size), root: decode(root), text, signatures };
}

function readSignature(line) {
  const [, name, encoded] = SIGNATURE.exec(line) ?? [];
  const data = encoded ? decode(encoded) : new Uint8Array();
  if (data.length <= KEY_ID) throw new BadProof("The head holds a line that is no signature.");
  return { name, id: hex(data.slice(0, KEY_ID)), data: data.slice(KEY_ID) };
}

/** `name+id+key`, as the server and `vault.pub` give it. */
async function readKey(text) {
  const [, name, id, encoded] = /^(\S+?)\+([0-9a-f]{8})\+(\S+)$/.exec(text.trim()) ?? [];
  const data = encoded ? decode(encoded) : new Uint8Array();
  if (data.length !== HASH + 1 || data[0] !== ED25519) throw new BadProof("The key is no Ed25519 verifier key.");
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", concat(utf8(`${name}\n`), data)));
  if (hex(digest.slice(0, 4)) !== id) throw new BadProof("The key has an id that is not its own.");
  return { name, id, public: data.slice(1) };
}

async function checkSignature(head, keyText) {
  const key = await readKey(keyText);
  const own = head.signatures.filter(({ name, id }) => name === key.name && id === key.id);
  if (!own.length) throw new BadProof("The head is not signed by this key.");
  const sound = await Promise.all(own.map(({ data }) => ed25519(key.public, data, utf8(head.text))));
  if (sound.includes(false)) throw new BadProof("The head's signature is wrong.");
  return sound.includes(null) ? "unsupported" : "good";
}

/** true, false, or null where the browser has no Ed25519. */
async function ed25519(key, signature, message) {
  try {
    const imported = await crypto.subtle.importKey("raw", key, { name: "Ed25519" }, false, ["verify"]);
    return await crypto.subtle.verify("Ed25519", imported, signature, message);
  } catch (error) {
    if (error.name === "NotSupportedError") return null;
    throw error;
  }
}

const TOKEN_BYTES = 4;
const SALT = /^[0-9a-f]{64}$/;

/** What a call said, as the vault commits to it: kind -> bytes, of what there is. */
export function contentsOf(call) {
  const contents = {};
  for (const [kind, text] of [["prompt_text", call.prompt], ["response_text", call.response], ["constraints", call.constraints]]) {
    if (text !== null && text !== undefined) contents[kind] = utf8(text);
  }
  for (const kind of ["prompt_token_ids", "response_token_ids"]) {
    if (call[kind]) contents[kind] = packed(call[kind]);
  }
  return contents;
}

function packed(ids) {
  const view = new DataView(new ArrayBuffer(ids.length * TOKEN_BYTES));
  ids.forEach((id, place) => view.setUint32(place * TOKEN_BYTES, id, true));
  return new Uint8Array(view.buffer);
}

/**
 * Check shown contents against the commitments of proven leaves: SHA-256 over a label, the salt and the content. Gives the
 * kinds, all of which were checked; raises BadProof for one that is not what was committed to, or that cannot be checked:
 * whoever shows content shows its salt too. A salt has 32 bytes, or the beginning of a text could be moved into it.
 */
export async function checkContents(leaves, contents, salts) {
  const committed = Object.assign({}, ...leaves.map((leaf) => leaf.commitments ?? {}));
  for (const [kind, content] of Object.entries(contents)) {
    const said = kind.replaceAll("_", " ");
    if (!SALT.test(salts?.[kind] ?? "")) throw new BadProof(`What is shown cannot be checked, for its salt is missing or does not have 32 bytes: ${said}.`);
    const label = utf8(`minivault.commitment.v1:${kind}\0`);
    const digest = await crypto.subtle.digest("SHA-256", concat(label, unhex(salts[kind]), content));
    if (hex(new Uint8Array(digest)) !== committed[kind]) throw new BadProof(`What is shown is not what was recorded: ${said}.`);
  }
  return Object.keys(contents);
}

function readLeaf(data) {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data));
  } catch {
    throw new BadProof("The leaf is no record of a vault.");
  }
}

async function sha256(prefix, ...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", concat(Uint8Array.of(prefix), ...parts)));
}

function concat(...parts) {
  const whole = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const utf8 = (text) => new TextEncoder().encode(text);
export const hex = (data) => Array.from(data, (byte) => byte.toString(16).padStart(2, "0")).join("");
const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
const equal = (one, other) => one.length === other.length && one.every((byte, at) => byte === other[at]);

export function decode(text) {
  let letters = null;
  try {
    letters = atob(text);
  } catch {
    // said below
  }
  // Spelled in the one way that it can be written: no bits left over at the end.
  if (letters === null || btoa(letters) !== text) throw new BadProof("A line is not base64.");
  return Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
}
