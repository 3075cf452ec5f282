"""Text becomes the checkpoint's own tokens, and tokens become text that no cut can change."""

from __future__ import annotations

import ctypes
import json
import platform
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from minivault.errors import CheckpointCorrupt, InvalidRequest, UnsupportedCheckpoint
from minivault.models.tokenizer import Tokenizer
from tests.models.folders import copy_of
from tests.oracle.golden import DATA

BYTE_LEVEL = Tokenizer.load(DATA / "llama-gqa")
SENTENCEPIECE = Tokenizer.load(DATA / "llama-tied-bias")
KINDS = [BYTE_LEVEL, SENTENCEPIECE]
KIND_NAMES = ["byte-level", "sentencepiece"]


def library(case: str) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(DATA / case / "tokenizer.json"))


def word_pieces(folder: Path) -> Tokenizer:
    """A tokenizer whose tokens depend on their neighbours: the generic case."""
    words = ["[UNK]", "[SEP]", "the", "dog", "##s", "##gy", ",", "a", "né", "##é"]
    made = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.decoder = tokenizers.decoders.WordPiece(cleanup=False)
    made.add_special_tokens(["[SEP]"])
    made.save(str(folder / "tokenizer.json"))
    return Tokenizer.load(folder)


def pieces(tokenizer: Tokenizer, ids: list[int], cuts: list[int]) -> list[str]:
    decoder = tokenizer.decoder()
    places = [0, *sorted(cut % (len(ids) + 1) for cut in cuts), len(ids)]
    found = [decoder.push(ids[start:end]) for start, end in pairwise(places)]
    return [*found, decoder.finish()]


class _HeapUse(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in ("arena", "b", "c", "d", "mapped", "f", "g", "used", "i", "j"))


def heap_in_use() -> int:
    """Bytes."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = _HeapUse
    found = ask()
    return int(found.used + found.mapped)


id_lists = st.lists(st.integers(0, 335), max_size=40)


@pytest.mark.parametrize("tokenizer", KINDS, ids=KIND_NAMES)
@given(ids=id_lists, cuts=st.lists(st.integers(0, 40), max_size=6))
def test_pieces_joined_are_the_whole_however_the_tokens_are_cut(
    tokenizer: Tokenizer, ids: list[int], cuts: list[int]
) -> None:
    assert "".join(pieces(tokenizer, ids, cuts)) == tokenizer.decode(ids)


@pytest.mark.parametrize("tokenizer", KINDS, ids=KIND_NAMES)
@given(text=st.text(max_size=40))
def test_no_piece_ends_inside_a_character(tokenizer: Tokenizer, text: str) -> None:
    decoder = tokenizer.decoder()
    shown = ""
    for token_id in tokenizer.encode(text, add_special_tokens=False):
        shown += decoder.push([token_id])
        assert (" " + text).startswith(shown) or text.startswith(shown)
    assert decoder.finish() == ""


@pytest.mark.parametrize("tokenizer", KINDS, ids=KIND_NAMES)
@given(ids=id_lists)
def test_the_text_is_the_decoding_of_the_tokens_bytes(tokenizer: Tokenizer, ids: list[int]) -> None:
    assert tokenizer.decode(ids) == b"".join(map(tokenizer.token_bytes, ids)).decode("utf-8", "replace")


@given(ids=st.lists(st.integers(0, 319), max_size=40))
def test_byte_level_text_is_the_librarys_for_any_tokens(ids: list[int]) -> None:
    assert BYTE_LEVEL.decode(ids) == library("llama-gqa").decode(ids, skip_special_tokens=True)


@given(answer=st.text(max_size=30))
def test_sentencepiece_text_is_the_librarys_after_a_prompt(answer: str) -> None:
    theirs = library("llama-tied-bias")
    prompt = SENTENCEPIECE.encode("the dog", add_special_tokens=True)
    ids = SENTENCEPIECE.encode(answer, add_special_tokens=False)
    whole, before = theirs.decode(prompt + ids), theirs.decode(prompt)
    assert before + SENTENCEPIECE.decode(ids) == whole


@given(text=st.text(max_size=60))
def test_byte_level_text_comes_back_from_its_tokens(text: str) -> None:
    assert BYTE_LEVEL.decode(BYTE_LEVEL.encode(text, add_special_tokens=False)) == text


def test_an_answer_that_ends_inside_a_character_ends_with_a_replacement_character() -> None:
    ids = BYTE_LEVEL.encode("né", add_special_tokens=False)[:-1]
    decoder = BYTE_LEVEL.decoder()
    assert (decoder.push(ids), decoder.finish()) == ("n", "\N{REPLACEMENT CHARACTER}")


def test_special_tokens_give_no_text_and_do_not_break_a_character() -> None:
    first, second = BYTE_LEVEL.encode("é", add_special_tokens=False)
    assert BYTE_LEVEL.decode([0, first, 1, second, 1]) == "é"
    assert BYTE_LEVEL.token_text(1) == "<|end|>"
    assert BYTE_LEVEL.is_special(1)


def test_tokens_that_the_tokenizer_does_not_know_give_no_text() -> None:
    assert BYTE_LEVEL.decode([10**6, -1, 1 << 40]) == ""


def test_a_beginning_of_text_is_added_only_where_asked() -> None:
    assert SENTENCEPIECE.encode("dog", add_special_tokens=True)[0] == 1
    assert SENTENCEPIECE.encode("dog", add_special_tokens=False)[0] != 1


def test_add_bos_token_is_honoured_once(tmp_path: Path) -> None:
    for case, bos in (("llama-gqa", 0), ("llama-tied-bias", 1)):
        folder = copy_of(case, tmp_path / case)
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"add_bos_token": True}))
        ids = Tokenizer.load(folder).encode("dog", add_special_tokens=True)
        assert (ids[0], ids.count(bos)) == (bos, 1)


@pytest.mark.parametrize("size", [1, 5000])
def test_a_lone_surrogate_is_refused(size: int) -> None:
    with pytest.raises(InvalidRequest, match="surrogates"):
        BYTE_LEVEL.encode("a" * size + "\ud800", add_special_tokens=False)


@pytest.mark.parametrize("case", ["llama-gqa", "llama-tied-bias"])
@pytest.mark.parametrize("text", ["a é\n<s>", "  \u00a0😀", "word, "])
@pytest.mark.parametrize("special", [False, True])
def test_long_texts_have_the_tokens_of_the_librarys_plain_way(case: str, text: str, special: bool) -> None:
    long = text * 2000
    assert (
        Tokenizer.load(DATA / case).encode(long, special) == library(case).encode(long, add_special_tokens=special).ids
    )


def test_a_token_beyond_the_embedding_is_refused() -> None:
    small = Tokenizer.load(DATA / "llama-gqa", embedding_rows=100)
    assert small.encode("!", add_special_tokens=False)
    with pytest.raises(InvalidRequest, match="not made for"):
        small.encode("é", add_special_tokens=False)


def test_ends_of_sequence_are_gathered_from_every_file(tmp_path: Path) -> None:
    folder = copy_of("llama-gqa", tmp_path / "model", {"eos_token_id": 7})
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 7]}')
    assert Tokenizer.load(folder).eos_token_ids == (5, 7, 1)


@pytest.mark.parametrize("value", ["2", [None], True, -1, [[1]], 1.5])
def test_an_end_of_sequence_that_is_no_token_id_is_corrupt(tmp_path: Path, value: Any) -> None:
    folder = copy_of("llama-gqa", tmp_path / "model", {"eos_token_id": value})
    with pytest.raises(CheckpointCorrupt, match="eos_token_id"):
        Tokenizer.load(folder)


def test_old_gpt2_folders_are_read_from_vocab_and_merges(tmp_path: Path) -> None:
    made = json.loads((DATA / "llama-gqa" / "tokenizer.json").read_text())["model"]
    vocab = {"<|endoftext|>" if token == "<|begin|>" else token: index for token, index in made["vocab"].items()}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    merges = "\n".join(" ".join(merge) for merge in made["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    tokenizer = Tokenizer.load(tmp_path)
    text = "The dog, née 🐕."
    assert tokenizer.encode(text, add_special_tokens=True) == BYTE_LEVEL.encode(text, add_special_tokens=True)
    assert tokenizer.decode([0, *tokenizer.encode(text, add_special_tokens=True)]) == text
    assert tokenizer.encode("<|endoftext|>", add_special_tokens=False) == [0]


def test_truncation_and_padding_stored_in_the_file_are_left_out(tmp_path: Path) -> None:
    theirs = library("llama-gqa")
    theirs.enable_truncation(4)
    theirs.enable_padding(length=8)
    theirs.save(str(tmp_path / "tokenizer.json"))
    text = "the quick brown fox"
    assert Tokenizer.load(tmp_path).encode(text, add_special_tokens=False) == BYTE_LEVEL.encode(text, False)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"model": {"type": "BPE"}}', "\x00\xff", '{"version": "1.0"'])
def test_a_broken_tokenizer_file_is_corrupt(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointCorrupt, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("vocab", "merges"), [("{}", ""), ('{"a": 1}', ""), ('{"a": 0}', "a b c"), ('{"a": 0}', "a"), ('{"a": 0}', "a b")]
)
def test_broken_vocab_or_merges_are_corrupt(tmp_path: Path, vocab: str, merges: str) -> None:
    (tmp_path / "vocab.json").write_text(vocab)
    (tmp_path / "merges.txt").write_text(merges)
    with pytest.raises(CheckpointCorrupt):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_model_alone_is_unsupported_and_none_is_corrupt(tmp_path: Path) -> None:
    with pytest.raises(CheckpointCorrupt, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(UnsupportedCheckpoint, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_the_digest_follows_every_file_that_decides(tmp_path: Path) -> None:
    digests = {BYTE_LEVEL.digest, SENTENCEPIECE.digest}
    folder = copy_of("llama-gqa", tmp_path / "model")
    assert Tokenizer.load(folder).digest == BYTE_LEVEL.digest
    (folder / "generation_config.json").write_text("{}")
    assert len(digests | {Tokenizer.load(folder).digest}) == 3


@given(ids=st.lists(st.integers(0, 9), max_size=12), cuts=st.lists(st.integers(0, 12), max_size=4))
def test_word_pieces_are_cut_proof_and_spaced_by_their_neighbours(
    tmp_path_factory: pytest.TempPathFactory, ids: list[int], cuts: list[int]
) -> None:
    tokenizer = word_pieces(tmp_path_factory.mktemp("words"))
    assert "".join(pieces(tokenizer, ids, cuts)) == tokenizer.decode(ids)
    assert tokenizer.decode([2, 3, 4, 1, 6, 7]) == "the dogs , a"


@pytest.mark.parametrize(("template", "before", "after"), [
    ("$A", [], []), ("<|begin|> $A", [0], []), ("$A <|end|>", [], [1]), ("<|begin|> $A <|end|>", [0], [1]),
])  # fmt: skip
@pytest.mark.parametrize("bos", [True, False])
def test_parts_stand_between_what_is_put_around_a_prompt(
    tmp_path: Path, template: str, before: list[int], after: list[int], bos: bool
) -> None:
    made = library("llama-gqa")
    made.post_processor = tokenizers.processors.TemplateProcessing(
        template, special_tokens=[("<|begin|>", 0), ("<|end|>", 1)]
    )
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<|begin|>", "add_bos_token": bos}))
    tokenizer = Tokenizer.load(tmp_path)
    begins = [0] if bos else before
    words = tokenizer.encode("the dog", add_special_tokens=False)
    assert tokenizer.encode_parts([("the dog", False)], add_special_tokens=True) == [*begins, *words, *after]
    said = tokenizer.encode_parts([("the dog", False), ("<|end|>", True)], add_special_tokens=True)
    assert said == [*begins, *words, 1, *after]
    assert tokenizer.encode_parts([("the dog", False)], add_special_tokens=False) == words


def test_parts_with_a_token_that_the_model_lacks_are_refused() -> None:
    tokenizer = Tokenizer.load(DATA / "llama-gqa", embedding_rows=1)
    with pytest.raises(InvalidRequest, match="not made for"):
        tokenizer.encode_parts([("<|end|>", True)], add_special_tokens=False)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the heap's use is asked of glibc")
@pytest.mark.parametrize("case", ["llama-gqa", "llama-tied-bias"])
def test_no_words_of_prompts_stay_in_memory(case: str) -> None:
    tokenizer = Tokenizer.load(DATA / case)

    def encode_new_words(start: int) -> None:
        for number in range(start, start + 10_000):
            tokenizer.encode(f"word-{number:x}", add_special_tokens=False)
            tokenizer.encode_parts([(f"word-{number:x}", False)], add_special_tokens=False)

    encode_new_words(0)
    before = heap_in_use()
    encode_new_words(10_000)
    assert heap_in_use() - before < 100_000
