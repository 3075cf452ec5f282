"""The guide's tokenizer and chat format: a byte-level BPE trained on the corpus, and conversations as token ids.

Knows how samples become ids and which of them are learnt. Knows nothing of networks or optimisers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from corpus import Conversation, Sample, Text, samples
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_TEXT, MESSAGE_START, MESSAGE_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, MESSAGE_START, MESSAGE_END)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TOKENIZER_SEED, TOKENIZER_SAMPLES = 7, 60_000


@dataclass(frozen=True)
class Encoded:
    """Token ids of one sample; `learnt[i]` says whether the model is trained to produce `ids[i]`."""

    ids: list[int]
    learnt: list[bool]


def chat_prompt(question: str, system: str | None = None) -> str:
    """A single question in chat format, ready for the answer."""
    opening = f"{MESSAGE_START}system\n{system}{MESSAGE_END}\n" if system else ""
    return f"{opening}{MESSAGE_START}user\n{question}{MESSAGE_END}\n{MESSAGE_START}assistant\n"


def _pieces(sample: Sample) -> list[tuple[str, bool]]:
    if isinstance(sample, Text):
        return [(sample.body + END_OF_TEXT, True)]
    pieces: list[tuple[str, bool]] = []
    for number, turn in enumerate(sample.turns):
        before = "\n" if number else ""
        pieces.append((before + chat_prompt(turn.question, None if number else sample.system), False))
        pieces.append((turn.answer + MESSAGE_END, True))
    return pieces


def train_tokenizer(vocab_size: int) -> Tokenizer:
    """Byte-level BPE with single digits and the three special tokens; the same corpus gives the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(islice(samples(TOKENIZER_SEED), TOKENIZER_SAMPLES)), trainer)
    return tokenizer


def _texts(stream: Iterable[Sample]) -> Iterable[str]:
    for sample in stream:
        if isinstance(sample, Conversation):
            yield from (part for turn in sample.turns for part in (turn.question, turn.answer))
            yield f"system\n{sample.system or ''}\nuser\nassistant\n"
        else:
            yield sample.body


def encode(tokenizer: Tokenizer, sample: Sample, limit: int) -> Encoded:
    """Ids of a sample; a conversation longer than `limit` tokens is cut after a whole turn, a text anywhere."""
    pieces = _pieces(sample)
    encodings = tokenizer.encode_batch([piece for piece, _ in pieces], add_special_tokens=False)
    ids: list[int] = []
    learnt: list[bool] = []
    for at, (encoding, (_, answer)) in enumerate(zip(encodings, pieces, strict=True)):
        turn_length = len(encoding.ids) if answer else len(encoding.ids) + len(encodings[at + 1].ids)
        if len(ids) + turn_length > limit and not answer:
            break
        ids += encoding.ids
        learnt += [answer] * len(encoding.ids)
    return Encoded(ids[:limit], learnt[:limit])
