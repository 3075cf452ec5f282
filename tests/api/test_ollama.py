"""The Ollama surface over fakes: its lines, its numbers, its names, and what it refuses."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import httpx2
import pytest

from minivault.api.wire.ollama import ChatBody
from minivault.errors import ModelNotReady
from minivault.service.service import utc_in
from tests.api.client import client_of
from tests.api.test_socket import serving
from tests.fakes import breaks_after, make_bench, says, until

ASK = {"model": "fake", "prompt": "hi", "options": {"seed": 7}}
CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hi"}], "options": {"seed": 7}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALLING = 'Sure. <tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'
DURATIONS = {"total_duration", "load_duration", "prompt_eval_duration", "eval_duration"}
FRACTION = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")


def lines_of(response: httpx2.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in response.content.splitlines()]


@pytest.mark.parametrize(("path", "ask"), [("/api/generate", ASK), ("/api/chat", CHAT)])
async def test_it_streams_when_stream_is_absent_and_numbers_stand_on_the_done_line_only(path: str, ask: Any) -> None:
    async with client_of(make_bench(says("ab"), template=True)) as client:
        lines = lines_of(await client.post(path, json=ask))
    said = [line["response"] if path == "/api/generate" else line["message"]["content"] for line in lines]
    assert said == ["a", "b", ""]
    assert [line["done"] for line in lines] == [False, False, True]
    assert all(FRACTION.fullmatch(line["created_at"]) and line["model"] == "fake:latest" for line in lines)
    assert not any(DURATIONS & set(line) or "done_reason" in line or "eval_count" in line for line in lines[:-1])
    last = lines[-1]
    assert (last["done_reason"], last["eval_count"]) == ("stop", 2)
    assert all(type(last[name]) is int and last[name] >= 0 for name in DURATIONS)
    assert last["prompt_eval_duration"] + last["load_duration"] + last["eval_duration"] == last["total_duration"]


async def test_a_chat_line_has_a_role_and_no_context() -> None:
    async with client_of(make_bench(says("a"), template=True)) as client:
        lines = lines_of(await client.post("/api/chat", json=CHAT))
        whole = (await client.post("/api/chat", json=CHAT | {"stream": False})).json()
    assert [line["message"]["role"] for line in lines] == ["assistant", "assistant"]
    assert whole["message"] == {"role": "assistant", "content": "a"}
    assert "context" not in lines[-1]


async def test_whole_and_streamed_answers_are_the_same() -> None:
    async with client_of(make_bench()) as client:
        lines = lines_of(await client.post("/api/generate", json=ASK))
        whole = (await client.post("/api/generate", json=ASK | {"stream": False})).json()
    assert whole["response"] == "".join(line["response"] for line in lines)
    assert set(whole) == set(lines[-1])
    assert whole["context"] == lines[-1]["context"]


async def test_context_is_prompt_and_answer_and_comes_before_the_next_prompt() -> None:
    bench = make_bench(says("yo"))
    async with client_of(bench) as client:
        first = (await client.post("/api/generate", json=ASK | {"stream": False})).json()
        await client.post("/api/generate", json=ASK | {"stream": False, "context": first["context"]})
    before, after = (list(request.prompt_token_ids) for request in bench.engine.requests)
    assert first["context"] == before + list(b"yo")
    assert after == [*first["context"], *b"hi"]


async def test_a_context_with_a_token_that_the_model_does_not_have_is_refused() -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        response = await client.post("/api/generate", json=ASK | {"context": [9999]})
    assert (response.status_code, response.json()) == (422, {"error": "context: token ids must lie in 0 to 256"})
    assert bench.ledger.intents == []


async def test_a_bare_prompt_has_no_context_in_its_answer() -> None:
    async with client_of(make_bench(template=True)) as client:
        answer = (await client.post("/api/generate", json=ASK | {"raw": True, "stream": False})).json()
    assert "context" not in answer


async def test_the_options_reach_the_engine() -> None:
    bench = make_bench(says("x"))
    options = {
        "num_predict": 9, "seed": 3, "temperature": 0.5, "top_k": 4, "top_p": 0.6, "min_p": 0.1, "typical_p": 0.9,
        "stop": ["END"], "repeat_penalty": 1.2, "presence_penalty": 0.3, "frequency_penalty": 0.4,
    }  # fmt: skip
    async with client_of(bench) as client:
        await client.post("/api/generate", json=ASK | {"options": options})
    sampling = bench.engine.requests[0].sampling
    assert (sampling.max_tokens, sampling.seed, sampling.temperature) == (9, 3, 0.5)
    assert (sampling.top_k, sampling.top_p, sampling.min_p, sampling.typical_p) == (4, 0.6, 0.1, 0.9)
    assert (sampling.stop, sampling.repetition_penalty) == (("END",), 1.2)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.3, 0.4)


@pytest.mark.parametrize("limit", [{}, {"num_predict": -1}, {"num_predict": -2}, {"num_predict": 100_000}])
async def test_without_a_limit_the_answer_may_fill_the_context(limit: dict[str, int]) -> None:
    bench = make_bench(says("x"))
    async with client_of(bench) as client:
        assert (await client.post("/api/generate", json=ASK | {"options": limit})).status_code == 200
    assert bench.engine.requests[0].sampling.max_tokens == 1024 - 3


async def test_num_ctx_bounds_prompt_and_answer_together() -> None:
    bench = make_bench(says("x" * 50))
    async with client_of(bench) as client:
        answer = (await client.post("/api/generate", json=ASK | {"stream": False, "options": {"num_ctx": 10}})).json()
        refused = await client.post("/api/generate", json=ASK | {"options": {"num_ctx": 3}})
    assert (answer["prompt_eval_count"], answer["eval_count"], answer["done_reason"]) == (3, 7, "length")
    assert refused.status_code == 422
    assert "limits the context to 3" in refused.json()["error"]


async def test_a_num_ctx_beyond_the_model_changes_nothing() -> None:
    bench = make_bench(says("x"))
    async with client_of(bench) as client:
        assert (await client.post("/api/generate", json=ASK | {"options": {"num_ctx": 8192}})).status_code == 200
    assert bench.engine.requests[0].sampling.max_tokens == 1021


@pytest.mark.parametrize("options", [{"seed": -1}, {"top_k": -1}, {"top_k": 0}, {"top_p": 0}, {"stop": "END"}, None])
async def test_values_that_ollama_takes_are_taken(options: Any) -> None:
    async with client_of(make_bench()) as client:
        assert (await client.post("/api/generate", json=ASK | {"options": options})).status_code == 200


async def test_what_has_no_effect_is_listed_in_the_record() -> None:
    bench = make_bench(template=True)
    message = {"role": "user", "content": "hi", "mood": 1}
    ask = CHAT | {
        "keep_alive": "5m",
        "messages": [message, message],
        "fancy": {},
        "options": {"mirostat": 1, "numa": None, "seed": 1},
    }
    async with client_of(bench) as client:
        await client.post("/api/chat", json=ask)
    assert bench.ledger.intents[0].ignored == ("fancy", "options.mirostat", "messages.mood")
    assert bench.models.keep_alives == [300.0]
    assert bench.ledger.intents[0].surface == "ollama"


async def test_listed_names_are_bounded_and_printable() -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        await client.post("/api/generate", json=ASK | {f"\x1b{'x' * 99}{number}": 1 for number in range(99)})
        await client.post("/api/generate", json=ASK | {f"{number}": 1 for number in range(99)})
    assert bench.ledger.intents[0].ignored == ("x" * 64,)
    assert len(bench.ledger.intents[1].ignored) == 64


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "s3cr3t"}, "closest is fake"),
        ({"model": None}, "model"),
        ({"model": "fake:7b"}, "closest is fake"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "s3cr3t", "suffix": "b"}, "suffix"),
        ({"template": "s3cr3t"}, "template"),
        ({"images": ["s3cr3t"]}, "text only"),
        ({"think": "some"}, "think"),
        ({"think": 1}, "think"),
        ({"format": "s3cr3t"}, "format"),
        ({"keep_alive": "s3cr3t"}, "duration"),
        ({"options": {"num_predict": 0}}, "at least 1"),
        ({"options": {"num_predict": -3}}, "options.num_predict"),
        ({"options": {"num_ctx": 0}}, "options.num_ctx"),
        ({"options": {"temperature": "s3cr3t"}}, "options.temperature"),
        ({"options": {"top_p": 2}}, "options.top_p"),
        ({"options": []}, "options"),
        ({"stream": 1}, "stream"),
    ],
)
async def test_what_is_refused_is_named_in_ollamas_shape(change: dict[str, Any], said: str) -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        response = await client.post("/api/generate", json=ASK | change)
    assert response.status_code in (404, 422)
    assert list(response.json()) == ["error"]
    assert said in response.json()["error"]
    assert "s3cr3t" not in response.text
    assert bench.ledger.intents == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [{"type": "function", "function": {"name": "s3cr3t name"}}]}, "tools.0.function.name"),
        ({"messages": [{"role": "user", "content": "a", "images": ["s3cr3t"]}]}, "text only"),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}, "tool_calls"),
        ({"messages": [{"role": "s3cr3t", "content": "a"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "assistant", "content": "s3cr3t"}]}, "assistant"),
    ],
)
async def test_a_chat_refuses_what_it_cannot_do(change: dict[str, Any], said: str) -> None:
    async with client_of(make_bench(template=True)) as client:
        response = await client.post("/api/chat", json=CHAT | change)
    assert response.status_code == 422
    assert said in response.json()["error"]
    assert "s3cr3t" not in response.text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_last_turn_of_the_assistant_is_the_beginning_of_the_answer(stream: bool) -> None:
    bench = make_bench(says(" well."), template=True)
    turns = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "Very"}]
    async with client_of(bench) as client:
        answer = await client.post("/api/chat", json=CHAT | {"messages": turns, "stream": stream})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert "".join(line["message"]["content"] for line in lines) == " well."
    assert bytes(bench.engine.requests[0].prompt_token_ids) == b"<user>How?<assistant>Very"


async def test_a_conversation_goes_through_the_template() -> None:
    bench = make_bench(template=True)
    turns = [("system", "be"), ("user", "a"), ("assistant", "b"), ("user", "c")]
    messages = [{"role": role, "content": content} for role, content in turns]
    async with client_of(bench) as client:
        await client.post("/api/chat", json=CHAT | {"messages": messages})
    assert bytes(bench.engine.requests[0].prompt_token_ids) == b"<system>be<user>a<assistant>b<user>c<assistant>"


@pytest.mark.parametrize("empty", [{}, {"tools": [], "images": [], "template": "", "think": False, "format": ""}])
async def test_empty_fields_ask_for_nothing(empty: dict[str, Any]) -> None:
    async with client_of(make_bench()) as client:
        assert (await client.post("/api/generate", json=ASK | empty)).status_code == 200


@pytest.mark.parametrize("name", ["fake", "fake:latest"])
async def test_a_name_without_a_tag_means_latest_and_comes_back_with_it(name: str) -> None:
    async with client_of(make_bench()) as client:
        answer = (await client.post("/api/generate", json=ASK | {"model": name, "stream": False})).json()
        shown = await client.post("/api/show", json={"model": name})
        older = await client.post("/api/show", json={"name": name})
    assert answer["model"] == "fake:latest"
    assert shown.json() == older.json()


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        ({}, "load"),
        ({"keep_alive": "10m"}, "load"),
        ({"keep_alive": -1}, "load"),
        ({"keep_alive": 1.5}, "load"),
        ({"keep_alive": 0}, "unload"),
        ({"keep_alive": "0"}, "unload"),
        ({"keep_alive": "0s"}, "unload"),
    ],
)
@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
async def test_nothing_to_answer_loads_or_unloads_and_is_no_call(path: str, ask: Any, reason: str) -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        body = (await client.post(path, json={"model": "fake", **ask})).json()
        unknown = await client.post(path, json={"model": "nope", **ask})
    assert (body["done"], body["done_reason"], body["model"]) == (True, reason, "fake:latest")
    assert body["response" if path == "/api/generate" else "message"] in ("", {"role": "assistant", "content": ""})
    assert unknown.status_code == 404
    assert bench.ledger.intents == []


async def test_preloading_a_model_that_loads_says_when_to_come_back() -> None:
    bench = make_bench()
    bench.models.error = ModelNotReady("The model is still loading.", retry_after=1)
    async with client_of(bench) as client:
        response = await client.post("/api/generate", json={"model": "fake"})
    assert (response.status_code, response.json()) == (503, {"error": "The model is still loading."})
    assert response.headers["retry-after"] == "1"


async def test_tags_have_all_that_clients_list() -> None:
    async with client_of(make_bench()) as client:
        models = (await client.get("/api/tags")).json()["models"]
    assert [(model["name"], model["model"]) for model in models] == [("fake:latest", "fake:latest")]
    assert set(models[0]) == {"name", "model", "modified_at", "size", "digest", "details"}
    assert set(models[0]["details"]) == {
        "parent_model", "format", "family", "families", "parameter_size", "quantization_level",
    }  # fmt: skip
    assert not models[0]["digest"].startswith("sha256:")


async def test_show_names_capabilities_and_the_length_of_the_context() -> None:
    async with client_of(make_bench()) as client:
        body = (await client.post("/api/show", json={"model": "fake"})).json()
    assert body["capabilities"] == ["completion", "tools"]
    architecture = body["model_info"]["general.architecture"]
    assert (architecture, body["model_info"][f"{architecture}.context_length"]) == ("llama", 1024)
    assert body["details"]["format"] == "safetensors"


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("10m", 600), ("1h30m", 5400), ("-1m", -60), ("1.5s", 1.5), ("90", 90), (7, 7), (-1, -1), ("500ms", 0.5)],
)
async def test_keep_alive_is_a_duration_or_seconds(said: Any, seconds: float) -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        await client.post("/api/generate", json={"model": "fake", "keep_alive": said})
    assert bench.models.keep_alives == [seconds]


@pytest.mark.parametrize("said", [1e12, 10**9 + 1, 10**399, "1000000000000s", "99999999999h"])
@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/api/embed", "/api/embeddings"])
async def test_a_keep_alive_has_a_bound(path: str, said: Any) -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        response = await client.post(path, json={"model": "fake", "keep_alive": said})
    assert response.status_code == 422
    assert response.json()["error"].startswith("keep_alive: must be ")
    assert "1000000000" in response.json()["error"]
    assert bench.models.keep_alives == []


def test_a_time_beyond_the_calendar_is_one_within_it() -> None:
    assert datetime.fromisoformat(utc_in(1e300)).year > 2050


async def test_ps_lists_what_is_in_memory() -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        models = (await client.get("/api/ps")).json()["models"]
        bench.models.error = ModelNotReady("The model is still loading.")
        none = (await client.get("/api/ps")).json()["models"]
    assert (models[0]["name"], models[0]["context_length"], models[0]["size_vram"]) == ("fake:latest", 1024, 0)
    assert (models[0]["expires_at"], models[0]["size"]) == ("9999-12-31T23:59:59Z", 1000)
    assert none == []


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags"])
async def test_head_is_answered_where_clients_probe(path: str) -> None:
    async with client_of(make_bench()) as client:
        response = await client.head(path)
    assert (response.status_code, response.content) == (200, b"")


async def test_the_version_can_be_compared() -> None:
    async with client_of(make_bench()) as client:
        assert re.fullmatch(r"\d+\.\d+\.\d+", (await client.get("/api/version")).json()["version"])


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("POST", "/api/pull", 422, "ORG/NAME"),
        ("POST", "/api/embed", 422, "cannot embed"),
        ("POST", "/api/create", 404, "nothing at this path"),
        ("GET", "/api/generate", 405, "only POST"),
    ],
)
async def test_what_this_server_does_not_do_is_said_in_ollamas_shape(
    method: str, path: str, status: int, said: str
) -> None:
    async with client_of(make_bench()) as client:
        response = await client.request(method, path, json={"model": "fake", "input": "a"})
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert said in response.json()["error"]


@pytest.mark.parametrize("path", ["/api/pull", "/api/show", "/api/embed"])
async def test_a_body_that_names_no_model_is_told_so(path: str) -> None:
    async with client_of(make_bench()) as client:
        response = await client.post(path, json={})
    assert (response.status_code, response.json()) == (422, {"error": "model: is required"})


async def test_the_door_and_unreadable_bodies_speak_ollamas_shape_too() -> None:
    async with client_of(make_bench()) as client:
        foreign = await client.get("/api/tags", headers={"origin": "https://example.com"})
        unreadable = await client.post("/api/chat", content=b"{", headers={"content-type": "application/json"})
        form = await client.post("/api/chat", content=b"{}", headers={"content-type": "text/plain"})
    assert [foreign.status_code, unreadable.status_code, form.status_code] == [403, 400, 415]
    assert all(isinstance(response.json()["error"], str) for response in (foreign, unreadable, form))


@pytest.mark.parametrize("given", ["", "application/x-www-form-urlencoded", "application/x-www-form-urlencoded; a=b"])
async def test_json_is_taken_as_curl_and_other_programs_send_it(given: str) -> None:
    headers = {"content-type": given} if given else {}
    async with client_of(make_bench()) as client:
        answer = await client.post("/api/generate", content=json.dumps(ASK).encode(), headers=headers)
        elsewhere = await client.post("/v1/completions", content=json.dumps(ASK).encode(), headers=headers)
    assert [answer.status_code, elsewhere.status_code] == [200, 415]


@pytest.mark.parametrize(
    "given", ["", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "text/plain"]
)
@pytest.mark.parametrize(
    "by_browser",
    [
        {"origin": "http://localhost:8000"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-mode": "no-cors"},
        {"referer": "https://example.com/"},
        {"cookie": "a=b"},
    ],
)
async def test_json_of_another_type_is_not_taken_from_a_browser(given: str, by_browser: dict[str, str]) -> None:
    bench = make_bench()
    headers = by_browser | ({"content-type": given} if given else {})
    async with client_of(bench) as client:
        answer = await client.post("/api/generate", content=json.dumps(ASK).encode(), headers=headers)
    assert answer.status_code == 415
    assert "-H 'Content-Type: application/json'" in answer.json()["error"]
    assert bench.ledger.intents == []


async def test_a_failure_in_the_middle_is_an_error_line_and_never_done() -> None:
    async with client_of(make_bench(breaks_after("part"))) as client:
        lines = lines_of(await client.post("/api/generate", json=ASK))
    assert lines[0]["response"] == "part"
    assert lines[1:] == [{"error": "the engine broke"}]


async def test_an_outcome_that_cannot_be_written_is_never_done() -> None:
    bench = make_bench(says("a"))
    bench.ledger.faults = ["outcome"]
    async with client_of(bench) as client:
        lines = lines_of(await client.post("/api/generate", json=ASK))
    assert [line.get("done") for line in lines] == [False, None]
    assert lines[1] == {"error": "The record could not be made durable."}


async def test_logprobs_come_when_asked_for() -> None:
    async with client_of(make_bench(says("a", logprobs=True))) as client:
        lines = lines_of(await client.post("/api/generate", json=ASK | {"logprobs": True, "top_logprobs": 1}))
        whole = (await client.post("/api/generate", json=ASK | {"logprobs": True, "stream": False})).json()
    assert lines[0]["logprobs"][0]["token"] == "a"
    assert lines[0]["logprobs"][0]["logprob"] == whole["logprobs"][0]["logprob"] == -0.5


async def test_every_answer_names_its_record() -> None:
    async with client_of(make_bench()) as client:
        streamed = await client.post("/api/generate", json=ASK)
        whole = await client.post("/api/generate", json=ASK | {"stream": False})
    assert (streamed.headers["minivault-record"][:2], whole.headers["minivault-record"][:2]) == ("0:", "3:")


async def test_hanging_up_cancels_and_is_recorded_with_what_was_sent() -> None:
    bench = make_bench(says("abcdef"))
    bench.engine.hold_after = 2
    async with serving(bench) as client:
        async with client.stream("POST", "/api/generate", json=ASK) as response:
            lines = response.aiter_lines()
            said = [json.loads(await anext(lines))["response"] for _ in range(2)]
        await until(lambda: bench.ledger.outcomes)
    assert (bench.outcome.finish_reason, bench.outcome.response_text) == ("cancelled", "".join(said))


@pytest.mark.parametrize("at_once", [1, 1000])
async def test_a_call_of_a_tool_has_its_arguments_as_an_object(at_once: int) -> None:
    async with client_of(make_bench(says(CALLING, at_once=at_once), template=True)) as client:
        lines = lines_of(await client.post("/api/chat", json=CHAT | {"tools": [TOOL]}))
        whole = (await client.post("/api/chat", json=CHAT | {"tools": [TOOL], "stream": False})).json()
    calls = [call for line in lines for call in line["message"].get("tool_calls", [])]
    assert [call["function"] for call in calls] == [{"name": "weather", "arguments": {"city": "Bern"}}]
    assert "".join(line["message"]["content"] for line in lines) == whole["message"]["content"] == "Sure."
    assert [call["function"] for call in whole["message"]["tool_calls"]] == [call["function"] for call in calls]
    assert "tool_calls" not in lines[-1]["message"]


async def test_without_tools_what_looks_like_a_call_is_text() -> None:
    async with client_of(make_bench(says(CALLING), template=True)) as client:
        whole = (await client.post("/api/chat", json=CHAT | {"stream": False})).json()
    assert whole["message"] == {"role": "assistant", "content": CALLING}


async def test_calls_and_results_of_earlier_turns_reach_the_template() -> None:
    bench = make_bench(template=True)
    call = {"function": {"name": "weather", "arguments": {"city": "Bern"}}}
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "tool_calls": [call, call]},
        {"role": "tool", "content": "sun", "tool_name": "weather"},
        {"role": "tool", "content": "rain", "tool_name": "weather"},
    ]
    async with client_of(bench) as client:
        assert (await client.post("/api/chat", json=CHAT | {"messages": turns, "tools": [TOOL]})).status_code == 200
    prompt = bytes(bench.engine.requests[0].prompt_token_ids).decode()
    assert prompt.count('{"name": "weather", "arguments": {"city": "Bern"}}') == 2
    assert prompt.index("sun") < prompt.index("rain")


def test_results_answer_the_calls_in_their_order() -> None:
    call = {"function": {"name": "weather", "arguments": {}}}
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [call, call]}]
    turns += [{"role": "tool", "content": "sun"}, {"role": "tool", "content": "rain"}]
    asked = ChatBody.model_validate({"model": "m", "messages": turns}).to_generation(request_id="", raw_request=b"")
    called = [one.id for one in asked.messages[1].tool_calls]
    assert [message.tool_call_id for message in asked.messages[2:]] == called
    assert all(re.fullmatch("[a-z0-9]{9}", one) for one in called)
