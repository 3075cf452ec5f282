"""The shipped files of the guide agree with one another, are small enough, and speak the chat format."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

MOST_BYTES = 12_000_000


def read(folder: Path, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def config(guide_folder: Path) -> dict[str, Any]:
    return read(guide_folder, "config.json")


@pytest.fixture(scope="module")
def tokenizer(guide_folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(guide_folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def header(guide_folder: Path) -> dict[str, Any]:
    with (guide_folder / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        loaded: dict[str, Any] = json.loads(file.read(length))
    loaded.pop("__metadata__", None)
    return loaded


def test_all_files_together_stay_within_twelve_megabytes(guide_folder: Path) -> None:
    assert sum(file.stat().st_size for file in guide_folder.iterdir() if file.is_file()) <= MOST_BYTES


def test_the_weights_have_the_shapes_that_the_config_says(config: dict[str, Any], header: dict[str, Any]) -> None:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    key_value = config["num_key_value_heads"] * config["head_dim"]
    layer = {
        "self_attn.q_proj": [hidden, hidden],
        "self_attn.k_proj": [key_value, hidden],
        "self_attn.v_proj": [key_value, hidden],
        "self_attn.o_proj": [hidden, hidden],
        "mlp.gate_proj": [inner, hidden],
        "mlp.up_proj": [inner, hidden],
        "mlp.down_proj": [hidden, inner],
        "input_layernorm": [hidden],
        "post_attention_layernorm": [hidden],
    }
    expected = {"model.embed_tokens.weight": [config["vocab_size"], hidden], "model.norm.weight": [hidden]}
    for number in range(config["num_hidden_layers"]):
        expected |= {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}
    assert {name: entry["shape"] for name, entry in header.items()} == expected
    assert {entry["dtype"] for entry in header.values()} == {"BF16"}


def test_the_guide_tells_its_own_size(config: dict[str, Any], header: dict[str, Any]) -> None:
    assert config["tie_word_embeddings"] is True
    assert sum(math.prod(entry["shape"]) for entry in header.values()) == 5_770_496


def test_every_width_is_a_multiple_of_32(header: dict[str, Any]) -> None:
    assert not [name for name, entry in header.items() if any(size % 32 for size in entry["shape"])]


def test_special_tokens_agree_in_all_files(guide_folder: Path, config: dict[str, Any], tokenizer: Tokenizer) -> None:
    settings, generation = read(guide_folder, "tokenizer_config.json"), read(guide_folder, "generation_config.json")
    end, pad = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")
    assert tokenizer.get_vocab_size() == config["vocab_size"]
    assert (config["eos_token_id"], config["pad_token_id"]) == (end, pad)
    assert generation["eos_token_id"] == [end, pad]
    assert (settings["eos_token"], settings["pad_token"]) == ("<|im_end|>", "<|endoftext|>")
    assert settings["add_bos_token"] is False
    assert settings["model_max_length"] == config["max_position_embeddings"]


@pytest.mark.parametrize(
    "text",
    [
        "How do I start the server?",
        'curl -X POST localhost:8000/generate -d \'{"prompt": "Hello"}\'',
        "47 x 38 = 1786",
        "  two blanks,\n\tand a tab  ",
        "Größe, 漢字, 🦊 and ﷽",
        "",
    ],
)
def test_text_survives_the_tokenizer(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_every_digit_is_a_token_of_its_own(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("1786").ids) == 4


def test_chats_are_rendered_and_encoded_as_recorded(
    guide_folder: Path, tokenizer: Tokenizer, golden: dict[str, Any]
) -> None:
    template = ImmutableSandboxedEnvironment().from_string(read(guide_folder, "tokenizer_config.json")["chat_template"])
    for chat in golden["chats"]:
        rendered = template.render(messages=chat["messages"], add_generation_prompt=True)
        assert rendered == chat["rendered"]
        assert tokenizer.encode(rendered).ids == chat["ids"]


def test_no_system_message_is_added_to_a_chat(golden: dict[str, Any]) -> None:
    plain = [chat for chat in golden["chats"] if chat["messages"][0]["role"] == "user"]
    assert plain
    assert not [chat for chat in plain if "system" in chat["rendered"]]


def test_the_training_format_is_the_chat_template(golden: dict[str, Any], tokenizer: Tokenizer) -> None:
    import importlib

    tokens: Any = importlib.import_module("tokens")
    corpus: Any = importlib.import_module("corpus")
    for chat in golden["chats"]:
        messages = chat["messages"]
        system = messages[0]["content"] if messages[0]["role"] == "system" else None
        spoken = [message["content"] for message in messages if message["role"] != "system"] + ["?"]
        pairs = [corpus.Turn("any", spoken[at], spoken[at + 1]) for at in range(0, len(spoken), 2)]
        encoded = tokens.encode(tokenizer, corpus.Conversation(tuple(pairs), system), 1024)
        assert encoded.ids[: len(chat["ids"])] == chat["ids"]


@pytest.mark.torch
def test_greedy_answers_are_the_recorded_ones(guide_folder: Path, golden: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(str(guide_folder), dtype=torch.float32)
    for chat in golden["chats"]:
        ids = torch.tensor([chat["ids"]])
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            temperature=None,
            top_k=None,
            top_p=None,
            max_new_tokens=200,
        )
        assert out[0, len(chat["ids"]) :].tolist() == chat["answer_ids"]
