"""Clients that people use beside the three packages: LangChain, LiteLLM, ``llm``, OpenAI's npm package, and curl.

Each runs in a process of its own against ``minivault serve``, from an environment of its own: ``make clients`` makes
both, and a test whose client is not there is skipped, saying so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.records import until_cancelled
from tests.e2e.server import Server, serving

PYTHON = Path(sys.prefix) / "clients" / "bin" / "python"
NODE_FOLDER = Path(sys.prefix) / "clients-node"
HINT = "run `make clients`"

python_clients = pytest.mark.skipif(not PYTHON.exists(), reason=f"the Python clients are not installed: {HINT}")
npm_client = pytest.mark.skipif(
    shutil.which("node") is None or not (NODE_FOLDER / "node_modules" / "openai").exists(),
    reason=f"node, or OpenAI's npm package, is not installed: {HINT}",
)
curl_client = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("others") / "data") as running:
        yield running


def run(command: list[str], server: Server, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LLM_USER_PATH": str(home),
        "URL": server.url,
        "OPENAI_API_KEY": "none needed",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks the network for prices
        "LANGSMITH_TRACING": "false",
        **more,
    }
    return subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=240, check=False)


def told(script: str, server: Server, home: Path) -> Any:
    """What a script prints as JSON on its last line."""
    done = run([str(PYTHON), "-c", script], server, home)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


LANGCHAIN_OPENAI = """
import json, os
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

class Person(BaseModel):
    kind: bool
    age: int

llm = ChatOpenAI(model="guide", base_url=os.environ["URL"] + "/v1", seed=7, max_tokens=40, stream_usage=True)
whole = llm.invoke("What model are you?")
chunks = list(llm.stream("What model are you?"))
gathered = chunks[0]
for chunk in chunks[1:]:
    gathered += chunk
free = ChatOpenAI(model="guide", base_url=os.environ["URL"] + "/v1", seed=7)
tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object",
        "properties": {"days": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["days"]}}}
called = free.bind_tools([tool], tool_choice="required", parallel_tool_calls=False).invoke("Rain?").tool_calls
form = free.with_structured_output(Person, method="json_schema").invoke("Who?")
try:
    llm.invoke("x", temperature=-1)
    error = None
except Exception as raised:
    error = type(raised).__name__
print(json.dumps({"whole": whole.content, "streamed": gathered.content, "usage": gathered.usage_metadata,
                  "whole_usage": whole.usage_metadata, "called": called[0]["name"],
                  "days": called[0]["args"]["days"], "form": form.model_dump(), "error": error}))
"""


@python_clients
def test_langchain_openai_streams_calls_tools_and_parses_forms(server: Server, tmp_path: Path) -> None:
    got = told(LANGCHAIN_OPENAI, server, tmp_path)
    assert got["streamed"] == got["whole"] != ""
    assert got["usage"]["total_tokens"] == got["whole_usage"]["total_tokens"] > 0
    assert (got["called"], 1 <= got["days"] <= 9) == ("weather", True)
    assert set(got["form"]) == {"kind", "age"}
    assert got["error"] == "UnprocessableEntityError"


LANGCHAIN_OLLAMA = """
import json, os
from langchain_ollama import ChatOllama, OllamaLLM
llm = ChatOllama(model="guide", base_url=os.environ["URL"], seed=7, num_predict=40)
whole = llm.invoke("What model are you?")
streamed = "".join(chunk.content for chunk in llm.stream("What model are you?"))
schema = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["age"]}
free = ChatOllama(model="guide", base_url=os.environ["URL"], seed=7)
form = free.with_structured_output(schema, method="json_schema").invoke("Who?")
plain = OllamaLLM(model="guide", base_url=os.environ["URL"], seed=7, num_predict=40).invoke("What model are you?")
print(json.dumps({"whole": whole.content, "streamed": streamed, "form": form, "plain": plain,
                  "reason": whole.response_metadata["done_reason"], "usage": whole.usage_metadata}))
"""


@python_clients
def test_langchain_ollama_streams_and_holds_answers_to_a_form(server: Server, tmp_path: Path) -> None:
    got = told(LANGCHAIN_OLLAMA, server, tmp_path)
    assert got["streamed"] == got["whole"] == got["plain"] != ""
    assert 1 <= got["form"]["age"] <= 9
    assert got["reason"] in ("stop", "length")
    assert got["usage"]["output_tokens"] > 0


LITELLM = """
import json, os
import litellm
url = os.environ["URL"]
turns = [{"role": "user", "content": "What model are you?"}]
def ask(model, base, **more):
    return litellm.completion(model=model, api_base=base, api_key="k", messages=turns, seed=7, max_tokens=40, **more)
said = {}
for name, base in (("openai/guide", url + "/v1"), ("hosted_vllm/guide", url + "/v1"), ("ollama_chat/guide", url)):
    whole = ask(name, base).choices[0].message.content
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in ask(name, base, stream=True))
    said[name] = [whole, streamed]
said["anthropic/guide"] = [litellm.completion(model="anthropic/guide", api_base=url, api_key="k", messages=turns,
                                              max_tokens=40, temperature=0).choices[0].message.content]
try:
    litellm.completion(model="openai/nope", api_base=url + "/v1", api_key="k", messages=turns)
    error = None
except Exception as raised:
    error = type(raised).__name__
print(json.dumps({"said": said, "error": error}))
"""


@python_clients
def test_litellm_speaks_each_of_its_dialects(server: Server, tmp_path: Path) -> None:
    got = told(LITELLM, server, tmp_path)
    assert all(texts[0] and set(texts) == {texts[0]} for texts in got["said"].values()), got["said"]
    assert got["error"] == "NotFoundError"


@python_clients
def test_llm_with_its_openai_compatible_model_answers_and_streams(server: Server, tmp_path: Path) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: mini\n  model_name: guide\n  api_base: {server.url}/v1\n  can_stream: true\n", encoding="utf-8"
    )
    llm = str(PYTHON.parent / "llm")
    options = ["-m", "mini", "-o", "seed", "7", "-o", "max_tokens", "40", "What model are you?"]
    streamed = run([llm, *options], server, tmp_path)
    whole = run([llm, "--no-stream", *options], server, tmp_path)
    assert streamed.returncode == whole.returncode == 0, streamed.stderr + whole.stderr
    assert streamed.stdout == whole.stdout != "\n"


NPM = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.env.URL + "/v1", apiKey: "none needed", maxRetries: 0 });
const asked = { model: "guide", messages: [{ role: "user", content: "What model are you?" }], seed: 7, max_tokens: 40 };
const whole = await client.chat.completions.create(asked);
let streamed = "", usage = null;
for await (const chunk of await client.chat.completions.create({ ...asked, stream: true,
    stream_options: { include_usage: true } })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
const helper = await client.chat.completions.stream(asked).finalContent();
const response = await client.responses.create({ model: "guide", input: "What model are you?" });
let error = null;
try { await client.chat.completions.create({ ...asked, temperature: -1 }); }
catch (raised) { error = [raised.status, raised.param]; }
const cancelled = async () => (await (await fetch(process.env.URL + "/vault/records?finish_reason=cancelled")).json())
  .records.length;
for (let tries = 0; tries < 20 && !(await cancelled()); tries += 1) { // an answer may be whole before it is left
  const leaving = await client.chat.completions.create({ ...asked, max_tokens: undefined, temperature: 10, top_p: 1,
    ignore_eos: true, stream: true });
  for await (const chunk of leaving) { if (chunk.choices[0]?.delta?.content) break; }
}
const file = await client.files.create({ purpose: "batch", file: new File(
  [JSON.stringify({ custom_id: "a", method: "POST", url: "/v1/chat/completions", body: asked })], "in.jsonl") });
let batch = await client.batches.create({ input_file_id: file.id, endpoint: "/v1/chat/completions",
  completion_window: "24h" });
while (["validating", "in_progress", "finalizing"].includes(batch.status)) {
  await new Promise((done) => setTimeout(done, 50));
  batch = await client.batches.retrieve(batch.id);
}
const line = JSON.parse(await (await client.files.content(batch.output_file_id)).text());
const models = [];
for await (const model of client.models.list()) models.push(model.id);
console.log(JSON.stringify({ whole: whole.choices[0].message.content, streamed, helper, usage, error, models,
  whole_usage: whole.usage, response: response.output_text,
  batched: line.response.body.choices[0].message.content }));
"""


@npm_client
def test_the_npm_package_streams_errs_leaves_and_batches(server: Server, tmp_path: Path) -> None:
    script = NODE_FOLDER / "test.mjs"
    script.write_text(NPM, encoding="utf-8")
    done = run(["node", str(script)], server, tmp_path)
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert got["streamed"] == got["whole"] == got["helper"] == got["batched"] != ""
    assert got["usage"] == got["whole_usage"]
    assert got["response"]
    assert got["error"] == [422, "temperature"]
    assert got["models"] == ["guide"]
    assert until_cancelled(server.url, "openai")["response"]


def curl(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["curl", "-sS", "-N", *arguments[:-1], server.url + arguments[-1]]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


BODY = '{"model": "guide", "messages": [{"role": "user", "content": "Hi"}], "seed": 7, "max_tokens": 12, "stream": %s}'
JSON_TYPE = ("-H", "Content-Type: application/json")


@curl_client
def test_curl_gets_the_same_answer_whole_and_in_pieces(server: Server) -> None:
    whole = json.loads(curl(server, *JSON_TYPE, "-d", BODY % "false", "/v1/chat/completions").stdout)
    streamed = curl(server, *JSON_TYPE, "-d", BODY % "true", "/v1/chat/completions").stdout
    events = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    pieces = [event["choices"][0]["delta"].get("content", "") for event in events]
    assert "".join(pieces) == whole["choices"][0]["message"]["content"] != ""
    assert streamed.endswith("data: [DONE]\n\n")


@curl_client
def test_curl_without_a_content_type_is_told_what_to_send(server: Server) -> None:
    refused = curl(server, "-d", BODY % "false", "-w", "\n%{http_code}", "/v1/chat/completions").stdout
    assert refused.endswith("415")
    assert "application/json" in refused


@curl_client
def test_curl_asks_as_ollamas_manual_has_it(server: Server) -> None:
    body = '{"model": "guide", "prompt": "Hi", "stream": false, "options": {"num_predict": 4}}'
    assert json.loads(curl(server, "-d", body, "/api/generate").stdout)["done"] is True


@curl_client
def test_curl_uploads_a_file_as_its_manual_says(server: Server, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("{}\n")
    form = ("-F", "purpose=batch", "-F", f"file=@{tmp_path / 'in.jsonl'}")
    kept = json.loads(curl(server, *form, "/v1/files").stdout)
    assert (kept["filename"], kept["bytes"]) == ("in.jsonl", 3)
    assert curl(server, f"/v1/files/{kept['id']}/content").stdout == "{}\n"
