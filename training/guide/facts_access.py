# ruff: noqa: E501  (a pattern stays on one line, however long: it is read and searched as one sentence)
"""What the guide knows about who may ask and by what: API keys, the network, other clients, JSON, tools, the web page.

Data only: questions as patterns and the answers that are true of MiniVault 0.2. Knows nothing of how they are used.
"""

from __future__ import annotations

from grammar import Intent

_SOMEBODY = "<a friend|my team|a colleague|another user|someone|other people|my group|a second user|a program|the team|my coworkers|a new employee|a student|my family|users>"

ACCESS_INTENTS = (
    Intent(
        "keys",
        "API keys",
        acts=(
            "<create|make|add|get|generate|set|use|issue|set up|configure|hand out|mint|produce|register> <an API key|API keys|api keys|a key|keys|an access key|an api key|a token for the API|access tokens|a new key|the first key|another key|a secret key>",
            "<protect|secure|lock|close|shut> <the server|it|the API|MiniVault> <with a key|with a password|with API keys|with authentication|with a token|for strangers|>",
            "<turn on|enable|add|use|require> <authentication|auth|a password|login|logins|keys|access control>",
            f"<give|grant|allow|let in|provide> {_SOMEBODY} <access|access to the server|a key|their own key|an account>",
            "<share|use> <the server|MiniVault|it> <with|among> <several people|my team|colleagues|other users|many users|friends>",
            "<have|add|manage|create> <users|several users|accounts|more users|user accounts>",
        ),
        asks=(
            "How are API keys <created|made|used|issued>?",
            "<Is it|Is the server> <protected|password protected|secured by a key>?",
            "Is <a password|a login|authentication|an access token> <needed|required|possible|necessary>?",
            "<Who|Which user> is allowed to use the server?",
            "<Do I need|Is there|Does it need|Does it have|Must I have> <an API key|API keys|a key|authentication|a password|a login|an api key|user accounts>?",
            "<API key|API keys|Authentication|Auth|Keys|Login|Users|Accounts|Multi-user|minivault keys>?",
            "<Does MiniVault|Does the server|Can it> <support|have|know|handle> <API keys|keys|authentication|several users|users|teams>?",
            "What does `minivault keys create` do?",
            "Can several <people|users> <use|share> <it|the server|one server>?",
        ),
        answers=(
            "No key is needed at first: without keys the server answers this machine only. `minivault keys create NAME` makes a key; from the first one on, every request needs one.",
            "Run `minivault keys create NAME`. Before the first key none is needed and only this machine is served; from then on every request needs one.",
        ),
        follows={
            "<So who can use it|Is that safe|Can others reach it|And over the network>?": "host",
            "<And how do I send it|How do I use it|And how do clients send it|Where do I put it>?": "key_send",
            "<And roles|Which roles are there|What roles are there>?": "key_roles",
            "<And how do I take it away|How do I revoke it|And to remove it>?": "key_revoke",
        },
        weight=1.6,
    ),
    Intent(
        "key_send",
        "API keys",
        acts=(
            "<send|pass|show|use|give|supply|present> <my key|the key|the API key|my API key|a key> <|to the server|in a request|with curl|in the CLI|in my program|with each request>",
            "<tell|give> <the CLI|the client|curl|my program> <the key|my API key|which key to use>",
        ),
        asks=(
            "<What is|Where is|Where do I find|Which is> <my|the> <API key|api key|key>?",
            "Which key do I <use|send|need>?",
            "Where do I <put|write|type|set> <my key|the API key|the key>?",
            "<Which|What> <header|HTTP header|variable|environment variable> <carries|holds|is for|takes> the <key|API key>?",
            "<What is|What does> `MINIVAULT_API_KEY`<| do>?",
            "<Why do I get|What means|What does|I get> <401|a 401|error 401|Unauthorized|401 unauthorized><| mean>?",
            "<Authorization header|x-api-key|Bearer token|MINIVAULT_API_KEY>?",
            "How does a <client|program|request> <show|send> its key?",
        ),
        answers=(
            "Programs send `Authorization: Bearer KEY` or `x-api-key: KEY`; the `minivault` commands take it from `MINIVAULT_API_KEY`. A key is printed once, by `minivault keys create NAME`.",
        ),
        weight=1.3,
    ),
    Intent(
        "key_roles",
        "API keys",
        acts=(
            "<make|create|get> <an admin key|a key for an administrator|an admin|an auditor key|a read-only key>",
            "<set|choose|change|pick> the role <of a key|for a key|>",
        ),
        asks=(
            "<What|Which> roles <are there|can a key have|does a key have|do keys have>?",
            "What may <an admin|an auditor|a user|a user key|an admin key|an auditor's key> do?",
            "<Roles|Role|Admin key|Auditor|auditor role|Permissions>?",
            "What is <an auditor|an auditor key|an admin key|the admin role|`--role`|the role of a key><| for>?",
            "<Who|Which key> may <pull models|see all records|manage keys|read everything|see the metrics>?",
            "What is the difference between <user and admin|an admin and an auditor|the roles>?",
            "Is there a <read-only|read only> <role|key>?",
        ),
        answers=(
            "There are three: `user` asks and sees its own records, `auditor` reads and replays all records, `admin` does everything. Choose with `minivault keys create NAME --role admin`.",
        ),
        weight=1.2,
    ),
    Intent(
        "key_list",
        "API keys",
        acts=(
            "<list|see|show|view|display|print> <all keys|the keys|my keys|all API keys|which keys there are|existing keys|who has keys|the API keys>",
        ),
        asks=(
            "<Which|What> keys <are there|exist|do I have|are in use>?",
            "<List keys|keys list|Show keys|All keys>?",
            "What does `minivault keys list` do?",
            "Where are the keys <stored|kept>?",
            "How many keys are there?",
        ),
        answers=(
            "Run `minivault keys list` (`--all` shows revoked ones too). They lie in `~/.minivault/keys.json`, without their secrets.",
        ),
    ),
    Intent(
        "key_revoke",
        "API keys",
        acts=(
            "<revoke|delete|remove|disable|withdraw|cancel|block|invalidate|take away|deactivate|kill> <a key|an API key|the key|somebody's key|the key of a user|an old key|keys|a leaked key|access>",
            "<lock out|shut out|block|ban> <a user|someone|a key|a former colleague>",
        ),
        asks=(
            "<My key leaked|A key was stolen|Someone stole a key|A key is compromised>. <What now|What do I do|How do I block it>?",
            "<Revoke|Revoke a key|keys revoke|Delete a key>?",
            "What does `minivault keys revoke` do?",
            "Can a key be <revoked|removed|blocked|deleted>?",
        ),
        answers=("Run `minivault keys revoke NAME`: the key is out of use at once and for good. Its records stay.",),
    ),
    Intent(
        "key_rotate",
        "API keys",
        acts=(
            "<rotate|renew|replace|change the secret of|refresh|exchange> <a key|an API key|the key|my key|keys|the secret>",
            "<get|make> <a new secret|a new secret for a key>",
        ),
        asks=(
            "I <forgot|have lost|cannot find|no longer have> <my key|the API key|my API key|the secret>.",
            "Can I see <a key|my key|the secret> <again|once more|a second time>?",
            "<Rotate|Key rotation|keys rotate|Lost key>?",
            "What does `minivault keys rotate` do?",
            "What is `--grace` for?",
        ),
        answers=(
            "A key is shown once and only its hash is kept. `minivault keys rotate NAME` gives it a new secret; `--grace 24h` takes the former one for a day more.",
        ),
    ),
    Intent(
        "key_limits",
        "API keys",
        acts=(
            "<limit|restrict|cap|bound> <a key|the tokens of a key|what a key may use|a user|how many tokens a key may use|the requests of a key|how much a user may ask>",
            "<set|give|change> <a token limit|a quota|limits for a key|a limit for a key|quotas|a daily limit|a budget for a key>",
            "let a key <send|use> only <some|a few|%r%> <requests|tokens> <per day|a day|per minute>",
        ),
        asks=(
            "<Quota|Quotas|Token limits|Limits per key|Key limits>?",
            "What does <`--tokens`|`--requests`|`--concurrent`> do?",
            "Can a key have <a limit|its own limit|a quota|a daily budget>?",
            "How do I change the limits of a key?",
        ),
        answers=(
            "With `minivault keys create NAME --requests 60/minute --tokens 500000/day --concurrent 4`. `minivault keys change NAME --tokens 1000000/day` changes it later.",
        ),
    ),
    Intent(
        "key_expires",
        "API keys",
        acts=(
            "<make|create> <a key that expires|a temporary key|a key for a week|a key with an end date|a short-lived key|a key that ends>",
            "let a key <expire|end|run out>",
            "<set|give> <an expiry|an end|an expiry date> <for a key|to a key>",
        ),
        asks=(
            "<Do|Can> keys <expire|end|run out|have an end>?",
            "<Expiry|Key expiry|Temporary key|--expires>?",
            "How long is a key valid?",
        ),
        answers=(
            "A key lasts for ever unless you give it an end: `minivault keys create NAME --expires 7d` (or `12h`, `4w`, a date).",
        ),
        weight=0.8,
    ),
    Intent(
        "key_model",
        "API keys",
        acts=(
            "<bind|tie|restrict|limit> a key to <one model|certain models|some models|a model>",
            "<allow|give> a key only <one model|certain models|some models>",
        ),
        asks=(
            "Can a key be <bound|limited|restricted> to <a model|certain models|one model>?",
            "Which models may a key use?",
        ),
        answers=(
            "Name the models: `minivault keys create NAME --model guide`. `--model` may be given again; without it a key may use all.",
        ),
        weight=0.8,
    ),
    Intent(
        "key_records",
        "API keys",
        asks=(
            "<Can|May|Do> <other users|other keys|colleagues|my colleagues|the others|users> <see|read> <my prompts|my records|each other's prompts|what I asked|my answers>?",
            "<Whose|Which> records does a <key|user> see?",
            "Are the records of <users|keys> <separate|kept apart>?",
            "Does everyone see everything<| in the vault>?",
            "Is the history shared between <users|keys>?",
        ),
        answers=(
            "A user's key sees only its own records, in lists, searches, exports and replays. Auditors and admins see all.",
        ),
    ),
    Intent(
        "tls",
        "the network",
        acts=(
            "<use|turn on|enable|set up|configure|serve over|get|switch on> <HTTPS|https|TLS|tls|SSL|encryption of the connection|an encrypted connection|a certificate>",
            "<install|add|use|give it> a <certificate|TLS certificate|Let's Encrypt certificate|self-signed certificate>",
            "encrypt <the connection|the traffic|requests>",
        ),
        asks=(
            "<Is|Can> the <connection|traffic> <encrypted|be encrypted>?",
            "<HTTPS|TLS|SSL|Certificate|Certificates|tls_cert>?",
            "<Does it|Can it|Does MiniVault> <support|speak|serve|have> <HTTPS|TLS|SSL|https>?",
            "What <is|are> <`--tls-cert`|`tls_cert` and `tls_key`|`--tls-key`><| for>?",
            "Which <flag|setting> <names|takes> the certificate?",
        ),
        answers=(
            "Start it with `minivault serve --tls-cert cert.pem --tls-key key.pem` (settings `tls_cert` and `tls_key`). Without them it is plain HTTP.",
        ),
    ),
    Intent(
        "proxy",
        "the network",
        acts=(
            "<run|put|use> <it|MiniVault|the server> behind <a proxy|nginx|a reverse proxy|Caddy|Apache|a load balancer|Traefik>",
            "<use|set up|configure> <a reverse proxy|nginx|a proxy>",
        ),
        asks=(
            "<Reverse proxy|nginx|Behind a proxy|X-Forwarded-For|trusted_proxies>?",
            "What <is|does> <`trusted_proxies`|`--trusted-proxy`><| do| for>?",
            "All clients have the <same address|address of my proxy>.",
            "What is `--allowed-host`<| for>?",
        ),
        answers=(
            "Name the proxy with `--trusted-proxy ADDRESS` (setting `trusted_proxies`), so that its `X-Forwarded-For` is believed, and your host name with `--allowed-host NAME`.",
        ),
        weight=0.8,
    ),
    Intent(
        "openai",
        "the OpenAI SDK",
        acts=(
            "<use|connect|work with|plug in|use it with|call it with|use it from> <the OpenAI SDK|the OpenAI client|OpenAI's Python library|openai|the openai package|the OpenAI API|LangChain|an OpenAI client|OpenAI tools|the OpenAI library|chat completions|LlamaIndex|LiteLLM|my OpenAI code>",
            "<replace|swap|substitute> OpenAI <with|by> <MiniVault|it|this server>",
            "<move|migrate|switch> from OpenAI<| to MiniVault>",
        ),
        asks=(
            "I <have|use|wrote> <a program for OpenAI|code for the OpenAI API|the OpenAI SDK>. <Can I use it|Will it work|How do I connect it>?",
            "Can <OpenAI clients|OpenAI programs|the OpenAI SDK|programs written for OpenAI> <use|talk to|reach> <it|MiniVault|the server>?",
            "<Is it|Is MiniVault|Is the server|Is the API> <OpenAI compatible|OpenAI-compatible|compatible with OpenAI|compatible with the OpenAI SDK>?",
            "<Does it|Can it|Does MiniVault> <speak|support|offer|have|work with> <the OpenAI API|OpenAI|the OpenAI SDK|/v1/chat/completions|chat completions|LangChain|the OpenAI client|/v1/responses|the Responses API>?",
            "<OpenAI|OpenAI SDK|OpenAI API|/v1/chat/completions|LangChain|base_url|OPENAI_BASE_URL>?",
            "<What|Which> <base_url|base URL> <do I use|do I set|for the OpenAI SDK|is it>?",
        ),
        answers=(
            'Yes: use `base_url="http://127.0.0.1:8000/v1"` (or `OPENAI_BASE_URL`) and any `api_key` while the server has no keys. Chat completions, completions, responses, embeddings, files and batches work.',
            'Set `base_url="http://127.0.0.1:8000/v1"` (or `OPENAI_BASE_URL`); any `api_key` will do while the server has no keys.',
        ),
        follows={
            "<And with curl|And without the SDK|And plain HTTP>?": "curl",
            "<And Ollama clients|And Ollama|and ollama>?": "ollama",
            "<And Anthropic|And Claude's SDK|And the Anthropic SDK>?": "anthropic",
        },
        weight=1.6,
    ),
    Intent(
        "ollama",
        "Ollama clients",
        acts=(
            "<use|connect|work with|plug in|use it with|call it with|use it from> <an Ollama client|Ollama clients|Ollama|ollama|the Ollama CLI|Open WebUI|tools made for Ollama|the ollama command|my Ollama tools>",
            "<replace|swap|substitute> Ollama <with|by> <MiniVault|it|this server>",
            "<move|migrate|switch> from Ollama<| to MiniVault>",
        ),
        asks=(
            "I <have|use> <an Ollama client|programs for Ollama|Ollama>. <Can I use it|Will it work|How do I connect it>?",
            "Can <Ollama clients|Ollama programs|programs made for Ollama> <use|talk to|reach> <it|MiniVault|the server>?",
            "<Is it|Is MiniVault|Is the server> <Ollama compatible|Ollama-compatible|compatible with Ollama>?",
            "<Does it|Can it|Does MiniVault|Do> <speak the Ollama API|support Ollama clients|work with Ollama|support Ollama|work with ollama clients>?",
            "<Ollama|Ollama clients|Ollama API|OLLAMA_HOST|Open WebUI>?",
            "Do Ollama <clients|tools> work<| with it>?",
        ),
        answers=(
            "Yes: set `OLLAMA_HOST=http://127.0.0.1:8000`. Generating, chat, embeddings, the list of models, pull and delete work.",
            "Set `OLLAMA_HOST=http://127.0.0.1:8000`, or serve on Ollama's own port with `minivault serve --port 11434`.",
        ),
        follows={"<And OpenAI|And the OpenAI SDK>?": "openai"},
        weight=1.5,
    ),
    Intent(
        "anthropic",
        "Anthropic clients",
        acts=(
            "<use|connect|work with|plug in|use it with|call it with|use it from> <the Anthropic SDK|the anthropic package|Anthropic's API|the Anthropic API|Claude Code|Anthropic clients|an Anthropic client|the Claude SDK|the Messages API>",
            "<replace|swap> <Anthropic|Claude> <with|by> MiniVault",
        ),
        asks=(
            "<Does it|Can it|Does MiniVault> <speak|support|offer|work with> <the Anthropic API|Anthropic|the Anthropic SDK|/v1/messages|the Messages API|Claude's API>?",
            "<Is it|Is the server> compatible with <Anthropic|Claude|the Anthropic SDK>?",
            "<Anthropic|Anthropic SDK|Anthropic API|/v1/messages|ANTHROPIC_BASE_URL|count_tokens>?",
            "Can <Anthropic clients|programs for Claude|the Claude SDK> <use|talk to> <it|MiniVault|the server>?",
            "I <have|use> code for <the Anthropic API|Claude>. Will it work?",
            "Which <APIs|API surfaces|surfaces> does it <have|speak|support>?",
        ),
        answers=(
            "Yes: set `ANTHROPIC_BASE_URL=http://127.0.0.1:8000`; `/v1/messages` works, with streaming, tools and `count_tokens`. OpenAI's API is under `/v1`, Ollama's under `/api`.",
        ),
        weight=1.2,
    ),
    Intent(
        "json_format",
        "options of a request",
        acts=(
            "<get|force|make it answer in|have the answer in|demand|return> <JSON|valid JSON|structured output|a JSON object|JSON answers|structured data>",
            "<use|follow|enforce|apply> <a JSON schema|a schema|a JSON Schema|a grammar|a regular expression|a regex>",
            "<constrain|hold|restrict> the <answer|output> to <a schema|a grammar|JSON|a regular expression|a form>",
        ),
        asks=(
            "<Structured output|JSON mode|JSON schema|response_format|Grammar|Regex>?",
            "<Does it|Can it> <support|do|have> <JSON mode|structured output|JSON schemas|grammars|response_format>?",
            "What is `response_format`<| for>?",
            "Can the answer <be|always be> <valid JSON|JSON|of a certain form>?",
        ),
        answers=(
            "Send `response_format`: `json_object`, `json_schema` with a `schema`, `regex` or `grammar` (Lark). Sampling is held to it, so the form is always kept.",
        ),
    ),
    Intent(
        "tools",
        "options of a request",
        acts=(
            "<use|call|give it|define|pass|offer> <tools|functions|function calling|tool calls|tool calling|a tool>",
        ),
        asks=(
            "<Tools|Function calling|Tool calling|Tool use|Functions|tool_choice>?",
            "<Does it|Can it|Does MiniVault> <support|do|have|know> <tools|function calling|tool calls|tool use>?",
            "Can the model call <functions|tools|my functions>?",
            "Which surfaces take tools?",
        ),
        answers=(
            "Yes: send `tools` to `/v1/chat/completions`, `/v1/messages` or `/api/chat`. Calls that are asked for always fit the tool's schema.",
        ),
        weight=0.9,
    ),
    Intent(
        "images",
        "options of a request",
        acts=("<send|use|upload|attach|show it> <an image|images|pictures|a photo|a PDF|audio|sound|a screenshot>",),
        asks=(
            "<Does it|Can it|Can you|Does MiniVault> <see|understand|take|support|read> <images|pictures|photos|audio|PDFs|vision>?",
            "<Images|Vision|Multimodal|Audio|Pictures>?",
        ),
        answers=("No: images, sound and documents are refused in this version; MiniVault works with text.",),
        weight=0.8,
    ),
    Intent(
        "web",
        "the web page",
        acts=(
            "<open|use|see|find|reach|view> <the web page|the web interface|the web UI|the browser interface|the GUI|the page|the dashboard|the user interface|the chat page>",
            "<chat|use it|talk to it|ask something> <in|with|from> <the browser|a browser|my web browser|a web page|Firefox|Chrome>",
            "<compare|put side by side> <two models|two answers|two seeds|models>",
        ),
        asks=(
            "<Is there|Does it have|Has it> <a web page|a web interface|a GUI|a web UI|a chat page|a user interface|a UI|a dashboard|something for the browser>?",
            "<Web page|Web UI|GUI|Browser|Web interface|UI|User interface|Frontend>?",
            "What can I do in the <browser|web page|web UI>?",
            "I <do not like|don't like|hate> the <terminal|command line>.",
            "Which screens does the web page have?",
            "Where is the <web page|chat page|web UI>?",
        ),
        answers=(
            "Open http://localhost:8000 in a browser: chat, comparing two models, the vault with its proofs, models, live plots and keys. Nothing is loaded from elsewhere.",
        ),
        follows={
            "<And in the terminal|And without a browser>?": "chat",
            "<And the API docs|Where are the API docs>?": "docs_page",
        },
        weight=1.3,
    ),
)
