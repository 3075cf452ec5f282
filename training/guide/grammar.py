"""Small random grammar for the corpus: `<a|b>` alternatives, `%slot%` values, and human noise.

Knows how to turn a pattern into text with a given random source. Knows nothing of MiniVault, of tokens or of training.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, field
from random import Random

_ALTERNATIVES = re.compile(r"<([^<>]*)>")
_SLOT = re.compile(r"%([a-z_]+)%")
_WORD = re.compile(r"[A-Za-z]{4,}")
_NEIGHBOURS = {
    "a": "s", "b": "v", "c": "x", "d": "f", "e": "r", "f": "g", "g": "h", "h": "j", "i": "o", "j": "k", "k": "l",
    "l": "k", "m": "n", "n": "m", "o": "p", "p": "o", "q": "w", "r": "t", "s": "d", "t": "y", "u": "i", "v": "b",
    "w": "e", "x": "c", "y": "u", "z": "x",
}  # fmt: skip


@dataclass(frozen=True)
class Intent:
    """One thing that can be asked: verb phrases, whole questions, the answers, and what people ask next.

    `acts` are verb phrases that complete "How do I ..."; `asks` are whole questions. `follows` maps short follow-up
    questions to the key of the intent that answers them.
    """

    key: str
    topic: str
    answers: tuple[str, ...]
    acts: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    follows: dict[str, str] = field(default_factory=dict)
    weight: float = 1.0


HOW = (
    ("How do I", 10), ("How can I", 7), ("How do you", 3), ("How to", 5), ("How would I", 2), ("How should I", 2),
    ("How does one", 1), ("How might I", 1), ("What is the command to", 3), ("What's the command to", 2),
    ("Which command do I use to", 2), ("Which command should I use to", 1), ("What do I type to", 2),
    ("What do I run to", 2), ("What should I run to", 1), ("Tell me how to", 3), ("Show me how to", 3),
    ("Explain how to", 2), ("Can you tell me how to", 2), ("Could you show me how to", 1), ("I want to", 4),
    ("I would like to", 1), ("I'd like to", 1), ("I need to", 2), ("I'm trying to", 1), ("Is there a way to", 2),
    ("Is it possible to", 1), ("Can I", 3), ("What must I do to", 1), ("What is the best way to", 1),
    ("Please explain how to", 1), ("What's the easiest way to", 1), ("Do you know how to", 1), ("Help me", 1),
    ("What do I have to do to", 1), ("What is needed to", 1), ("Give me the command to", 1),
    ("How am I supposed to", 1),
    ("What steps do I follow to", 1), ("How could I", 1), ("I don't know how to", 1), ("", 4),
    ("I wonder how to", 1), ("Any idea how to", 1), ("What would I do to", 1), ("How exactly do I", 1),
    ("Could you explain how to", 1),
    ("Let me know how to", 1), ("I have to", 1), ("We want to", 1), ("I wish to", 1), ("With which command can I", 1),
    ("Which command lets me", 1), ("I'm looking for a way to", 1), ("I forgot how to", 1),
    ("What command do I need to", 1),
    ("Please help me", 1), ("How do we", 1), ("How can one", 1), ("How can we", 1), ("May I", 1), ("Could I", 1),
    ("Am I able to", 1),
    ("What do I enter to", 1), ("What can I do to", 1), ("Let me", 1), ("I'd love to", 1), ("Where can I", 1),
    ("Where do I", 1),
    ("Would it be possible to", 1), ("Does it let me", 1), ("What do I need to", 1), ("Is there some way to", 1),
    ("I should", 1), ("It would be good to", 1), ("How would one", 1),
)  # fmt: skip
_HOW_WORDS = [words for words, _ in HOW]
_HOW_WEIGHTS = [weight for _, weight in HOW]
_STATEMENTS = ("Let", "It ", "We ", "Tell", "Show", "Explain", "I ", "I'", "Please", "Help", "Give")

OPENINGS = (
    "Hi, ", "Hello, ", "Hey, ", "Hi! ", "Hello! ", "Please, ", "Quick question: ", "One question: ", "So, ", "Ok, ",
    "OK, ", "Well, ", "And ", "Sorry, ", "Excuse me, ", "Good morning, ", "Hey there, ", "Thanks. ", "Now ",
    "Question: ",
    "Next: ", "I am new here. ", "I just installed MiniVault. ", "Another question: ", "Hmm, ",
)  # fmt: skip

CLOSINGS = (" please", ", please", " now", " here", " exactly", " again", " quickly", " today", " on my machine",
            " on Linux", " in MiniVault", " with MiniVault", " in minivault", " for minivault")  # fmt: skip


def expand(pattern: str, slots: dict[str, str], rng: Random) -> str:
    """Choose among `<a|b>` alternatives (they may nest) and fill in `%slot%` values."""
    while (match := _ALTERNATIVES.search(pattern)) is not None:
        pattern = pattern[: match.start()] + rng.choice(match.group(1).split("|")) + pattern[match.end() :]
        pattern = _SLOT.sub(lambda slot: slots.get(slot.group(1), slot.group(0)), pattern)
    return _SLOT.sub(lambda slot: slots[slot.group(1)], pattern)


def _tidy(text: str) -> str:
    return re.sub(r" (?=[.!?]*$)", "", re.sub(r"  +", " ", text).strip())


def question(intent: Intent, slots: dict[str, str], rng: Random) -> str:
    """One clean question for an intent, before any noise."""
    acts = sum(pattern.count("|") // 2 + 1 for pattern in intent.acts)
    asks = sum(pattern.count("|") // 2 + 1 for pattern in intent.asks)
    if rng.random() * (acts + asks) >= acts:
        return _tidy(expand(rng.choice(intent.asks), slots, rng))
    how = rng.choices(_HOW_WORDS, _HOW_WEIGHTS)[0]
    text = _tidy(f"{how} {expand(rng.choice(intent.acts), slots, rng)}")
    text = text[0].upper() + text[1:]
    if how == "":
        return text
    return text + ("." if how.startswith(_STATEMENTS) else "?")


def _typo(word: str, rng: Random) -> str:
    at = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(5)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[:at] + word[at] + word[at:]
    if kind == 3:
        return word[:at] + _NEIGHBOURS.get(word[at].lower(), "e") + word[at + 1 :]
    return word[:-1]


def _misspell(text: str, keep: frozenset[str], rng: Random) -> str:
    """Break one or two longer words, but never a word that the answer has to repeat."""
    for _ in range(rng.choice((1, 1, 2))):
        words = [match for match in _WORD.finditer(text) if match.group(0).lower() not in keep]
        if not words:
            return text
        match = rng.choice(words)
        text = text[: match.start()] + _typo(match.group(0), rng) + text[match.end() :]
    return text


def humanise(text: str, keep: frozenset[str], rng: Random, closing: bool = True) -> str:
    """Write a clean question the way people do: openings, lower case, lost punctuation, typing mistakes.

    `keep` holds lower-case words that stay exact because the answer repeats them.
    """
    if rng.random() < 0.13:
        opening = rng.choice(OPENINGS)
        text = opening + (text if text.startswith(("I ", "I'")) else text[0].lower() + text[1:])
    if closing and rng.random() < 0.08:
        body = text.rstrip("?.!")
        text = body + rng.choice(CLOSINGS) + text[len(body) :]
    if rng.random() < 0.17:
        text = _misspell(text, keep, rng)
    if rng.random() < 0.33 and not keep & set(re.findall(r"[A-Z]\w+", text)):
        text = text.lower()
    draw = rng.random()
    if draw < 0.38:
        text = text.rstrip("?.!")
    elif draw < 0.41:
        text = text.rstrip("?.!") + rng.choice(
            ("??", "?!", " ?", "...", "!", " pls", " plz", ", thanks", "? Thanks!", "? Thank you.")
        )
    if rng.random() < 0.01:
        text = text.upper() if not keep else text
    return text


def normal_form(text: str) -> str:
    """A question without casing, punctuation and doubled blanks: two equal forms are the same question."""
    kept = "".join(
        " " if char in string.punctuation.replace("+", "").replace("*", "").replace("-", "") else char
        for char in text.lower()
    )
    return " ".join(kept.split())
