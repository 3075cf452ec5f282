// This browser as a witness: it remembers the newest head that it saw and the key that signed it, so that a vault that
// was set back, or whose key was changed, is noticed here. Knows nothing of the page.

const HEAD = "minivault.head";

/** Compare a head `{origin, size, root, key}` (root as hex) with the remembered one, then remember the newer. */
export function witness(head) {
  const before = remembered();
  if (before && before.key !== head.key) return { kind: "bad", text: "Another key signs than the one this browser remembers." };
  if (before && head.size < before.size) return { kind: "bad", text: `The vault is smaller than it was: this browser saw a signed head over ${before.size} records.` };
  if (before && head.size === before.size && head.root !== before.root) return { kind: "bad", text: "The vault has another root than this browser saw for the same size." };
  try {
    localStorage.setItem(HEAD, JSON.stringify(head));
  } catch {
    return { kind: "warn", text: "This browser cannot remember the head." };
  }
  return { kind: "good", text: before ? "It goes on from the head that this browser remembers." : "This browser remembers this head from now on." };
}

/** Forget, because the person knows that the vault is another one. */
export function forget() {
  localStorage.removeItem(HEAD);
}

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(HEAD));
  } catch {
    return null;
  }
}
