"""The tokenizer of a GGUF file as a Hugging Face ``tokenizer.json``, with what belongs beside it.

Two kinds: byte-level BPE (``gpt2``), whose way of splitting text the file names, and SentencePiece BPE (``llama``),
whose merges follow from its scores. Pure functions over values. Knows nothing of files or weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from minivault.errors import CheckpointCorrupt, UnsupportedCheckpoint
from minivault.models.gguf_config import Metadata
from minivault.models.json_file import shown

Json = dict[str, Any]

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
_SPACE_MARK = "\u2581"

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%(tail)s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%(tail)s|%(digits)s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TAIL = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"


def _split(pattern: str) -> Json:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _bytes(*, use_regex: bool) -> Json:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


@dataclass(frozen=True, slots=True)
class _Way:
    """One way of splitting text before byte-level BPE."""

    steps: tuple[Json, ...]
    whole_words: bool = False
    """A word that is a token is taken as such, whatever the merges say."""
    begins: bool = False
    """Texts begin with the beginning-of-text token unless the file says otherwise."""
    normalizer: Json | None = None


_GPT2 = _Way((_bytes(use_regex=True),))
_LLAMA3 = _Way((_split(_WORDS % r"\p{N}{1,3}"), _bytes(use_regex=False)), whole_words=True, begins=True)
_QWEN2 = _Way((_split(_WORDS % r"\p{N}"), _bytes(use_regex=False)), normalizer={"type": "NFC"})
_DIGITS = _Way(({"type": "Digits", "individual_digits": True}, _bytes(use_regex=True)))
_FALCON = _Way(
    (
        {"type": "Punctuation", "behavior": "Contiguous"},
        _bytes(use_regex=True),
        {"type": "Digits", "individual_digits": False},
        _split("[0-9][0-9][0-9]"),
    )
)
_TEKKEN = _Way(
    (_split(_CASED % {"tail": "", "digits": r"\p{N}"}), _bytes(use_regex=False)), whole_words=True, begins=True
)
_GPT4O = _Way((_split(_CASED % {"tail": _TAIL, "digits": r"\p{N}{1,3}"}), _bytes(use_regex=False)))

WAYS: Mapping[str, _Way] = {
    "gpt-2": _GPT2, "gpt2": _GPT2, "phi-2": _GPT2, "jina-es": _GPT2, "jina-de": _GPT2, "mpt": _GPT2, "olmo": _GPT2,
    "llama-bpe": _LLAMA3, "llama3": _LLAMA3, "llama-v3": _LLAMA3, "falcon3": _LLAMA3, "falcon-h1": _LLAMA3,
    "dbrx": _LLAMA3, "smaug-bpe": _LLAMA3,
    "qwen2": _QWEN2, "deepseek-r1-qwen": _QWEN2, "stablelm2": _QWEN2, "megrez": _QWEN2, "hunyuan": _QWEN2,
    "smollm": _DIGITS, "starcoder": _DIGITS, "refact": _DIGITS, "command-r": _DIGITS, "codeshell": _DIGITS,
    "exaone": _DIGITS,
    "falcon": _FALCON,
    "tekken": _TEKKEN,
    "gpt-4o": _GPT4O,
}  # fmt: skip
"""By the file's name for it, ``tokenizer.ggml.pre``."""

_BY_ARCHITECTURE = {"gpt2": "gpt-2", "falcon": "falcon", "qwen2": "qwen2", "qwen3": "qwen2"}
"""Where the file has no name, or ``default``: what its architecture was always made with."""

_ENDS = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<|eom_id|>",
         "<|return|>", "<EOT>", "_<EOT>")  # fmt: skip
"""Tokens that end an answer wherever they occur: files name one of them, models use several."""


@dataclass(frozen=True, slots=True)
class GgufTokenizer:
    """The files that describe a tokenizer, as JSON values."""

    tokenizer: Json
    tokenizer_config: Json
    generation_config: Json
    chat_template: str | None


def tokenizer_of(meta: Metadata) -> GgufTokenizer:
    """
    Raises:
        UnsupportedCheckpoint: a kind of tokenizer, or a way of splitting text, that is not known.
        CheckpointCorrupt: it is not sound.
    """
    vocabulary = _Vocabulary.read(meta)
    kind = meta.text("tokenizer.ggml.model")
    if kind == "gpt2":
        tokenizer, begins = _byte_level(meta, vocabulary)
    elif kind == "llama":
        tokenizer, begins = _sentencepiece(meta, vocabulary), True
    else:
        raise UnsupportedCheckpoint(f"The GGUF file's tokenizer is {shown(kind)!r}; supported: gpt2, llama")
    special = vocabulary.special(meta)
    begins = meta.flag("tokenizer.ggml.add_bos_token", begins) and "bos_token" in special
    ends = meta.flag("tokenizer.ggml.add_eos_token", False) and "eos_token" in special
    tokenizer["post_processor"] = _around(vocabulary, special, begins, ends)
    config: Json = {**special, "add_bos_token": begins, "clean_up_tokenization_spaces": False}
    template = meta.get("tokenizer.chat_template")
    return GgufTokenizer(
        tokenizer,
        {"tokenizer_class": "PreTrainedTokenizerFast", **config},
        _generation(meta, vocabulary),
        template if isinstance(template, str) and template else None,
    )


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    tokens: Sequence[str]
    kinds: Sequence[int]

    @classmethod
    def read(cls, meta: Metadata) -> _Vocabulary:
        tokens = meta.get("tokenizer.ggml.tokens")
        if not isinstance(tokens, tuple) or not tokens or not all(isinstance(token, str) for token in tokens):
            raise CheckpointCorrupt("The GGUF file has no tokenizer.ggml.tokens")
        kinds = meta.get("tokenizer.ggml.token_type")
        kinds = (NORMAL,) * len(tokens) if kinds is None else kinds
        if not isinstance(kinds, tuple) or len(kinds) != len(tokens):
            raise CheckpointCorrupt("tokenizer.ggml.token_type of the GGUF file must have one value for each token")
        return cls(tokens, kinds)

    def ids(self) -> dict[str, int]:
        """Of a text that occurs twice, the first counts."""
        found: dict[str, int] = {}
        for token_id, token in enumerate(self.tokens):
            found.setdefault(token, token_id)
        return found

    def added(self, *, strips_after: bool = False) -> list[Json]:
        """Tokens that are found in a text before anything else: control tokens, and those of the user."""
        return [
            {
                "id": token_id,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": strips_after and kind == CONTROL and token.startswith("<|"),
                "normalized": False,
                "special": kind != USER_DEFINED,
            }
            for token_id, (token, kind) in enumerate(zip(self.tokens, self.kinds, strict=True))
            if kind in (CONTROL, USER_DEFINED, UNKNOWN) and token
        ]

    def special(self, meta: Metadata) -> dict[str, str]:
        names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
        found = {}
        for name, theirs in names.items():
            token_id = meta.get(f"tokenizer.ggml.{theirs}_token_id")
            if type(token_id) is int and 0 <= token_id < len(self.tokens):
                found[name] = self.tokens[token_id]
        return found


def _byte_level(meta: Metadata, vocabulary: _Vocabulary) -> tuple[Json, bool]:
    name = meta.text("tokenizer.ggml.pre", "default")
    name = _BY_ARCHITECTURE.get(meta.architecture, "gpt-2") if name == "default" else name
    way = WAYS.get(name)
    if way is None:
        raise UnsupportedCheckpoint(
            f"The GGUF file's way of splitting text is {shown(name)!r}; supported: {', '.join(WAYS)}"
        )
    merges = meta.get("tokenizer.ggml.merges")
    if not isinstance(merges, tuple) or not all(isinstance(merge, str) for merge in merges):
        raise CheckpointCorrupt("The GGUF file has no tokenizer.ggml.merges")
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": way.whole_words,
        "vocab": vocabulary.ids(),
        "merges": [_merge(merge) for merge in merges],
    }
    steps: Json = way.steps[0] if len(way.steps) == 1 else {"type": "Sequence", "pretokenizers": list(way.steps)}
    decoder = _bytes(use_regex=True)
    return _tokenizer(vocabulary.added(), way.normalizer, steps, decoder, model), way.begins


def _merge(merge: str) -> list[str]:
    # A token may begin with a space, so the first place that can part two is the second.
    place = merge.find(" ", 1)
    if place < 1 or place == len(merge) - 1:
        raise CheckpointCorrupt("tokenizer.ggml.merges of the GGUF file must have two tokens each")
    return [merge[:place], merge[place + 1 :]]


def _sentencepiece(meta: Metadata, vocabulary: _Vocabulary) -> Json:
    scores = meta.get("tokenizer.ggml.scores")
    if not isinstance(scores, tuple) or len(scores) != len(vocabulary.tokens):
        raise CheckpointCorrupt("tokenizer.ggml.scores of the GGUF file must have one value for each token")
    unknown = next((t for t, k in zip(vocabulary.tokens, vocabulary.kinds, strict=True) if k == UNKNOWN), None)
    ids = vocabulary.ids()
    bytes_there = all(f"<0x{byte:02X}>" in ids for byte in range(256))
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": unknown,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": bytes_there,
        "ignore_merges": False,
        "vocab": ids,
        "merges": _merges(vocabulary, scores),
    }
    prefixed = meta.flag("tokenizer.ggml.add_space_prefix", True)
    mark: Json = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE_MARK}
    normalizer = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": _SPACE_MARK}, mark]}
    back: Json = {"type": "Replace", "pattern": {"String": _SPACE_MARK}, "content": " "}
    steps: list[Json] = [back, {"type": "ByteFallback"}, {"type": "Fuse"}]
    if prefixed:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    # Phi-3's control tokens take the white space after them along, which the file does not say.
    added = vocabulary.added(strips_after=meta.architecture == "phi3")
    decoder: Json = {"type": "Sequence", "decoders": steps}
    return _tokenizer(added, normalizer if prefixed else mark, None, decoder, model)


def _merges(vocabulary: _Vocabulary, scores: Sequence[float]) -> list[list[str]]:
    """Every way to make a token of two, by the token's score: SentencePiece joins the best-scored pair first.

    Raises:
        CheckpointCorrupt: there are far more than any text could need.
    """
    rank = {
        token: score
        for token, kind, score in zip(vocabulary.tokens, vocabulary.kinds, scores, strict=True)
        if kind in (NORMAL, UNUSED, USER_DEFINED)
    }
    most = _FEW_MERGES + _MERGES_A_TOKEN * len(rank)
    found = list(islice(_ways(rank), most + 1))
    if len(found) > most:
        raise CheckpointCorrupt(f"The tokens of the GGUF file can be put together in more than {most} ways")
    found.sort(key=lambda merge: merge[:2])
    return [[left, right] for _, _, left, right in found]


def _ways(rank: Mapping[str, float]) -> Iterator[tuple[float, int, str, str]]:
    """Each with what it is sorted by, of equal scores the shorter left part first."""
    for token, score in rank.items():
        if len(token) > _LONGEST:
            continue
        for place in range(1, len(token)):
            if (left := token[:place]) in rank and (right := token[place:]) in rank:
                yield -score, place, left, right


_LONGEST = 512
"""Characters of a token that is put together from others; pieces of real vocabularies have under 100."""
_MERGES_A_TOKEN = 8
"""Llama's vocabulary has 1.9 for each token."""
_FEW_MERGES = 100_000
"""So many are fine whatever the vocabulary."""


def _tokenizer(added: list[Json], normalizer: Json | None, splitter: Json | None, decoder: Json, model: Json) -> Json:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": splitter,
        "post_processor": None,
        "decoder": decoder,
        "model": model,
    }


def _around(vocabulary: _Vocabulary, special: Mapping[str, str], begins: bool, ends: bool) -> Json | None:
    names = [special["bos_token"]] if begins else [], [special["eos_token"]] if ends else []
    if not any(names):
        return None
    ids = vocabulary.ids()
    before = [{"SpecialToken": {"id": name, "type_id": 0}} for name in names[0]]
    after = [{"SpecialToken": {"id": name, "type_id": 0}} for name in names[1]]
    return {
        "type": "TemplateProcessing",
        "single": [*before, {"Sequence": {"id": "A", "type_id": 0}}, *after],
        "pair": [*before, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}, *after],
        "special_tokens": {
            name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in {*names[0], *names[1]}
        },
    }  # fmt: skip


def _generation(meta: Metadata, vocabulary: _Vocabulary) -> Json:
    ends = [meta.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    marked = {token: place for place, token in enumerate(vocabulary.tokens) if vocabulary.kinds[place] != NORMAL}
    ends += [marked.get(name) for name in _ENDS]
    listed = [place for place in dict.fromkeys(ends) if type(place) is int and 0 <= place < len(vocabulary.tokens)]
    found: Json = {"eos_token_id": listed} if listed else {}
    bos = meta.get("tokenizer.ggml.bos_token_id")
    return found | ({"bos_token_id": bos} if type(bos) is int else {})
