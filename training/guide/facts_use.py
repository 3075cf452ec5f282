# ruff: noqa: E501  (a pattern stays on one line, however long: it is read and searched as one sentence)
"""What the guide knows about asking: curl, Python, streaming, options, the CLI, other clients, seeds.

Data only: questions as patterns and the answers that are true of MiniVault 0.2. Knows nothing of how they are used.
"""

from __future__ import annotations

from grammar import Intent

_ASK = "<ask it|ask the model|ask a question|send a prompt|send a question|query the model|make a request|call the server|call the API|talk to the server|talk to the model|generate text|get an answer|use the API|use the server|post a prompt|send a request|prompt the model|ask something|query the server|use it>"

USE_INTENTS = (
    Intent(
        "curl",
        "asking with curl",
        acts=(
            f"{_ASK} <with|using|by|via|through> <curl|cURL|a curl command|HTTP|a POST request|the HTTP API>",
            f"{_ASK} <over|through> <HTTP|REST|the REST API>",
            _ASK,
            "<use|call> <curl|the HTTP API|the generate endpoint|POST /generate> <|to ask something|to send a prompt|with MiniVault>",
        ),
        asks=(
            "How is <a prompt|a question|a request> <sent|posted> <with curl|to the server|over HTTP>?",
            "What does a <call|curl call|request> look like?",
            "I <have|use> curl. How do I <ask|send a prompt>?",
            "<Give|Show|Write> me <a|the|an example> curl <command|example|call|request>.",
            "<What is|What's> the curl <command|call|request> <|to ask something|to generate text|for a prompt>?",
            "<curl|curl example|Curl command|HTTP API|REST API|POST /generate|API example>?",
            "<What|Which> <endpoint|URL|path|route> <generates text|do I post to|answers prompts|takes prompts|do I call>?",
            "What does <a request|the request body|the JSON> look like?",
            "What <is|does> <POST /generate|the generate endpoint>< for| do|>?",
        ),
        answers=(
            "Like this:\n```\ncurl -X POST localhost:8000/generate -H 'Content-Type: application/json' -d '{\"prompt\": \"What model are you?\"}'\n```",
            "Post JSON to `/generate`:\n```\ncurl -X POST localhost:8000/generate -H 'Content-Type: application/json' -d '{\"prompt\": \"What model are you?\"}'\n```",
        ),
        follows={
            "<And in Python|In Python|And from Python|how do I do that in python|The same in Python>?": "python",
            "<And how do I stream it|How do I stream it|And streaming|Can I stream it|and streamed>?": "stream_curl",
            "<What comes back|What does it return|What is in the answer|And the answer>?": "answer_fields",
            "<And which options are there|Which options can I set|And other options>?": "options",
            "<And without curl|And from the command line|Is there something shorter>?": "cli_generate",
        },
        weight=2.0,
    ),
    Intent(
        "curl_prompt",
        "asking with curl",
        acts=(
            'ask "%q%" with curl',
            'send "%q%" with curl',
            'send the prompt "%q%" <with curl|over HTTP|to the server>',
        ),
        asks=(
            '<Show|Give> me the curl command <for|to ask|for the prompt> "%q%".',
            'curl <command|call> <for|for the prompt> "%q%"?',
        ),
        answers=(
            "```\ncurl -X POST localhost:8000/generate -H 'Content-Type: application/json' -d '{\"prompt\": \"%q%\"}'\n```",
        ),
        weight=0.8,
    ),
    Intent(
        "answer_fields",
        "asking with curl",
        asks=(
            "What <comes back|does it return|is in the answer|does the response contain|does the answer look like|is in the response|does the server return|does the JSON answer contain>?",
            "<Which|What> fields <does the answer have|are in the response|does the response have|are returned|come back>?",
            "What does the <response|answer|reply|output|JSON response> <look like|contain|hold>?",
            "<Response format|Answer fields|Response JSON|Output format>?",
            "<How|Where> do I see <the token usage|how many tokens were used|the usage|token counts|the number of tokens>?",
            "<What is|What does> `finish_reason`<| mean>?",
            "<What is|What does> `usage`<| mean>?",
        ),
        answers=(
            "A JSON object with `id`, `model`, `response`, `finish_reason`, `usage` (`prompt_tokens`, `completion_tokens`, `total_tokens`), `generated_at`, `seed` and `record` (`index` and `leaf` in the vault).",
        ),
        weight=1.2,
    ),
    Intent(
        "python",
        "asking from Python",
        acts=(
            f"{_ASK} <from|in|with|using> <Python|python|a Python script|Python code|a Python program|requests|a notebook>",
            "<use|call> <MiniVault|the server|it|the API> <from|in|with> <Python|python|my Python program|a script|code>",
        ),
        asks=(
            "How is the server <called|asked|used> from Python?",
            "I <program in|like|have> Python. How do I <ask|use it|send a prompt>?",
            "Python <snippet|program> for <asking|a prompt|the API>?",
            "<Python|Python example|Python client|Python code|In Python>?",
            "<Give|Show> me <a Python example|the Python code|python code|an example in Python>.",
            "Is there a Python <client|example|library|package>?",
            "Can Python <talk to|ask|use|call> <the server|it|MiniVault>?",
        ),
        answers=(
            'With `requests`:\n```python\nimport requests\nanswer = requests.post("http://127.0.0.1:8000/generate", json={"prompt": "Hello"})\nprint(answer.json()["response"])\n```',
        ),
        follows={
            "<And streaming|And how do I stream|And streamed|how do I stream that in python>?": "python_stream",
            "<And with curl|With curl|And from the shell>?": "curl",
        },
        weight=1.3,
    ),
    Intent(
        "python_stream",
        "streaming",
        acts=(
            "<stream|read a stream|get a stream|stream an answer|stream tokens|read tokens as they come> <from|in|with> <Python|python|a Python script>",
        ),
        asks=("<Streaming|Stream> in Python?", "How does streaming <work in|look in> Python?"),
        answers=(
            'Read JSON lines from `/generate/stream`:\n```python\nimport json, requests\nreply = requests.post("http://127.0.0.1:8000/generate/stream", json={"prompt": "Hello"}, stream=True)\nfor line in reply.iter_lines():\n    print(json.loads(line).get("response", ""), end="")\n```',
        ),
    ),
    Intent(
        "stream",
        "streaming",
        acts=(
            "<stream|stream out> <an answer|the answer|answers|tokens|the tokens|a response|the output|responses|text|output|the reply|a reply|replies>",
            "<get|see|receive|show|print> <the tokens|tokens|the answer|the output|words|the text|the words|each token> <as they come|one by one|token by token|while it is generated|live|in real time|word by word|piece by piece|immediately|as it is written|step by step>",
            "<turn on|enable|use|activate|switch on> <streaming|stream mode|the stream option|streamed answers>",
        ),
        asks=(
            "Can <answers|tokens|the answer> be streamed?",
            "I want <the answer|tokens|words> <while it is written|as soon as they are there|at once|bit by bit>.",
            "How are <tokens|answers> streamed?",
            "I don't want to wait for the whole answer.",
            "<Can it|Does it|Does MiniVault|Can the server|Does the server> <stream|support streaming|do streaming|stream answers|stream tokens>?",
            "<Streaming|Stream|Streaming mode>?",
            "<Is there|Is> <a streaming mode|streaming supported|streaming|streaming possible>?",
            "How does streaming work?",
            "<Which|What> <stream formats|streaming formats|formats of streaming|kinds of stream> <are there|does it have|exist|are supported>?",
        ),
        answers=(
            'Add `"stream": true` to the JSON body of `POST /generate` and you get SSE; or run `minivault stream "PROMPT"`. With `Accept: application/x-ndjson` you get JSON lines, with `Accept: text/plain` plain text.',
            'Put `"stream": true` into the body of `POST /generate` (SSE). `Accept: application/x-ndjson` gives JSON lines and `Accept: text/plain` plain text. In the terminal: `minivault stream "PROMPT"`.',
        ),
        follows={
            "<And with curl|With curl|Show me that with curl|how does that look with curl>?": "stream_curl",
            "<And in Python|In Python>?": "python_stream",
            "<And as JSON lines|As JSON lines|And NDJSON>?": "ndjson",
            "<And plain text|As plain text|And as text>?": "plain",
            "<What does SSE look like|And what is SSE|what do the events look like>?": "sse",
        },
        weight=1.8,
    ),
    Intent(
        "stream_curl",
        "streaming",
        acts=(
            "<stream|stream an answer|stream tokens|get a stream|stream the answer|read a stream|stream a prompt|stream the output> <with|using|in|via|by> <curl|a curl command|cURL>",
            "<use|get> streaming with curl",
            "make curl <stream|show the tokens as they come|print tokens at once>",
        ),
        asks=(
            "<Give|Show> me a curl command <that streams|with streaming|for streaming>.",
            "<curl streaming|Streaming with curl|curl -N|stream curl example>?",
            "<What is|What's> the curl <command|call> <for streaming|to stream|that streams>?",
            "What does `curl -N` do?",
            "Why does curl not show the tokens at once?",
        ),
        answers=(
            'Use `-N` so that curl shows tokens at once:\n```\ncurl -N -X POST localhost:8000/generate -H \'Content-Type: application/json\' -d \'{"prompt": "Hello", "stream": true}\'\n```',
        ),
        follows={
            "<And as plain text|As plain text>?": "plain",
            "<And as JSON lines|As JSON lines>?": "ndjson",
            "<and in Python|In Python>?": "python_stream",
        },
        weight=1.2,
    ),
    Intent(
        "sse",
        "streaming",
        acts=(
            "<get|use|receive|read|parse|stream with|stream as> <SSE|server-sent events|Server-Sent Events|an event stream|events>",
        ),
        asks=(
            "I <want|need|prefer> <SSE|server-sent events|an event stream>.",
            "What comes at the end of <the stream|an SSE stream>?",
            "<SSE|Server-sent events|Event stream>?",
            "What <does|do> <an SSE stream|the SSE stream|the events|server-sent events|an event> look like?",
            "<How|When> does the <SSE stream|stream|event stream> end?",
            "What <is|does> `data: [DONE]`<| mean>?",
            "Does it <support|speak|do> SSE?",
            "What is the default stream format of /generate?",
        ),
        answers=(
            'Send `"stream": true` to `POST /generate`. Each event is `data: {"token": ...}`, and the stream ends with `data: [DONE]`.',
        ),
    ),
    Intent(
        "ndjson",
        "streaming",
        acts=(
            "<get|use|receive|stream|read|stream as|have the answer as> <JSON lines|NDJSON|ndjson|newline-delimited JSON|json lines|jsonl|lines of JSON|one JSON object per line>",
        ),
        asks=(
            "I <want|need|prefer> <JSON lines|NDJSON>.",
            "Can the <stream|answer> be <NDJSON|JSON lines>?",
            "<JSON lines|NDJSON|ndjson|Newline-delimited JSON>?",
            "<Does it|Can it> <support|stream|send|speak> <NDJSON|JSON lines|ndjson|newline-delimited JSON>?",
            "What <does|do> <the JSON lines|a JSON lines stream|the NDJSON stream> look like?",
            "<Which|What> <header|Accept header|endpoint> gives <JSON lines|NDJSON>?",
        ),
        answers=(
            'Send the header `Accept: application/x-ndjson`, or post to `/generate/stream`. Each line is `{"response": ...}` and the last has `"done": true`.',
        ),
    ),
    Intent(
        "plain",
        "streaming",
        acts=(
            "<get|use|receive|stream|read|stream as|have the answer as> <plain text|text|raw text|text only|only the text|just the text|the answer without JSON|pure text>",
        ),
        asks=(
            "I <want|need|prefer> <plain text|only the text|text>.",
            "Can the <stream|answer> be plain text?",
            "<Plain text|Text only|text/plain|Without JSON>?",
            "<Can it|Does it> <send|stream|return|give> <plain text|only text|raw text>?",
            "<Which|What> <header|Accept header|endpoint> gives <plain text|text|raw text>?",
            "I <don't want JSON|want no JSON|want only the text>.",
        ),
        answers=(
            "Send the header `Accept: text/plain`, or post to `/generate-stream`:\n```\ncurl -N -X POST localhost:8000/generate-stream -H 'Content-Type: application/json' -d '{\"prompt\": \"Hello\"}'\n```",
        ),
        weight=1.1,
    ),
    Intent(
        "stream_endpoints",
        "streaming",
        asks=(
            "What is the difference between <`/generate/stream` and `/generate-stream`|/generate/stream and /generate-stream|/generate-stream and /generate/stream|the stream endpoints|the two stream endpoints>?",
            "What <is|does> <`/generate/stream`|/generate/stream|`/generate-stream`|/generate-stream>< for| do|>?",
            "<Which|What> <endpoints|paths|routes|URLs> <stream|are for streaming|can stream>?",
            "<Stream endpoints|Streaming endpoints>?",
        ),
        answers=(
            '`POST /generate/stream` streams JSON lines by default, and `POST /generate-stream` streams plain text by default. `POST /generate` streams SSE with `"stream": true`.',
        ),
    ),
    Intent(
        "options",
        "options of a request",
        acts=(
            "<set|change|use|pass|give> <options|parameters|sampling parameters|generation options|sampling options|request options>",
            "<control|tune|influence|adjust> <the sampling|the generation|how it answers|sampling>",
        ),
        asks=(
            "<What|Which> <options|parameters|sampling parameters|fields|settings> <can a request have|does /generate take|can I send|are there for a request|does a request take|can I set in a request>?",
            "<Options|Parameters|Sampling|Request options|generation parameters>?",
        ),
        answers=(
            "In the JSON body beside `prompt`: `max_tokens` (default 256), `temperature`, `top_p`, `top_k`, `min_p`, `stop`, `seed`, `system`, `raw`, `echo` and `stream`.",
        ),
        follows={
            "<And the temperature|What is temperature>?": "temperature",
            "<And the seed|What is the seed for>?": "seed",
            "<How do I make answers longer|And the length>?": "max_tokens",
        },
    ),
    Intent(
        "max_tokens",
        "options of a request",
        acts=(
            "<get|have|make|allow> <longer answers|a longer answer|shorter answers|a shorter answer|more tokens|long answers|more text>",
            "<limit|set|change|raise|cap> <the length|the length of the answer|the number of tokens|the answer length|max_tokens|how long answers are|how much it writes>",
        ),
        asks=(
            "My answer is <cut|cut off|too short>.",
            "I want <longer|shorter> <answers|texts>.",
            "Why <is|was> <the answer|my answer|the output|the text> <cut off|so short|truncated|incomplete>?",
            "What is `max_tokens`?",
            "<Max tokens|Answer length|Longer answers>?",
            "How long can <an answer|answers|the answer> be?",
            "The answer stops <too early|in the middle>.",
        ),
        answers=(
            'Set `max_tokens` in the request, for example `{"prompt": "Hello", "max_tokens": 500}`. The default is 256.',
        ),
    ),
    Intent(
        "temperature",
        "options of a request",
        acts=(
            "<set|change|use|lower|raise> <the temperature|temperature|top_p|top_k|min_p|the randomness>",
            "<get|have|make> <more creative|more varied|less random|different|more random> <answers|output|text>",
        ),
        asks=(
            "What <is|does> <`temperature`|temperature|`top_p`|`top_k`|the temperature><| do| for>?",
            "<Temperature|Top-p|Greedy decoding|Randomness>?",
            "How do I get <greedy|the most likely> <answers|output|decoding>?",
        ),
        answers=(
            'Send `"temperature"` in the request: 0 always takes the most likely token, higher values vary more. `top_p`, `top_k` and `min_p` narrow the choice.',
        ),
    ),
    Intent(
        "stop_words",
        "options of a request",
        acts=(
            "<stop|end|cut off> <the answer|generation|the output|it> <at a word|at a certain string|at a string|when it writes a certain word>",
            "<use|set> <stop strings|stop words|stop sequences|a stop string|the stop option>",
        ),
        asks=(
            "What <is|does> <`stop`|the stop option|a stop string><| do| for>?",
            "<Stop strings|Stop sequences|Stop words>?",
        ),
        answers=(
            'Send `"stop"` with one or more strings, for example `{"prompt": "Count", "stop": ["5"]}`. The answer ends before the first of them.',
        ),
    ),
    Intent(
        "system",
        "options of a request",
        acts=(
            "<set|give|use|send|change|add> <a system prompt|the system prompt|a system message|instructions|system instructions|a role>",
        ),
        asks=(
            "<System prompt|System message>?",
            "<Is there|Can I set> a system <prompt|message>?",
            "What is `system` for?",
        ),
        answers=('Send `"system"` beside the prompt: `{"system": "Answer briefly.", "prompt": "Hello"}`.',),
    ),
    Intent(
        "raw",
        "options of a request",
        asks=(
            'What <is|does> <`raw`|the raw option|`"raw": true`|raw mode><| do| for>?',
            "<Raw mode|Raw prompt>?",
            "What <is|does> <`echo`|the echo option><| do| for>?",
        ),
        acts=(
            "<send|use> a raw prompt",
            "<send|use> a prompt without the chat <template|format>",
            "<turn off|skip|switch off> the chat template",
        ),
        answers=(
            '`"raw": true` sends the prompt to the model without the chat template, so it simply continues the text. `"echo": true` puts the prompt in front of the answer.',
        ),
    ),
    Intent(
        "seed",
        "seeds and determinism",
        acts=(
            "<set|use|choose|fix|give|send> <a seed|the seed|seeds|a random seed>",
            "<get|have|make> <the same answer|identical answers|repeatable answers|reproducible answers|the same output|reproducible results|the same text> <|again|every time|twice|each time>",
            "<repeat|reproduce> <an answer|a result|the same answer|results>",
        ),
        asks=(
            "I want <the same answer|identical text|equal answers> <again|every time|twice>.",
            "Will I get the same <text|answer> <again|tomorrow|on another machine>?",
            "<Is it|Is MiniVault|Are answers|Is the output|Are the answers> <deterministic|reproducible|repeatable>?",
            "What is <the seed|`seed`|a seed><| for>?",
            "<Seed|Determinism|Reproducibility|Same answer twice>?",
            "Why <do I get|does it give> <different answers|another answer each time|a different answer every time>?",
            "Does the same <seed|request> give the same <answer|bytes|output|text>?",
            "<Does|Do> <other requests|other users|the load|the batch|running others at the same time|the CPU> <change|influence|affect> <my answer|the answer|the output>?",
        ),
        answers=(
            'Send a `seed`, for example `{"prompt": "Hello", "seed": 42}`. The same request with the same seed gives the same bytes, whatever else runs, with any number of threads and any CPU kernels.',
            "The same request with the same `seed` gives the same bytes, whatever else runs, on any number of threads and any CPU kernels. Each answer names its `seed`, so you can send it again.",
        ),
        follows={"<And how do I prove it|Can I prove that|How can I check that>?": "replay"},
        weight=1.3,
    ),
    Intent(
        "seed_number",
        "seeds and determinism",
        acts=("<use|set|send|ask with> <seed|the seed> %num%",),
        answers=('Put it into the request: `{"prompt": "Hello", "seed": %num%}`.',),
        weight=0.6,
    ),
    Intent(
        "cli",
        "the CLI",
        acts=(
            "use <the CLI|the command line|the terminal|the minivault command|the command line tool|the command-line client>",
        ),
        asks=(
            "<What|Which> commands <are there|does it have|exist|can I use|does minivault have|does the CLI have|do you know|are available>?",
            "<CLI|Commands|Command line|CLI commands|List of commands|All commands|minivault commands>?",
            "<Is there|Does it have> <a CLI|a command line|a command line tool|a command-line client|a terminal client>?",
            "What can I do <on|from|in> the <command line|terminal|shell>?",
            "<List|Show|Name> <all|the> commands.",
        ),
        answers=(
            "`minivault serve`, `generate`, `stream`, `chat`, `embed`, `batch`, `health`, `doctor`, `benchmark`, `log`, `version`, and the groups `models`, `keys`, `config` and `vault`. Each has `--help`.",
        ),
        follows={
            "<How do I ask something|And how do I ask a question|And to ask>?": "cli_generate",
            "<And to chat|How do I chat>?": "chat",
            "<And without a server|Do they need a server>?": "local",
        },
        weight=1.2,
    ),
    Intent(
        "cli_generate",
        "the CLI",
        acts=(
            f"{_ASK} <from|on|in|with|via|through> <the command line|the terminal|the shell|the CLI|a terminal|the minivault command|bash|the console>",
            "<use|call|run> <minivault generate|the generate command|`minivault generate`>",
        ),
        asks=(
            "How is <a question|a prompt> asked <in the terminal|on the command line>?",
            "I want <one answer|an answer> in my <terminal|shell|console>.",
            "What does `minivault generate` do?",
            "<minivault generate|CLI ask|Ask in the terminal|Prompt from the shell>?",
            "<Which|What> command <asks|sends|generates|answers> <a question|a prompt|text>?",
        ),
        answers=(
            'Run `minivault generate "PROMPT"`. To see the tokens as they come, use `minivault stream "PROMPT"`.',
            'Type `minivault generate "What model are you?"`; `minivault stream` does the same but shows the tokens as they come.',
        ),
        follows={
            "<And without a server|Does it need a server>?": "local",
            "<And for a conversation|And to chat>?": "chat",
        },
        weight=1.3,
    ),
    Intent(
        "cli_stream",
        "the CLI",
        acts=(
            "<stream|stream an answer|stream tokens|see tokens as they come|stream a prompt> <from|on|in|with> <the command line|the terminal|the shell|the CLI|a terminal|the minivault command>",
        ),
        asks=(
            "What does `minivault stream` do?",
            "<minivault stream|CLI streaming>?",
            "What is the difference between `minivault generate` and `minivault stream`?",
        ),
        answers=(
            'Run `minivault stream "PROMPT"`: it prints the tokens as they come. `minivault generate "PROMPT"` prints the answer at the end.',
        ),
    ),
    Intent(
        "cli_prompt",
        "the CLI",
        acts=(
            'ask "%q%" <in the terminal|from the command line|with the CLI|on the command line|in the shell>',
            '<run|send> the prompt "%q%" <in the terminal|from the shell|with the CLI>',
        ),
        answers=('Run `minivault generate "%q%"`.',),
        weight=0.7,
    ),
    Intent(
        "chat",
        "the CLI",
        acts=(
            "<chat|have a conversation|have a chat|talk|hold a conversation|have a dialogue|talk interactively|chat interactively> <with the model|with it|in the terminal|with you|with the guide|on the command line>",
            "<start|open|begin> <a chat|a conversation|an interactive session|the chat|chat mode>",
        ),
        asks=(
            "I want to <chat|have a chat|talk with you in the terminal>.",
            "How do we <chat|have a conversation>?",
            "<Chat|Interactive mode|Chat mode|Conversation|minivault chat>?",
            "<Is there|Does it have> <an interactive mode|a chat mode|a chat|a chat in the terminal>?",
            "What does `minivault chat` do?",
        ),
        answers=(
            "Run `minivault chat`: it holds a conversation in the terminal.",
            "Type `minivault chat` for a conversation in the terminal.",
        ),
        weight=1.1,
    ),
    Intent(
        "url",
        "the CLI",
        acts=(
            "<use|point|connect|send> <the CLI|minivault|the client|the command line client> <with|to|at> <another server|a server elsewhere|a different server|another URL|a server on another port|a remote server>",
            "<tell|show> <the CLI|the client|minivault> <where the server is|which server to use|the server's address|the URL>",
        ),
        asks=(
            "What <is|does> <`--url`|`-u`|`MINIVAULT_URL`|MINIVAULT_URL><| for| do>?",
            "<Which|What> <flag|option|variable> names the server<| for the CLI>?",
        ),
        answers=(
            'Use `-u` or `--url`, for example `minivault generate -u http://127.0.0.1:9000 "Hello"`, or set `MINIVAULT_URL`.',
        ),
    ),
    Intent(
        "local",
        "the CLI",
        acts=(
            "<ask|generate|use it|get an answer|run a prompt|ask something|use minivault|run the model|use the model> <without a server|without starting a server|with no server running|without the server>",
        ),
        asks=(
            "<Do I need|Does it need|Does the CLI need> <a server|a running server|to start a server first>?",
            "What <is|does> `--local`<| for| do>?",
            "<Without a server|No server|local mode>?",
            "<Is it recorded|Are answers recorded> with `--local`?",
        ),
        answers=(
            'Add `--local`: `minivault generate --local "PROMPT"` runs without a server, and it is recorded in the vault too.',
        ),
        weight=1.1,
    ),
    Intent(
        "cli_version",
        "the CLI",
        acts=(
            "<see|show|find|check|get|print> <the version|which version I have|my version|the installed version|the version number>",
        ),
        asks=(
            "What <version of MiniVault|MiniVault version> <is this|do I have|is running|is installed>?",
            "<Version|minivault version|MiniVault version>?",
        ),
        answers=("Run `minivault version`. I know MiniVault 0.2.0.",),
    ),
)
