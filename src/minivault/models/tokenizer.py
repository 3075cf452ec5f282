"""Text to tokens and back, as the checkpoint's own files say. The one door to the ``tokenizers`` library.

Knows nothing of weights, engines, chat templates or requests. Safe to share between threads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from minivault.errors import CheckpointCorrupt, InvalidRequest, UnsupportedCheckpoint
from minivault.models.checkpoint import files_digest
from minivault.models.decoding import (
    BytesDecoder,
    IncrementalDecoder,
    PairwiseDecoder,
    TokenBytes,
    token_bytes_rule,
)
from minivault.models.json_file import read_bounded, read_json_object, read_optional_json_object

TOKENIZER_FILES = (
    "config.json", "generation_config.json", "merges.txt", "special_tokens_map.json", "tokenizer.json",
    "tokenizer_config.json", "vocab.json",
)  # fmt: skip
"""What can decide how text becomes tokens and where an answer ends; the digest covers those that exist."""

_NOTHING = "(?!)"
_WORD = "a"
"""Any text that every tokenizer has tokens for."""
LOCK_FREE = 4096
"""Characters from which on a text is tokenised without Python's lock."""
SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(slots=True)
class Tokenizer:
    """A checkpoint's tokenizer. Made by :meth:`load`."""

    digest: str
    """``sha256:...`` over the files that it was read from."""
    vocab_size: int
    """Tokens it knows, added ones included; the model's embedding may have more rows."""
    eos_token_ids: tuple[int, ...]
    """Tokens that end an answer: all that generation_config.json, config.json and tokenizer_config.json name."""
    special_tokens: Mapping[str, str]
    """``bos_token`` and so on, to their text, as chat templates want them."""
    _library: tokenizers.Tokenizer
    _rule: TokenBytes | None
    _special_ids: frozenset[int]
    _bos_to_add: int | None
    _embedding_rows: int | None
    _bytes: dict[int, bytes] = field(default_factory=dict)
    _specials: re.Pattern[str] | None = None
    _plain: tokenizers.Tokenizer | None = None
    """To it special tokens are words. Made when it is first needed: most prompts spell none out."""

    @classmethod
    def load(cls, folder: Path, embedding_rows: int | None = None) -> Self:
        """Read ``tokenizer.json``, or ``vocab.json`` and ``merges.txt`` of old GPT-2 folders.

        ``embedding_rows``: how many tokens the model has; a tokenizer may know some that its model does not.

        Raises:
            CheckpointCorrupt: the files are missing, not sound, or contradict each other.
            UnsupportedCheckpoint: the folder has a tokenizer in another format only.
        """
        library = _load_library(folder)
        config = read_optional_json_object(folder / "tokenizer_config.json")
        special = _special_tokens(read_optional_json_object(folder / "special_tokens_map.json") | config)
        ids = {name: library.token_to_id(text) for name, text in special.items()}
        flagged = {token_id for token_id, token in library.get_added_tokens_decoder().items() if token.special}
        rule = token_bytes_rule(library.decoder.__getstate__() if library.decoder is not None else None)
        return cls(
            digest=files_digest(folder, tuple(name for name in TOKENIZER_FILES if (folder / name).is_file())),
            vocab_size=library.get_vocab_size(with_added_tokens=True),
            eos_token_ids=_eos_token_ids(folder, ids.get("eos_token")),
            special_tokens=special,
            _library=library,
            _rule=rule,
            _special_ids=frozenset(flagged | {token_id for token_id in ids.values() if token_id is not None}),
            _bos_to_add=ids.get("bos_token") if config.get("add_bos_token") is True else None,
            _embedding_rows=embedding_rows,
        )

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """The tokens of ``text``. Special tokens that it spells out are taken as such; see ``encode_parts``.

        ``add_special_tokens``: also those that the checkpoint puts around a bare prompt, such as its beginning of text.

        Raises:
            InvalidRequest: the text is not Unicode (lone surrogates), or has a token that the model lacks.
        """
        try:
            ids = _ids(self._library, text, add_special_tokens)
        except (UnicodeEncodeError, TypeError):  # the library's two words for a text that is not Unicode
            raise InvalidRequest("text must be valid Unicode, without lone surrogates", param="prompt") from None
        return self._known(self._begun(ids) if add_special_tokens else ids)

    def _begun(self, ids: list[int]) -> list[int]:
        """With the beginning of text that the configuration asks for, where the post-processor has put none."""
        return ids if self._bos_to_add is None or ids[:1] == [self._bos_to_add] else [self._bos_to_add, *ids]

    def _known(self, ids: list[int]) -> list[int]:
        if self._embedding_rows is not None and ids and max(ids) >= self._embedding_rows:
            raise InvalidRequest("text has a token that this model was not made for", param="prompt")
        return ids

    @property
    def specials(self) -> re.Pattern[str] | None:
        """What every special token looks like, the longest first; ``None``: there are none."""
        if self._specials is None:
            texts = [token.content for token in self._library.get_added_tokens_decoder().values() if token.special]
            ordered = sorted(filter(None, texts), key=len, reverse=True)
            self._specials = re.compile("|".join(map(re.escape, ordered)) or _NOTHING)
        return None if self._specials.pattern == _NOTHING else self._specials

    def encode_parts(self, parts: Sequence[tuple[str, bool]], add_special_tokens: bool) -> list[int]:
        """The tokens of texts in a row; of each, whether it is a special token or words that are never one.

        Raises:
            InvalidRequest: as :meth:`encode`.
        """
        if self._plain is None:
            plain = tokenizers.Tokenizer.from_str(self._library.to_str())
            plain.model = self._library.model
            plain.encode_special_tokens = True
            self._plain = plain
        added = {token.content: (key, token) for key, token in self._library.get_added_tokens_decoder().items()}
        ids, end = self._around() if add_special_tokens else ([], [])
        before: AddedToken | None = None
        for place, (text, special) in enumerate(parts):
            if special:
                token_id, before = added[text]
                ids.append(token_id)
                continue
            after = added[parts[place + 1][0]][1] if place + 1 < len(parts) else None
            ids += self._encode_words(text, before, after)
            before = None
        return self._known(ids + end)

    def _around(self) -> tuple[list[int], list[int]]:
        """What the checkpoint puts before a bare prompt, and after it."""
        found = self._library.encode(_WORD)
        of_words = [place for place, added in enumerate(found.special_tokens_mask) if not added] or [len(found.ids)]
        return self._begun(found.ids[: of_words[0]]), found.ids[of_words[-1] + 1 :]

    def _encode_words(self, text: str, before: AddedToken | None, after: AddedToken | None) -> list[int]:
        """Between two special tokens, which may take the spaces beside them for themselves."""
        text = text.lstrip() if before is not None and before.rstrip else text
        text = text.rstrip() if after is not None and after.lstrip else text
        assert self._plain is not None  # noqa: S101 - made by the only caller
        try:
            return _ids(self._plain, text, add_special_tokens=False)
        except (UnicodeEncodeError, TypeError):
            raise InvalidRequest("text must be valid Unicode, without lone surrogates", param="prompt") from None

    def decoder(self) -> IncrementalDecoder:
        """A fresh decoder for one answer. Special tokens give no text."""
        if self._rule is not None:
            return BytesDecoder(self.token_bytes)
        return PairwiseDecoder(lambda ids: self._library.decode(ids), self._special_ids.__contains__)

    def decode(self, ids: list[int]) -> str:
        """The text of an answer of these tokens."""
        decoder = self.decoder()
        return decoder.push(ids) + decoder.finish()

    def token_bytes(self, token_id: int, /) -> bytes:
        """What one token adds to a text: nothing if it is special or unknown; maybe a part of a character."""
        found = self._bytes.get(token_id)
        if found is None:
            found = self._bytes[token_id] = self._read_bytes(token_id)
        return found

    def token_text(self, token_id: int) -> str:
        """One token as it may be shown beside others: special tokens by name, parts of characters as U+FFFD."""
        if token_id in self._special_ids:
            return self._library.id_to_token(token_id) or ""
        return self.token_bytes(token_id).decode("utf-8", "replace")

    def to_json(self) -> str:
        """The tokenizer as a ``tokenizer.json``."""
        return self._library.to_str()

    def is_special(self, token_id: int) -> bool:
        """Whether the token gives no text."""
        return token_id in self._special_ids

    def _read_bytes(self, token_id: int) -> bytes:
        token = self._library.id_to_token(token_id) if 0 <= token_id < 1 << 32 else None
        if token is None or token_id in self._special_ids:
            return b""
        if self._rule is None:
            return self._library.decode([token_id]).encode("utf-8", "replace")
        return self._rule(token)


def _load_library(folder: Path) -> tokenizers.Tokenizer:
    if (folder / "tokenizer.json").exists():
        data = read_bounded(folder / "tokenizer.json")
        library = _guarded("tokenizer.json", lambda: tokenizers.Tokenizer.from_buffer(data))
    elif (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        library = _load_gpt2(folder)
    elif (folder / "tokenizer.model").exists():
        raise UnsupportedCheckpoint(
            "The folder has tokenizer.model only; supported: tokenizer.json, or vocab.json with merges.txt. "
            "Transformers' AutoTokenizer.from_pretrained(...).save_pretrained(...) writes tokenizer.json from it"
        )
    else:
        raise CheckpointCorrupt("The folder has neither tokenizer.json nor vocab.json with merges.txt")
    library.no_truncation()
    library.no_padding()
    _remember_no_words(library)
    return library


def _remember_no_words(library: tokenizers.Tokenizer) -> None:
    """Of each BPE model, tokenizers 0.23 keeps 10,000 words of what it was given, for each thread and until that ends:
    words of prompts, and for good once the model is unloaded. To look them up would save a fifth of the time: 2 us of a
    short prompt, 3 ms of 45,000 characters."""
    if isinstance(library.model, (models.BPE, models.Unigram)):
        library.model._resize_cache(0)


def _ids(library: tokenizers.Tokenizer, text: str, add_special_tokens: bool) -> list[int]:
    """The tokens of a text. A long one is worked on without Python's lock, which ``encode`` holds to its end: others go
    on meanwhile. Short ones are not worth the library's own threads."""
    if len(text) < LOCK_FREE:
        return library.encode(text, add_special_tokens=add_special_tokens).ids
    return library.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids


def _load_gpt2(folder: Path) -> tokenizers.Tokenizer:
    vocab = read_json_object(folder / "vocab.json")
    if not vocab or sorted(map(_id_or_minus_one, vocab.values())) != list(range(len(vocab))):
        raise CheckpointCorrupt(f"vocab.json must number its {len(vocab)} tokens from 0 on, each once")
    try:
        lines = read_bounded(folder / "merges.txt").decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise CheckpointCorrupt("merges.txt is not UTF-8") from None
    pairs = [line.strip().partition(" ") for line in lines if line.strip() and not line.startswith("#version")]
    if any(not second or " " in second for _, _, second in pairs):
        raise CheckpointCorrupt("merges.txt must have two tokens on each line")
    merges = [(first, second) for first, _, second in pairs]
    library = _guarded("merges.txt", lambda: tokenizers.Tokenizer(models.BPE(vocab, merges)))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    if "<|endoftext|>" in vocab:
        library.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=False)])
    return library


def _id_or_minus_one(value: Any) -> int:
    return value if type(value) is int else -1


def _guarded(what: str, make: Callable[[], tokenizers.Tokenizer]) -> tokenizers.Tokenizer:
    """The library raises plain ``Exception``, and its panics are no ``Exception`` at all."""
    try:
        return make()
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise CheckpointCorrupt(f"{what} is not a sound tokenizer") from None
        raise


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in SPECIAL_NAMES:
        value = config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str) and text:
            found[name] = text
    return found


def _eos_token_ids(folder: Path, named: int | None) -> tuple[int, ...]:
    ids: list[int] = []
    for name in ("generation_config.json", "config.json"):
        value = read_optional_json_object(folder / name).get("eos_token_id")
        listed = value if isinstance(value, list) else [] if value is None else [value]
        if not all(type(token_id) is int and 0 <= token_id < 1 << 31 for token_id in listed):
            raise CheckpointCorrupt(f"{name}: eos_token_id must be a token id or a list of token ids")
        ids += listed
    return tuple(dict.fromkeys([*ids, *([] if named is None else [named])]))
