"""Writes deploy/minivault.postman_collection.json: every route of the OpenAPI document, as a request to try.

python docs/postman.py            write it
python docs/postman.py --check    exit code 1 if it is not what would be written

Import it into Postman, Bruno or Insomnia, or run it: newman run deploy/minivault.postman_collection.json
--env-var baseUrl=http://127.0.0.1:8000 --env-var apiKey=mv_... Bodies are examples that any server answers, whatever
its models; what it cannot answer here (no such file, no network, no admin) has the status that the document names.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minivault.api.app import create_app
from minivault.settings import Settings

TARGET = Path(__file__).parents[1] / "deploy" / "minivault.postman_collection.json"
METHODS = ("get", "post", "put", "patch", "delete")
SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
TITLES = {
    "generate": "Generate",
    "embeddings": "Embeddings",
    "openai": "OpenAI",
    "ollama": "Ollama",
    "anthropic": "Anthropic",
    "vault": "Vault",
    "models": "Models",
    "admin": "Keys",
    "server": "Server",
}
HELLO = [{"role": "user", "content": "What model are you?"}]
BODIES: Mapping[str, Any] = {
    "POST /generate": {"prompt": "Where are my prompts stored?", "max_tokens": 32, "seed": 7},
    "POST /generate/stream": {"prompt": "Tell me a short story.", "max_tokens": 16},
    "POST /generate-stream": {"prompt": "Tell me a short story.", "max_tokens": 16},
    "POST /embed": {"model": "{{model}}", "input": ["one text", "another"]},
    "POST /v1/chat/completions": {"model": "{{model}}", "messages": HELLO, "max_completion_tokens": 16},
    "POST /v1/completions": {"model": "{{model}}", "prompt": "Once", "max_tokens": 16},
    "POST /v1/responses": {"model": "{{model}}", "input": "What model are you?", "max_output_tokens": 16},
    "POST /v1/responses/input_tokens": {"model": "{{model}}", "input": "What model are you?"},
    "POST /v1/embeddings": {"model": "{{model}}", "input": "one text"},
    "POST /v1/batches": {
        "input_file_id": "{{file}}",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    },
    "POST /v1/messages": {"model": "{{model}}", "messages": HELLO, "max_tokens": 16},
    "POST /v1/messages/count_tokens": {"model": "{{model}}", "messages": HELLO},
    "POST /api/generate": {"model": "{{model}}", "prompt": "Hello", "stream": False, "options": {"num_predict": 16}},
    "POST /api/chat": {"model": "{{model}}", "messages": HELLO, "stream": False, "options": {"num_predict": 16}},
    "POST /api/embed": {"model": "{{model}}", "input": ["one text"]},
    "POST /api/embeddings": {"model": "{{model}}", "prompt": "one text"},
    "POST /api/show": {"model": "{{model}}"},
    "POST /api/pull": {"model": "no-such-model", "stream": False},
    "DELETE /api/delete": {"model": "no-such-model"},
    "POST /models/pull": {"model": "no-such-model"},
    "POST /models/import": {"path": "no-such-folder"},
    "POST /models/{name}/load": {"keep_alive": 600},
    "POST /admin/keys": {"name": "from postman", "role": "user"},
    "PATCH /admin/keys/{key_id}": {"name": "renamed"},
    "POST /admin/keys/{key_id}/rotate": {},
}
VARIABLES = {
    "baseUrl": "http://127.0.0.1:8000",
    "apiKey": "",
    "model": "guide",
    "record": "0",
    "key": "no-such-key",
    "file": "file-none",
    "batch": "batch_none",
    "response": "resp_none",
}
PLACES = {
    "id": "{{record}}",
    "key_id": "{{key}}",
    "name": "{{model}}",
    "model_id": "{{model}}",
    "file_id": "{{file}}",
    "batch_id": "{{batch}}",
    "response_id": "{{response}}",
}
NOWHERE = {
    "DELETE /models/{name}": {"name": "no-such-model"},
    "POST /models/{name}/unload": {"name": "no-such-model"},
    "DELETE /vault/records/{id}/content": {"id": "no-such-record"},
}
"""What takes away is given a name that there is not: a run of the collection must not cost anybody anything."""
QUERIES = {"DELETE /vault/contents": {"before": "1970-01-02T00:00:00Z"}}
"""Queries that are on from the start, for the same reason."""


def collection() -> dict[str, Any]:
    """The whole file."""
    document = create_app(Settings(), service=None).openapi()
    folders: dict[str, list[dict[str, Any]]] = {}
    for path, operations in sorted(document["paths"].items()):
        for method in METHODS:
            if method in operations:
                operation = operations[method]
                folders.setdefault(operation["tags"][0], []).append(item(method.upper(), path, operation))
    return {
        "info": {
            "_postman_id": str(uuid.uuid5(uuid.NAMESPACE_URL, "minivault")),
            "name": "MiniVault",
            "description": "Written by `python docs/postman.py` from the OpenAPI document; not to be edited.",
            "schema": SCHEMA,
        },
        "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "{{apiKey}}", "type": "string"}]},
        "variable": [{"key": name, "value": value} for name, value in VARIABLES.items()],
        "event": [
            _script("prerequest", ["if (!pm.variables.get('apiKey')) { pm.request.auth = { type: 'noauth' }; }"])
        ],
        "item": [{"name": TITLES[tag], "item": folders[tag]} for tag in TITLES if tag in folders],
    }


def item(method: str, path: str, operation: Mapping[str, Any]) -> dict[str, Any]:
    """One request, and the test that its answer has a status of the document."""
    name = f"{method} {path}"
    query = [one for one in operation.get("parameters", ()) if one["in"] == "query"]
    request: dict[str, Any] = {
        "method": method,
        "header": [],
        "url": _url(name, path, query),
        "description": operation.get("description") or operation.get("summary") or "",
    }
    forms = operation.get("requestBody", {}).get("content", {})
    if "multipart/form-data" in forms:
        request["body"] = {"mode": "formdata", "formdata": [{"key": "purpose", "value": "batch", "type": "text"}]}
    elif "application/json" in forms:
        request["header"] = [{"key": "content-type", "value": "application/json"}]
        request["body"] = {"mode": "raw", "raw": json.dumps(BODIES[name], indent=2, ensure_ascii=False)}
    statuses = sorted(int(status) for status in operation["responses"])
    return {
        "name": f"{operation.get('summary') or name} ({name})",
        "request": request,
        "event": [_script("test", _checks(statuses))],
    }


def _url(name: str, path: str, query: list[Mapping[str, Any]]) -> dict[str, Any]:
    places = PLACES | NOWHERE.get(name, {})
    filled = path.format(**places) if "{" in path else path
    url: dict[str, Any] = {"raw": "{{baseUrl}}" + filled, "host": ["{{baseUrl}}"], "path": filled[1:].split("/")}
    given = QUERIES.get(name, {})
    if query:
        url["query"] = [
            {
                "key": one["name"],
                "value": given.get(one["name"], ""),
                "description": one.get("description", ""),
                "disabled": one["name"] not in given,
            }
            for one in query
        ]
    if given:
        url["raw"] += "?" + "&".join(f"{key}={value}" for key, value in given.items())
    return url


def _checks(statuses: list[int]) -> list[str]:
    return [
        "pm.test('its status is one that the document names', () => {",
        f"  pm.expect(pm.response.code).to.be.oneOf({json.dumps(statuses)});",
        "});",
        "pm.test('the server is not at fault', () => {",
        "  pm.expect(pm.response.code).to.not.equal(500);",
        "});",
        "pm.test('it has a request id', () => {",
        "  pm.response.to.have.header('X-Request-ID');",
        "});",
    ]


def _script(listen: str, lines: list[str]) -> dict[str, Any]:
    return {"listen": listen, "script": {"type": "text/javascript", "exec": lines}}


def text() -> str:
    return json.dumps(collection(), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    if "--check" in sys.argv[1:]:
        sys.exit(int(TARGET.read_text(encoding="utf-8") != text()))
    TARGET.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
