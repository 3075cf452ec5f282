"""The guide's corpus: a deterministic stream of short conversations and plain texts, made from the data modules.

The same seed gives the same stream. Questions that the evaluation holds out never appear. Knows nothing of tokens, of
models or of training.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import arithmetic
import stories
from documents import PARAGRAPHS
from facts_access import ACCESS_INTENTS
from facts_catalog import CATALOG_INTENTS
from facts_keeping import KEEPING_INTENTS
from facts_models import MODEL_INTENTS
from facts_server import SERVER_INTENTS
from facts_use import USE_INTENTS
from facts_vault import VAULT_INTENTS
from grammar import Intent, expand, humanise, normal_form, question
from heldout import HELD_OUT, SINCE_0_2
from talk import (
    CITIES,
    COUNTRIES,
    EVENTS,
    JOKES,
    NOUNS,
    PEOPLE,
    POEMS,
    REFUSAL_INTENTS,
    TALK_INTENTS,
    THINGS,
    VERBS,
    WORKS,
)

NEW_INTENTS: tuple[Intent, ...] = ACCESS_INTENTS + CATALOG_INTENTS + KEEPING_INTENTS
FACT_INTENTS: tuple[Intent, ...] = SERVER_INTENTS + USE_INTENTS + VAULT_INTENTS + MODEL_INTENTS + NEW_INTENTS
INTENTS: tuple[Intent, ...] = FACT_INTENTS + TALK_INTENTS + REFUSAL_INTENTS
BY_KEY: dict[str, Intent] = {intent.key: intent for intent in INTENTS}
# What an older guide does not know, or knows otherwise: see `fresh`.
_CHANGED = ("import", "host", "cli", "cli_version", "vault_what", "folders", "settings", "env", "kernels", "offline",
            "privacy", "model", "version", "old", "can", "speed")  # fmt: skip
FRESH_INTENTS: tuple[Intent, ...] = NEW_INTENTS + tuple(BY_KEY[key] for key in _CHANGED)

SYSTEM_PROMPTS = (
    "You are a helpful assistant.", "Answer briefly.", "You are MiniVault's guide.",
    "You are a helpful, honest assistant.", "Be concise.", "Be polite.", "You are a chatbot.",
    "Answer in English.", "You are an expert.", "Help the user with MiniVault.", "You are a friendly AI.",
    "Keep it short.",
)  # fmt: skip
_PROMPTS = (
    "Hello", "What model are you?", "Tell me a story", "What is 7 x 8?", "Who are you?", "Tell me a joke", "Hi",
    "What is MiniVault?", "Good morning", "How are you?", "Write a poem", "What is 2 + 2?", "Say hello",
    "Count to ten", "Tell me about whales", "Explain gravity", "What is a vault?", "Is it cold?", "Name three birds",
    "Why is the sky blue?",
)  # fmt: skip
_WORDS = (
    "whales", "invoice", "budget", "holiday", "recipe", "python", "contract", "berlin", "password", "meeting",
    "garden", "music", "report", "birthday", "taxes", "physics", "travel", "docker", "poem", "lisbon", "coffee",
    "network", "energy", "school", "train", "summer", "letter", "bank", "horse", "window",
)  # fmt: skip
_MODELS = (
    "tinyllama", "smollm", "distilgpt2", "gpt2", "TinyLlama", "SmolLM", "llama", "mymodel", "my-model", "big",
    "smollm-135m", "smollm2", "tiny", "test", "chat", "llama3", "tinyllama-chat", "story", "writer", "helper",
    "gpt2-medium", "alpha", "nova", "assistant",
)  # fmt: skip
_FILES = (
    "backup.jsonl",
    "vault.jsonl",
    "export.jsonl",
    "records.jsonl",
    "out.jsonl",
    "dump.jsonl",
    "history.jsonl",
    "all.jsonl",
    "prompts.jsonl",
    "may.jsonl",
)
_FOLDERS = (
    "/data",
    "/srv/minivault",
    "/mnt/disk",
    "~/vault",
    "/var/lib/minivault",
    "/tmp/vault",  # noqa: S108  (a folder that people name in questions)
    "~/private",
    "./data",
    "/opt/vault",
    "/home/me/vault",
    "/mnt/usb",
    "~/office/vault",
)
_SHORT_NAMES = (
    "smollm2-135m-instruct", "smollm2-360m-instruct", "smollm2-1.7b-instruct", "tinyllama", "distilgpt2", "gpt2",
    "qwen2.5-0.5b-instruct", "qwen2.5-1.5b-instruct", "qwen3-0.6b", "qwen3-1.7b", "qwen3-4b", "gemma-3-1b-it",
    "llama-3.2-1b-instruct", "mistral-7b-instruct", "falcon-7b-instruct", "gpt-neo-1.3b", "all-minilm-l6-v2",
    "bge-small-en-v1.5", "e5-small-v2",
)  # fmt: skip
_GGUF_FILES = (
    "./model.gguf", "~/qwen.gguf", "./llama.gguf", "~/Downloads/model.gguf", "/models/tiny.gguf", "./chat.gguf",
    "./smollm.gguf", "model.gguf", "./mistral-q4.gguf",
)  # fmt: skip
_PATHS = (
    "./tinyllama",
    "~/models/smollm",
    "/models/gpt2",
    "./distilgpt2",
    "~/Downloads/model",
    "/data/llama",
    "./my-model",
    "/mnt/models/tiny",
    "~/hf/smollm2",
    "./checkpoint",
)
_PEOPLE_NAMES = (
    "Anna",
    "Ben",
    "Clara",
    "David",
    "Emma",
    "Felix",
    "Grace",
    "Hans",
    "Ida",
    "John",
    "Kim",
    "Laura",
    "Maria",
    "Nina",
    "Otto",
    "Paul",
    "Rosa",
    "Sam",
    "Tina",
    "Tom",
    "Lisa",
    "Max",
    "Peter",
    "Julia",
    "Alex",
    "Bob",
    "Alice",
    "Mike",
    "Sara",
    "Leo",
)

_LETTERS = re.compile(r"[A-Za-z]+")
_HELD_OUT_FORMS = frozenset(normal_form(item.question) for item in HELD_OUT + SINCE_0_2)


@dataclass(frozen=True)
class Turn:
    """One question and its answer; `key` names the intent, or the kind of exercise."""

    key: str
    question: str
    answer: str


@dataclass(frozen=True)
class Conversation:
    """Turns in order, with the system message that opens them, if any."""

    turns: tuple[Turn, ...]
    system: str | None = None


@dataclass(frozen=True)
class Text:
    """Plain running text without any chat format."""

    body: str


Sample = Conversation | Text


def _slots(rng: Random) -> dict[str, str]:
    def one_of(words: str) -> str:
        return rng.choice(words.split("|"))

    any_port = (
        rng.randint(1024, 9999),
        rng.randint(1024, 65535),
        rng.choice((8080, 9000, 5000, 3000, 8001, 8888, 7777, 80)),
    )
    return {
        "port": str(rng.choice(any_port)),
        "n": str(rng.choice((1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64))),
        "r": str(rng.choice((1, 2, 5, 10, 20, 30, 50, 60, 100, 120, 200, 250, 300, 500, 1000, 1200, 2000))),
        "num": str(rng.choice((rng.randint(0, 99), rng.randint(0, 9999)))),
        "dir": rng.choice(_FOLDERS), "q": rng.choice(_PROMPTS), "w": rng.choice(_WORDS), "m": rng.choice(_MODELS),
        "file": rng.choice(_FILES), "path": rng.choice(_PATHS), "joke": rng.choice(JOKES), "poem": rng.choice(POEMS),
        "city": one_of(CITIES), "country": one_of(COUNTRIES), "person": one_of(PEOPLE), "thing": one_of(THINGS),
        "event": one_of(EVENTS),
        "verb": one_of(VERBS), "noun": one_of(NOUNS), "work": one_of(WORKS),
        "hub": rng.choice(_SHORT_NAMES), "gguf": rng.choice(_GGUF_FILES),
    }  # fmt: skip


_ECHOED = ("port", "n", "r", "num", "dir", "q", "w", "m", "file", "path", "hub", "gguf")


def is_held_out(asked: str) -> bool:
    """True for a question that the evaluation keeps for itself, whatever its casing and punctuation."""
    return normal_form(asked) in _HELD_OUT_FORMS


def intent_turn(intent: Intent, rng: Random) -> Turn:
    """One turn about an intent, never with a held-out question."""
    while True:
        slots = _slots(rng)
        asked = question(intent, slots, rng)
        answer = expand(rng.choice(intent.answers), slots, rng)
        keep = {
            word for name in _ECHOED if slots[name] in asked and slots[name] in answer for word in slots[name].split()
        }
        keep |= {word.lower().strip("?.") for word in keep} | {word.strip("?.") for word in keep}
        keep |= {part.lower() for word in keep for part in _LETTERS.findall(word)}
        asked = humanise(asked, frozenset(keep), rng, closing=not keep and len(asked) < 70 and intent in FACT_INTENTS)
        if not is_held_out(asked):
            return Turn(intent.key, asked, answer)


def _follow_turn(previous: Turn, rng: Random) -> Turn | None:
    intent = BY_KEY.get(previous.key)
    if intent is None or not intent.follows:
        return None
    asked = rng.choice(list(intent.follows))
    target = BY_KEY[intent.follows[asked]]
    slots = _slots(rng)
    asked = humanise(expand(asked, slots, rng), frozenset(), rng, closing=False)
    return Turn(target.key, asked, expand(rng.choice(target.answers), slots, rng))


def _story_turn(rng: Random) -> Turn:
    if rng.random() < 0.5:
        hero = rng.choice(stories.HEROES)
        asked = expand(rng.choice(stories.HERO_ASKS), {"a_hero": stories.with_article(hero[0])}, rng).replace("  ", " ")
        return Turn("story", humanise(asked, frozenset((hero[0],)), rng, closing=False), stories.story(rng, hero))
    return Turn(
        "story",
        humanise(expand(rng.choice(stories.ASKS), {}, rng).replace("  ", " "), frozenset(), rng, closing=False),
        stories.story(rng),
    )


def _name_turns(rng: Random) -> list[Turn]:
    name = rng.choice(_PEOPLE_NAMES)
    told = expand(f"<My name is|I am|I'm|Call me|Hi, I am|Hello, my name is> {name}<.|!|>", {}, rng)
    turns = [Turn("told_name", told, f"Nice to meet you, {name}! How can I help you with MiniVault?")]
    if rng.random() < 0.6:
        asked = expand(
            "<What is my name|Do you remember my name|Who am I|What's my name|Do you know my name>?", {}, rng
        )
        turns.append(
            Turn(
                "asked_name", humanise(asked, frozenset(), rng, closing=False), f"You told me that your name is {name}."
            )
        )
    return turns


def _pick(intents: tuple[Intent, ...], rng: Random) -> Turn:
    return intent_turn(rng.choices(intents, [intent.weight for intent in intents])[0], rng)


def _any_turns(rng: Random) -> list[Turn]:
    draw = rng.random()
    if draw < 0.61:
        return [_pick(FACT_INTENTS, rng)]
    if draw < 0.69:
        return [_pick(TALK_INTENTS, rng)]
    if draw < 0.80:
        return [_pick(REFUSAL_INTENTS, rng)]
    if draw < 0.955:
        return [Turn("arithmetic", *arithmetic.sample(rng)) for _ in range(rng.choice((1, 1, 2, 3)))]
    if draw < 0.99:
        return [_story_turn(rng)]
    return _name_turns(rng)


def conversation(rng: Random) -> Conversation:
    """One conversation of a few turns; later turns often follow up on the one before."""
    return _conversation(rng.choices((1, 2, 3, 4, 5), (66, 18, 9, 5, 2))[0], rng)


def marathon(rng: Random) -> Conversation:
    """A very long conversation, more than fits the model's context."""
    return _conversation(rng.choice((10, 20, 40)), rng)


def _conversation(length: int, rng: Random) -> Conversation:
    turns = _any_turns(rng)
    while len(turns) < length:
        follow = _follow_turn(turns[-1], rng) if rng.random() < 0.65 else None
        turns += [follow] if follow else _any_turns(rng)
    kept = tuple(turn for turn in turns if not is_held_out(turn.question))
    if not kept:
        return _conversation(length, rng)
    return Conversation(kept, rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.08 else None)


def text(rng: Random) -> Text:
    """Plain text: a paragraph about MiniVault, a story, lines of sums, or questions and answers."""
    draw = rng.random()
    if draw < 0.4:
        return Text(" ".join(expand(sentence, {}, rng) for sentence in rng.choice(PARAGRAPHS)))
    if draw < 0.6:
        return Text(stories.story(rng))
    if draw < 0.7:
        return Text("\n".join(arithmetic.solution(*arithmetic.pair(rng)) for _ in range(rng.randint(2, 6))))
    turn = _pick(FACT_INTENTS, rng)
    frame = rng.choice(("Question: {q}\nAnswer: {a}", "Q: {q}\nA: {a}", "{q}\n\n{a}"))
    return Text(frame.format(q=turn.question, a=turn.answer))


def sums(rng: Random) -> Sample:
    """Many sums at once: lines of plain text, or a conversation of nothing else."""
    if rng.random() < 0.6:
        return Text("\n".join(arithmetic.solution(*arithmetic.pair(rng)) for _ in range(rng.randint(4, 10))))
    return Conversation(tuple(Turn("arithmetic", *arithmetic.sample(rng)) for _ in range(rng.randint(1, 5))))


def fresh(rng: Random) -> Conversation:
    """One or two turns about what is new or has changed, for a guide that knows the rest already."""
    turns = [_pick(FRESH_INTENTS, rng)]
    if rng.random() < 0.2:
        turns.append((_follow_turn(turns[0], rng) if rng.random() < 0.6 else None) or _pick(FRESH_INTENTS, rng))
    kept = tuple(turn for turn in turns if not is_held_out(turn.question))
    return Conversation(kept, rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.05 else None) if kept else fresh(rng)


def samples(seed: int, share_of_sums: float = 0.0, share_of_fresh: float = 0.0) -> Iterator[Sample]:
    """The endless corpus for a seed; so large a share of the samples is sums, or what is new, and nothing else."""
    rng = Random(seed)
    while True:
        if share_of_sums and rng.random() < share_of_sums:
            yield sums(rng)
        elif share_of_fresh and rng.random() < share_of_fresh:
            yield fresh(rng)
        else:
            yield text(rng) if rng.random() < 0.05 else conversation(rng)
