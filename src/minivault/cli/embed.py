"""``minivault embed``: a vector for each text, one a line. Parses and prints; bounds are the server's to check."""

from __future__ import annotations

import json as json_module
from typing import Annotated, Any

import typer

from minivault.cli import options
from minivault.cli.backend import open_backend
from minivault.cli.console import line, write_json
from minivault.cli.generate import read_prompt

EXAMPLES = """\
Examples:

  minivault embed "a quick brown fox" --model minilm
  minivault embed "one text" "another text" -m minilm --json
  minivault embed - -m minilm --dimensions 64 < text.txt
"""

Texts = Annotated[list[str], typer.Argument(metavar="TEXT", help="What to embed; - reads standard input as one text.")]
Truncate = Annotated[bool, typer.Option("--truncate", help="Cut texts that are too long, rather than refuse them.")]
Dimensions = Annotated[
    int | None, typer.Option("--dimensions", help="So many numbers of each vector, scaled to length 1 again.")
]


def register(app: typer.Typer) -> None:
    app.command("embed", help="Print a vector for each text, one a line, as JSON.", epilog=EXAMPLES)(embed)


def embed(
    texts: Texts,
    model: options.Model = None,
    truncate: Truncate = False,
    dimensions: Dimensions = None,
    json: options.Json = False,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    local: options.Local = False,
    data_dir: options.DataDir = None,
) -> None:
    body: dict[str, Any] = {"input": [read_prompt(text, None) if text == "-" else text for text in texts]}
    body |= {"truncate": True} if truncate else {}
    body |= {name: value for name, value in (("model", model), ("dimensions", dimensions)) if value is not None}
    with open_backend(url=url, api_key=api_key, local=local, data_dir=data_dir, model=model) as backend:
        answer = backend.embed(body)
    if json:
        write_json(answer)
        return
    for vector in answer["embeddings"]:
        line(json_module.dumps(vector))
