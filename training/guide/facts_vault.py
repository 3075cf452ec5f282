# ruff: noqa: E501  (a pattern stays on one line, however long: it is read and searched as one sentence)
"""What the guide knows about the vault: where records lie, searching, exporting, verifying, replaying, privacy.

Data only: questions as patterns and the answers that are true of MiniVault 0.2. Knows nothing of how they are used.
"""

from __future__ import annotations

from grammar import Intent

_RECORDS = "<my prompts|the prompts|prompts|the answers|answers|prompts and answers|the records|my history|the history|conversations|my conversations|my questions|the data|everything|interactions|my chats|chats|requests>"

VAULT_INTENTS = (
    Intent(
        "storage",
        "where prompts are stored",
        acts=(
            f"find <where|the place where> {_RECORDS} <is|are> <stored|kept|saved>",
            f"find {_RECORDS}",
            "<locate|find> <the vault|the database|vault.db|the vault file|the data folder>",
        ),
        asks=(
            "In <which|what> <file|database|folder> are <my prompts|answers|the records|prompts> <kept|stored|saved>?",
            "Are <my prompts|answers|conversations|questions> <saved|kept|stored|recorded|logged>?",
            "Which file do my <prompts|answers> go to?",
            f"Where <is|are> {_RECORDS} <stored|kept|saved|recorded|written|put>?",
            f"Where <does it|does MiniVault|does the server|do you> <store|keep|save|put|write|record> {_RECORDS}?",
            "Where is the <vault|database|data|vault file|data folder|data directory>?",
            f"<Does it|Does MiniVault|Do you> <save|record|keep|store|log|remember> {_RECORDS}?",
            "<Storage|Data location|Vault location|Database>?",
            "<Which|What> <database|file|format|folder> <does it use|holds the records|are the records in|holds my prompts>?",
            "What happens to <my prompts|what I type|my questions|my data>?",
            "What is <in |>vault.db?",
            "Is there a history<| of my prompts>?",
        ),
        answers=(
            "In the vault: `~/.minivault/vault.db`, a SQLite file. Each prompt and answer is recorded there before it is shown, and mirrored as JSON lines in `~/.minivault/logs/log.jsonl`.",
            "Every prompt and answer is recorded in `~/.minivault/vault.db` (SQLite) and mirrored in `~/.minivault/logs/log.jsonl`.",
        ),
        follows={
            "<And how do I search it|How do I search them|And how do I find one|Can I search there>?": "search",
            "<Can I change the folder|And how do I change that|Can I put it elsewhere|how do I move it>?": "data_dir",
            "<And how do I export them|Can I export it|And to export them>?": "export",
            "<Can I read it with SQL|And with SQL|And with sqlite3>?": "sql",
            "<Can someone change it|Is it safe from edits|And if someone edits it>?": "verify",
        },
        weight=2.0,
    ),
    Intent(
        "folders",
        "where prompts are stored",
        asks=(
            "What is in <~/.minivault|the data folder|the minivault folder|the data directory>?",
            "<Which|What> files <are|lie|does it keep> in <~/.minivault|the data folder>?",
            "How is the data folder laid out?",
        ),
        answers=(
            "`~/.minivault` holds `vault.db` (the vault), `logs/log.jsonl` (its mirror), `models/` (your models), `keys.json` (API keys, hashed), `cache/` and `config.toml` (settings).",
        ),
    ),
    Intent(
        "sql",
        "where prompts are stored",
        acts=(
            "<read|query|open|look into|inspect> <the vault|vault.db|the database|the records> <with|using|in> <SQL|sqlite|sqlite3|SQLite|a SQL query|a database tool>",
            "<use|write> <SQL|a SQL query> on <the vault|my records>",
        ),
        asks=(
            "What is the <interactions view|view interactions|schema|`interactions` view>?",
            "<SQL|sqlite3|SQL query|Interactions view>?",
            "<Which|What> <table|view|columns> <do I query|does the vault have|holds the prompts>?",
        ),
        answers=(
            "Query the view `interactions(id, prompt, response, timestamp)`:\n```\nsqlite3 ~/.minivault/vault.db 'SELECT * FROM interactions'\n```",
        ),
    ),
    Intent(
        "mirror",
        "where prompts are stored",
        asks=(
            "What is <log.jsonl|the mirror|the JSON lines file|logs/log.jsonl>?",
            "<Is there|Are the records also in> a <text file|plain file|JSON lines file><| with the records>?",
            "What is the difference between <vault.db and log.jsonl|the vault and the log>?",
        ),
        answers=(
            "`~/.minivault/logs/log.jsonl` mirrors the vault as JSON lines, one record a line. The vault itself is `~/.minivault/vault.db`.",
        ),
    ),
    Intent(
        "vault_what",
        "the vault",
        asks=(
            "What is <the vault|a vault|the vault for|the ledger>?",
            "<Why|What for> <a vault|do I need a vault|is there a vault|record everything|does it record everything|are prompts recorded>?",
            "<Explain|Describe|Tell me about> the vault.",
            "How does <the vault|recording> work?",
            "<The vault|Vault|Vault commands>?",
            "<Which|What> vault commands <are there|exist|does it have>?",
            "What can I do with <the vault|my records>?",
            "When <is|are> <a prompt|an answer|prompts|answers> recorded?",
        ),
        answers=(
            "The vault records every prompt and answer durably before it is shown. Its commands are `minivault vault list`, `show`, `search`, `export`, `verify`, `replay`, `prove`, `erase`, `backup` and `encrypt`.",
            "It is the append-only book of all prompts and answers, kept in `~/.minivault/vault.db`. Use `minivault vault list`, `show`, `search`, `export`, `verify`, `replay`, `prove`, `erase`, `backup` and `encrypt`.",
        ),
        follows={
            "<And how do I search it|How do I search>?": "search",
            "<And what does verify do|And verify>?": "verify",
            "<And replay|What does replay do>?": "replay",
            "<And where is it|Where is it>?": "storage",
        },
        weight=1.2,
    ),
    Intent(
        "vault_list",
        "the vault",
        acts=(
            f"<list|see|show|browse|view|look at|display> {_RECORDS}",
            "<see|show|list> <all|old|earlier|past|previous> <prompts|answers|records|requests|questions|entries>",
            "<see|list|show> <what I asked|what was asked|what I asked before|what is in the vault|the contents of the vault>",
            "<list|browse> <the vault|vault records>",
        ),
        asks=(
            "What <have I asked|did we ask|is in my history>?",
            "Show me <my prompts|all prompts|old answers|the history>.",
            "What does `minivault vault list` do?",
            "<List records|vault list|List the vault|My history>?",
            "What did I ask <before|yesterday|last week|earlier>?",
        ),
        answers=(
            "Run `minivault vault list`, and `minivault vault show ID` for one record.",
            "Use `minivault vault list`; to see one record in full, `minivault vault show ID`.",
        ),
        follows={
            "<And one of them|And how do I see one in full|And a single one>?": "vault_show",
            "<And how do I search|Can I search>?": "search",
        },
        weight=1.2,
    ),
    Intent(
        "vault_show",
        "the vault",
        acts=(
            "<see|show|open|read|view|print|look up|look at> <one record|a record|a single record|one entry|a single answer|a particular record|a record in full|an old answer|one prompt|a specific answer>",
        ),
        asks=("What does `minivault vault show` do?", "<Show a record|vault show>?"),
        answers=("Run `minivault vault show ID`; `minivault vault list` tells you the IDs.",),
    ),
    Intent(
        "vault_show_id",
        "the vault",
        acts=("<see|show|open|read|view|print|look at> <record|entry|the record|record number|interaction> %num%",),
        answers=("Run `minivault vault show %num%`.",),
        weight=0.7,
    ),
    Intent(
        "search",
        "searching the vault",
        acts=(
            f"<search|search through|search in|look through|find something in|query|scan> {_RECORDS}",
            "<search|query|look through|find things in> <the vault|my vault|the database|old answers|past prompts>",
            "<find|look for|find again|look up> <an old answer|a prompt again|an earlier prompt|a word in my prompts|a prompt with a word|an earlier conversation|a past answer|something I asked|an answer from last week|what I asked about a topic>",
        ),
        asks=(
            "Can <the vault|old prompts|records> be searched?",
            "I <forgot|lost|need> <an old answer|an earlier prompt|an answer from last month>. How do I find it?",
            "I am looking for <an old prompt|an earlier answer|something I asked>.",
            "<Search|Search the vault|vault search|Full-text search|Find a prompt>?",
            "<Can I|Is it possible to> search <the vault|my prompts|old answers>?",
            "What does `minivault vault search` do?",
            "<Is there|Does it have> a search?",
            "Is the vault searchable?",
        ),
        answers=(
            "Run `minivault vault search WORDS`.",
            "Use `minivault vault search WORDS`; then `minivault vault show ID` shows a hit in full.",
        ),
        follows={
            "<And export them|And how do I export them|How do I export that>?": "export",
            "<And how do I open a hit|And one of the hits>?": "vault_show",
        },
        weight=1.4,
    ),
    Intent(
        "search_words",
        "searching the vault",
        acts=(
            "<search|search the vault|search my prompts|search my history|look|search the records> for %w%",
            "<find|look up> <prompts|answers|records|everything> <about|with the word|that mention> %w%",
        ),
        answers=("Run `minivault vault search %w%`.",),
        weight=1.0,
    ),
    Intent(
        "export_file",
        "exporting the vault",
        acts=(
            "export <the vault|everything|my prompts|the records> to %file%",
            "<dump|write|save> <the vault|all records|my history> <to|into> %file%",
        ),
        answers=("Run `minivault vault export --format jsonl -o %file%`.",),
        weight=0.7,
    ),
    Intent(
        "verify",
        "verifying the vault",
        acts=(
            "<verify|check|validate|audit|prove|test> <the vault|the records|the integrity of the vault|the hashes|my vault|the integrity|the integrity of my records|that nothing was changed|that no record was changed>",
            "<detect|find|notice|see|discover> <changes|tampering|an edit|manipulation|edits|whether someone changed a record|whether records were changed|if the database was edited|forged records>",
            "<make sure|be sure> that <nothing was changed|no one edited the vault|the records are untouched|nobody changed my records>",
        ),
        asks=(
            "Has <someone|anyone> <changed|edited|touched> <my records|the vault|a record>?",
            "How is <the vault|integrity> <checked|verified|proven>?",
            "Can <the vault|records> be <verified|checked|trusted>?",
            "<Verify|Vault verify|Integrity check|Tampering|Integrity>?",
            "<Can|Could> <someone|anyone|I|an attacker> <change|edit|forge|alter|tamper with> <a record|the vault|the records|old answers>?",
            "Is the vault <tamper-proof|tamper-evident|safe from edits|trustworthy>?",
            "What does `minivault vault verify` do?",
            "What happens <if|when> someone <edits|changes> <a record|the database|vault.db>?",
            "How do I know that nothing was <changed|edited|altered>?",
        ),
        answers=(
            "Run `minivault vault verify`: it recomputes every hash, so any edit is detected.",
            "Use `minivault vault verify`. It recomputes every hash and detects any edit.",
        ),
        follows={"<And replay|What is replay|And how do I replay one>?": "replay"},
        weight=1.5,
    ),
    Intent(
        "replay",
        "replay",
        acts=(
            "<replay|repeat|rerun|run again|re-run|reproduce> <a record|an answer|a recorded answer|a request|an old request|a recorded request|one record|a recorded prompt|an earlier answer|an interaction>",
            "<prove|show|check> that <an answer|a record|a recorded answer> <is genuine|is real|can be reproduced|came from the model|is right|is authentic>",
            "use replay",
            "<check|test> whether <the same answer comes again|an old answer is still the same|a record is reproducible>",
        ),
        asks=(
            "Can <a record|an answer|an old request> be <replayed|repeated|run again>?",
            "How is <a record|an answer> replayed?",
            "Would the model give the same answer <again|today> as <in the record|back then|before>?",
            "<Replay|vault replay|What is replay|What is replay for>?",
            "What does `minivault vault replay` do?",
            "What <does|do|is|means> <MATCH|MISMATCH|NOT COMPARABLE|MATCH and MISMATCH><| mean>?",
            "<Replay|Rerun> <says|printed|gives|shows> <MISMATCH|NOT COMPARABLE|MATCH>.",
            "How does replay work?",
        ),
        answers=(
            "Run `minivault vault replay ID`: it runs the recorded request again and compares. The result is MATCH, MISMATCH or NOT COMPARABLE.",
            "Use `minivault vault replay ID`. It runs the recorded request again, compares the answers, and says MATCH, MISMATCH or NOT COMPARABLE.",
        ),
        follows={"<Why does that work|Why can it be the same>?": "seed"},
        weight=1.5,
    ),
    Intent(
        "replay_id",
        "replay",
        acts=("<replay|rerun|run again|repeat> <record|entry|request|number|the record> %num%",),
        answers=("Run `minivault vault replay %num%`.",),
        weight=0.7,
    ),
    Intent(
        "offline",
        "offline use",
        acts=(
            "<use|run> <it|MiniVault|minivault|the server|the model> <offline|without internet|without a network|with no internet|without an internet connection|on a plane|in an air-gapped network|without wifi>",
        ),
        asks=(
            "Is <the internet|an internet connection|a network|wifi|an account> <needed|required|necessary>?",
            "Can I <switch off|turn off|disconnect> <the network|wifi|the internet>?",
            "<Does it|Does MiniVault|Will it|Can it> <work|run> <offline|without internet|without a network|with no internet connection|when the network is down|without wifi|on an air-gapped machine>?",
            "<Does it|Do I|Does MiniVault> need <the internet|an internet connection|internet|a network|to be online|network access|an account|a cloud account|to register>?",
            "<Offline|Offline use|Internet needed|Air gap|No internet>?",
            "Is <it|MiniVault> <a cloud service|online|in the cloud|local>?",
            "What if I have no <internet|network|connection>?",
            "<Do I|Must I> <sign up|register|log in|create an account|have an account>?",
        ),
        answers=(
            "Yes, MiniVault works offline: it needs no network and no account, and nothing leaves the machine.",
            "MiniVault works fully offline. It needs no network and no account; only `minivault models pull` downloads anything.",
        ),
        follows={"<And is my data private|And my prompts>?": "privacy"},
        weight=1.5,
    ),
    Intent(
        "privacy",
        "privacy",
        asks=(
            "Is <my text|my prompt|anything> <sent|uploaded> <somewhere|to the internet|to a company|to your makers>?",
            "Are my <questions|prompts|secrets> <safe|private|secret>?",
            "<Is it|Is MiniVault|Is my data|Are my prompts|Is this> <private|safe|secure|confidential|kept private>?",
            "<Who|Who else> can <see|read> <my prompts|my data|what I write|my questions|my answers>?",
            "<Do you|Does it|Does MiniVault> <send|share|upload|sell|leak|transmit> <my data|my prompts|anything|data|telemetry|anything to the internet|data to the cloud|my questions|statistics>?",
            "<Privacy|Data protection|Telemetry|Tracking>?",
            "Does <it|MiniVault> <phone home|have telemetry|track me|spy on me|call home>?",
            "Does <anything|my data|my text|what I type> leave <my machine|the machine|my computer>?",
            "Where do my prompts go?",
            "Can I trust <you|it> with <secrets|private data|confidential text>?",
        ),
        answers=(
            "Nothing leaves your machine: no cloud, no account, no telemetry. Prompts and answers stay in `~/.minivault`; only a remote model that you add yourself gets prompts elsewhere.",
            "Yes, it is private. Nothing leaves the machine, prompts and answers stay in `~/.minivault`, and the server listens on 127.0.0.1 only.",
        ),
        follows={"<And where exactly|Where is it kept>?": "storage"},
        weight=1.3,
    ),
)
