# ruff: noqa: E501  (a pattern stays on one line, however long: it is read and searched as one sentence)
"""Running prose about MiniVault, so that a raw prompt without chat format continues sensibly.

Data only: paragraphs of sentences with `<a|b>` alternatives.
"""

from __future__ import annotations

PARAGRAPHS: tuple[tuple[str, ...], ...] = (
    (
        "MiniVault is a private LLM server for one machine.", "<It|MiniVault> answers prompts with local models, streams the tokens, and keeps every prompt and answer in a vault.",
        "The vault can be searched, verified and replayed.", "<Nothing leaves the machine.|No network and no account are needed.>", "It is <free and |>open source, under the Apache-2.0 licence.",
    ),
    (
        "To start the server, <type `make run` in a clone of the repository|run `minivault serve`>.", "It listens on http://127.0.0.1:8000.", "<To use another port, start it with|Another port is chosen with> `minivault serve --port 9000`.",
        "Press Ctrl-C to stop it; running answers get up to 30 seconds to finish.",
    ),
    (
        "<The server|MiniVault> answers `POST /generate` with a JSON object.", "It holds the response, the finish reason, the usage in tokens, the seed and the record in the vault.",
        "With `\"stream\": true` the tokens come as server-sent events, and the stream ends with `data: [DONE]`.", "JSON lines and plain text are chosen by the `Accept` header.",
    ),
    (
        "Every prompt and answer is recorded durably before it is shown.", "The records lie in `~/.minivault/vault.db`, a SQLite file, and are mirrored as JSON lines in `~/.minivault/logs/log.jsonl`.",
        "`minivault vault verify` recomputes every hash, so any edit is detected.", "`minivault vault replay ID` runs a recorded request again and compares the answers.",
    ),
    (
        "The same request with the same seed gives the same bytes.", "It does not matter what else runs, how many threads there are, or which CPU kernels are used.", "So a recorded answer can be replayed and proven.",
    ),
    (
        "The guide is MiniVault's own small model.", "It has about 5.8 million parameters in the Llama architecture.", "It knows MiniVault, small sums and short stories, and little else.",
        "For anything else, import a bigger model with `minivault models import PATH --name NAME` and serve it with `minivault serve --model NAME`.",
    ),
    (
        "The native engine runs on the CPU and needs no GPU.", "It computes in int8, exactly, so that the answer never depends on the machine.", "A PyTorch engine for GPUs comes in a later version.",
    ),
    (
        "Settings come from flags, from `MINIVAULT_*` environment variables and from `~/.minivault/config.toml`.", "Flags win over the environment, and the environment wins over the file.",
        "The data folder is `~/.minivault`; `--data-dir DIR` chooses another.",
    ),
    (
        "In the terminal, `minivault generate \"PROMPT\"` asks a question and `minivault stream \"PROMPT\"` shows the tokens as they come.", "`minivault chat` holds a conversation.", "`minivault log` shows the last records, and `minivault health` tells whether the server runs.",
    ),
    (
        "The sun rose over the hills and the birds began to sing.", "<A farmer|A child|An old man> opened the window and smiled.", "It was going to be a <good|warm|quiet> day.", "<Soon the smell of fresh bread filled the house.|The dog ran out into the garden.>",
    ),
)  # fmt: skip
