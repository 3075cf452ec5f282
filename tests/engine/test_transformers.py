"""The Transformers engine against Transformers' own ``generate``, on families that the native engine lacks.

Tiny random checkpoints, stored as the library stores them.
"""

# mypy: disable-error-code="import-not-found, no-any-return, no-untyped-call"
# why: PyTorch and Transformers live in an environment of their own, where types are checked without them

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minivault.engine.engine import EngineRequest, TokenStep
from minivault.engine.native.engine import NativeEngine
from minivault.engine.native.grammar import GrammarCompiler
from minivault.errors import CheckpointCorrupt, ConfigError, UnsupportedCheckpoint
from minivault.generation import FinishReason, SamplingParams
from tests.engine.fakes import params
from tests.oracle.golden import folder_of

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make oracle")
transformers = pytest.importorskip("transformers", reason="Transformers is not installed: make oracle")

pytestmark = pytest.mark.torch

VOCAB = 120
PROMPT = (5, 17, 90, 33, 8, 61, 2, 44, 19)
OTHER = (70, 71, 3, 9)

SIZES: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "bos_token_id": 0,
    "tie_word_embeddings": False,
    "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip


def config_of(family: str) -> Any:
    match family:
        case "opt":
            more = {"ffn_dim": 64, "max_position_embeddings": 96, "word_embed_proj_dim": 32}
            return transformers.OPTConfig(**SIZES, **more)
        case "gpt_neox":
            return transformers.GPTNeoXConfig(**SIZES, intermediate_size=64, max_position_embeddings=96)
        case "bloom":
            return transformers.BloomConfig(**SIZES, n_head=4, n_layer=2)
        case "starcoder2":
            more = {"num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 96}
            return transformers.Starcoder2Config(**SIZES, **more, sliding_window=5)
        case "gemma2":
            more = {"num_key_value_heads": 2, "intermediate_size": 64, "head_dim": 8, "max_position_embeddings": 96}
            return transformers.Gemma2Config(**SIZES, **more, sliding_window=5, attn_logit_softcapping=2.0)
        case "mamba":
            return transformers.MambaConfig(**SIZES, state_size=4, use_mambapy=False)
        case "mpt":
            more = {"vocab_size": VOCAB, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 96}
            return transformers.MptConfig(
                **more, eos_token_id=1, pad_token_id=1, bos_token_id=0, tie_word_embeddings=False
            )
    raise AssertionError(family)


WAYS = {
    "opt": "packed",
    "gpt_neox": "packed",
    "starcoder2": "packed",
    "gemma2": "packed",
    "bloom": "one by one, chunks",
    "mpt": "one by one, chunks",
    "mamba": "one by one, steps",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            torch.manual_seed(7)
            model = transformers.AutoModelForCausalLM.from_config(config_of(family))
            for weight in model.parameters():
                if weight.dim() > 1:
                    torch.nn.init.normal_(weight, std=0.25)  # wide, so that answers do not repeat one token
            made[family] = tmp_path_factory.mktemp(family)
            model.save_pretrained(made[family])
        return made[family]

    return folder


def load(folder: Path, **options: Any) -> NativeEngine:
    from minivault.engine.transformers.load import TransformersOptions, load_transformers_engine

    sized: dict[str, Any] = {"device": "cpu", "kv_cache_memory": 1 << 22, "threads": 1}
    chosen = TransformersOptions(**(sized | options))
    return load_transformers_engine(folder, chosen)


def run(engine: NativeEngine, work: Callable[[NativeEngine], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        try:
            return await asyncio.wait_for(work(engine), 120)
        finally:
            await engine.close()

    result = asyncio.run(whole())
    assert engine.failure is None
    return result


async def steps(
    engine: NativeEngine, prompt: tuple[int, ...], sampling: SamplingParams, **request: Any
) -> list[TokenStep]:
    return [step async for step in engine.submit(EngineRequest("id", prompt, sampling, **request))]


async def tokens(engine: NativeEngine, prompt: tuple[int, ...], sampling: SamplingParams, **request: Any) -> list[int]:
    return [token for step in await steps(engine, prompt, sampling, **request) for token in step.token_ids]


def greedy(folder: Path, prompt: tuple[int, ...], count: int) -> list[int]:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    given = torch.tensor([prompt])
    with torch.inference_mode():
        answer = model.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=count, min_new_tokens=count, do_sample=False
        )
    return answer[0, len(prompt) :].tolist()


@pytest.mark.parametrize("family", WAYS)
def test_greedy_tokens_are_those_of_generate_alone_and_among_others(
    family: str, folders: Callable[[str], Path]
) -> None:
    folder = folders(family)
    expected = [greedy(folder, prompt, 24) for prompt in (PROMPT, OTHER)]
    assert len(set(expected[0])) > 2
    sampling = params(24, min_tokens=24)

    async def work(engine: NativeEngine) -> Any:
        alone = await tokens(engine, PROMPT, sampling, eos_token_ids=(1,))
        together = await asyncio.gather(
            *(tokens(engine, prompt, sampling, eos_token_ids=(1,)) for prompt in (PROMPT, OTHER, PROMPT))
        )
        return alone, together

    alone, together = run(load(folder, max_batch_tokens=16), work)
    assert alone == expected[0]
    assert together == [*expected, expected[0]]


@pytest.mark.parametrize(("family", "way"), WAYS.items())
def test_a_model_runs_in_the_fastest_way_that_gives_its_own_logits(
    family: str, way: str, folders: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "minivault.engine"):
        asyncio.run(load(folders(family)).close())
    assert caplog.messages[-1] == f"transformers engine: cpu, float32, {way}"


def test_what_it_promises(folders: Callable[[str], Path]) -> None:
    engine = load(folders("opt"))
    info = engine.info
    assert (info.name, info.exact, info.context_length, info.vocab_size) == ("transformers", False, 96, VOCAB)
    assert info.build == f"torch {torch.__version__}, transformers {transformers.__version__}"
    assert info.arithmetic == "torch-float32-cpu"
    asyncio.run(engine.close())


def test_the_seed_decides_what_is_drawn(folders: Callable[[str], Path]) -> None:
    async def work(engine: NativeEngine) -> Any:
        drawn = params(12, temperature=1.5)
        return [await tokens(engine, PROMPT, replace(drawn, seed=seed)) for seed in (1, 1, 2)]

    first, again, other = run(load(folders("gpt_neox")), work)
    assert first == again != other


def test_log_probabilities_are_those_of_the_model(folders: Callable[[str], Path]) -> None:
    folder = folders("opt")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = torch.log_softmax(model(torch.tensor([PROMPT])).logits[0, -1], dim=-1)

    async def work(engine: NativeEngine) -> Any:
        return await steps(engine, PROMPT, params(1, logprobs=3))

    found = run(load(folder), work)[0].logprobs[0]
    best = expected.topk(3)
    assert [token for token, _ in found.top] == best.indices.tolist()
    assert [value for _, value in found.top] == pytest.approx(best.values.tolist(), abs=1e-4)
    assert found.logprob == pytest.approx(float(best.values[0]), abs=1e-4)


def test_a_stop_id_ends_the_answer_but_not_before_min_tokens(folders: Callable[[str], Path]) -> None:
    folder = folders("gpt_neox")
    expected = greedy(folder, PROMPT, 12)
    third = expected[2]

    async def work(engine: NativeEngine) -> Any:
        stopped = await steps(engine, PROMPT, params(12, stop_token_ids=(third,)))
        later = await tokens(engine, PROMPT, params(12, stop_token_ids=(third,), min_tokens=8))
        return stopped, later

    stopped, later = run(load(folder), work)
    place = expected.index(third)
    assert [token for step in stopped for token in step.token_ids] == expected[:place]
    assert stopped[-1].finish_reason is FinishReason.STOP
    assert len(later) >= 8


def test_an_answer_is_held_to_a_grammar(folders: Callable[[str], Path]) -> None:
    vocabulary = {chr(33 + place) if place < 94 else f"<{place}>": place for place in range(VOCAB)}
    tokenizer: dict[str, Any] = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": None, "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": False,
        "trim_offsets": False, "use_regex": False},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary,
                  "merges": []},
    }  # fmt: skip
    grammar = GrammarCompiler(json.dumps(tokenizer), VOCAB, (119,)).compile("regex", "a(b|c){5}d")

    async def work(engine: NativeEngine) -> Any:
        return await tokens(engine, PROMPT, params(30, temperature=1.0), constraint=grammar)

    said = "".join(chr(33 + token) for token in run(load(folders("opt")), work))
    assert (len(said), said[0], said[-1], set(said[1:-1]) <= {"b", "c"}) == (7, "a", "d", True)


def test_a_cancelled_sequence_ends_at_the_next_step_and_others_go_on(folders: Callable[[str], Path]) -> None:
    folder = folders("gpt_neox")

    async def work(engine: NativeEngine) -> Any:
        left = engine.submit(EngineRequest("left", PROMPT, params(80, ignore_eos=True)))
        staying = asyncio.ensure_future(tokens(engine, OTHER, params(40, ignore_eos=True)))
        async for step in left:
            left.cancel()
            last = step
        return last, await staying

    last, stayed = run(load(folder), work)
    assert last.finish_reason is FinishReason.CANCELLED
    assert stayed == greedy(folder, OTHER, 40)


@pytest.mark.parametrize("family", ["gpt_neox", "bloom", "mamba"])
def test_little_memory_makes_sequences_wait_and_changes_no_token(family: str, folders: Callable[[str], Path]) -> None:
    folder = folders(family)
    alone = [greedy(folder, prompt, 30) for prompt in (PROMPT, OTHER)]
    sampling = params(30, min_tokens=30)

    async def work(engine: NativeEngine) -> Any:
        return await asyncio.gather(
            *(tokens(engine, prompt, sampling, eos_token_ids=(1,)) for prompt in (PROMPT, OTHER, PROMPT, OTHER))
        ), engine.stats().preemptions

    memory = 6 * 16 * 2 * 2 * 32 * 4  # six blocks of float32 keys and values
    answers, preempted = run(load(folder, kv_cache_memory=memory), work)
    assert answers == alone * 2
    assert preempted > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device")
def test_a_graphics_card_gives_the_same_greedy_tokens(folders: Callable[[str], Path]) -> None:
    folder = folders("gpt_neox")

    async def work(engine: NativeEngine) -> Any:
        return await tokens(engine, PROMPT, params(24, min_tokens=24), eos_token_ids=(1,))

    assert run(load(folder, device="cuda"), work) == greedy(folder, PROMPT, 24)


def test_a_device_that_is_not_there_is_refused(folders: Callable[[str], Path]) -> None:
    missing = "mps" if not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(ConfigError, match="device: PyTorch finds"):
        load(folders("opt"), device=missing)


def test_code_of_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    mapped = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": mapped}))
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(UnsupportedCheckpoint, match="code of its own"):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_are_never_read(folders: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folders("opt") / "config.json").read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises((CheckpointCorrupt, UnsupportedCheckpoint)):
        load(tmp_path)


def test_a_tensor_that_is_missing_is_noticed(folders: Callable[[str], Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    stored = load_file(folders("gpt_neox") / "model.safetensors")
    stored.pop(next(name for name in stored if "dense" in name))
    save_file(stored, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((folders("gpt_neox") / "config.json").read_bytes())
    with pytest.raises(CheckpointCorrupt, match="lacks 1 of"):
        load(tmp_path)


def test_a_checkpoint_of_a_native_family_gives_the_native_tokens() -> None:
    folder = folder_of("llama-gqa")

    async def work(engine: NativeEngine) -> Any:
        return await tokens(engine, PROMPT, params(20, min_tokens=20))

    from minivault.engine.native.runner import RunnerOptions
    from tests.engine.checkpoints import engine

    native = run(engine("llama-gqa", RunnerOptions(precision="f32", threads=1)), work)
    assert run(load(folder), work) == native
