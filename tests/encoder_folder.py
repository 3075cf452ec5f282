"""A folder as sentence-transformers makes them: a tiny encoder of the oracle's, and a tokenizer of word pieces."""

from __future__ import annotations

import json
import shutil
import string
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tests.oracle.encoders import DATA

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = ["hello", "world", "a", "cat", "##s", "the", "sat", "on"]
LONGEST = 40
WIDTH = 64


def encoder_folder(folder: Path, name: str = "mean") -> Path:
    """Made at ``folder``. Texts are of lower case letters and a few words; a letter is a token."""
    shutil.copytree(DATA / name, folder)
    letters = [letter for letter in string.ascii_lowercase if letter not in WORDS]
    pieces = [*SPECIAL, *WORDS, *letters, *(f"##{letter}" for letter in string.ascii_lowercase if letter != "s")]
    vocab = {piece: place for place, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder
