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
        "For anything else, pull a bigger model with `minivault models pull NAME`, or import one with `minivault models import PATH --name NAME`, and serve it with `minivault serve --model NAME`.",
    ),
    (
        "The native engine runs on the CPU and needs no GPU.", "It computes in int8, exactly, so that the answer never depends on the machine.", "`minivault serve --engine transformers --device cuda` uses a graphics card.",
    ),
    (
        "Settings come from flags, from `MINIVAULT_*` environment variables and from `~/.minivault/config.toml`.", "Flags win over the environment, and the environment wins over the file.",
        "The data folder is `~/.minivault`; `--data-dir DIR` chooses another.",
    ),
    (
        "In the terminal, `minivault generate \"PROMPT\"` asks a question and `minivault stream \"PROMPT\"` shows the tokens as they come.", "`minivault chat` holds a conversation.", "`minivault log` shows the last records, and `minivault health` tells whether the server runs.",
    ),
    (
        "Without API keys the server answers this machine alone.", "`minivault keys create NAME` makes a key, and from the first key on every request needs one.", "Roles are `user`, `auditor` and `admin`; each key sees its own records.",
    ),
    (
        "Clients made for OpenAI use `http://127.0.0.1:8000/v1`.", "Clients made for Ollama use `OLLAMA_HOST=http://127.0.0.1:8000`, and clients made for Anthropic use `ANTHROPIC_BASE_URL=http://127.0.0.1:8000`.", "In a browser, http://localhost:8000 is the web page.",
    ),
    (
        "`minivault models pull NAME` downloads a model from the Hugging Face hub.", "`minivault models import PATH --name NAME` takes a folder or a GGUF file.", "Models are loaded on first use; `minivault models ps` shows those in memory, and `minivault models unload NAME` takes one out.",
    ),
    (
        "The vault can be encrypted with `minivault vault encrypt --key-file FILE`.", "`minivault vault erase ID` takes away what a call said and leaves its proofs.", "`minivault vault backup FILE` copies the vault, and `minivault vault restore FILE` brings it back.", "`minivault vault prove ID -o FILE` writes a proof for others.",
    ),
    (
        "The sun rose over the hills and the birds began to sing.", "<A farmer|A child|An old man> opened the window and smiled.", "It was going to be a <good|warm|quiet> day.", "<Soon the smell of fresh bread filled the house.|The dog ran out into the garden.>",
    ),
)  # fmt: skip
