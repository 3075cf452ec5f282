# ruff: noqa: E501  (a pattern stays on one line, however long: it is read and searched as one sentence)
"""What the guide knows about keeping records and running the server for long: erasing, encryption, proofs, operation.

Data only: questions as patterns and the answers that are true of MiniVault 0.2. Knows nothing of how they are used.
"""

from __future__ import annotations

from grammar import Intent

_SAID = "<a record|a prompt|an answer|my prompts|my history|old records|a call|what was said|personal data|my data|the content of a record|somebody's prompts|a conversation>"

KEEPING_INTENTS = (
    Intent(
        "delete",
        "the vault",
        acts=(
            f"<delete|erase|remove|clear|forget|wipe|destroy|purge> {_SAID}",
            "<delete|erase|remove|clear> <everything|all records|the vault|all my data>",
        ),
        asks=(
            "Can I <delete a record|erase what I asked|remove a prompt|delete my data>?",
            "<Delete|Erase|Erase data|vault erase|Right to be forgotten|GDPR>?",
            "What does `minivault vault erase` do?",
            "How is a record <erased|deleted|removed>?",
            "Is what I <wrote|asked> <kept for ever|ever deleted>?",
        ),
        answers=(
            "Run `minivault vault erase ID`: what the call said goes for good, while its records and proofs stay. `--key`, `--after` and `--before` choose many.",
        ),
        follows={
            "<And automatically|And after some days|And by itself>?": "retention",
            "<Can recording be switched off|And not record at all>?": "no_record",
        },
        weight=1.2,
    ),
    Intent(
        "erase_id",
        "the vault",
        acts=("<erase|delete|remove|forget|wipe> <record|the record|record number|call|entry> %num%",),
        answers=("Run `minivault vault erase %num%`.",),
        weight=0.6,
    ),
    Intent(
        "no_record",
        "the vault",
        acts=(
            "<turn off|disable|stop|avoid|switch off> <recording|the vault|logging|the recording of prompts|the history>",
            "<ask|send a prompt|generate> <off the record|without recording|without being recorded|without keeping the text|privately>",
            "<not keep|not store|not save> <my prompt|the text|the content|what I ask>",
        ),
        asks=(
            "Can I <switch recording off|turn recording off|switch off the vault>?",
            "<Turn off recording|Off the record|--no-store|store false|Incognito>?",
            'What <is|does> <`--no-store`|`store`|`"store": false`><| do| for>?',
        ),
        answers=(
            'Recording cannot be turned off: nothing is answered unrecorded. But `minivault generate --no-store "PROMPT"`, or `"store": false`, keeps commitments alone and drops the text.',
        ),
        weight=1.2,
    ),
    Intent(
        "retention",
        "the vault",
        acts=(
            "<erase|delete|remove|forget> <old records|records|prompts|everything> <automatically|after 30 days|after some time|after a while|by itself|regularly>",
            "<set|change|use> <a retention time|the retention|retention|a time after which records go>",
        ),
        asks=(
            "<Retention|Retention period|--retention|Automatic deletion>?",
            "How long are <prompts|records|answers|they> kept?",
            "What is <`retention`|`--retention`|`MINIVAULT_RETENTION`><| for>?",
        ),
        answers=(
            "Set `minivault serve --retention 30` (or `MINIVAULT_RETENTION=30`): what is older than 30 days is erased. The default, 0, keeps it for ever.",
        ),
        weight=0.9,
    ),
    Intent(
        "encrypt",
        "encryption",
        acts=(
            "<encrypt|lock|protect> <the vault|the database|my records|vault.db|the data at rest|my data|the records|what is stored>",
            "<use|turn on|enable|set up> <encryption|encryption at rest|an encrypted vault|vault encryption>",
            "<decrypt|remove the encryption of> the vault",
            "<change|exchange|replace> the <vault key|key of the vault|encryption key>",
        ),
        asks=(
            "Is <the vault|my data|the database|vault.db> encrypted?",
            "Can <the vault|the data|my records> be encrypted?",
            "<Encryption|Encryption at rest|Encrypted vault|vault encrypt|vault_key_file|Is it encrypted>?",
            "What does <`minivault vault encrypt`|`minivault vault decrypt`|`vault_key_file`> do?",
            "What if <my disk|my computer|the disk> is stolen?",
            "Where <goes|is> the <encryption key|key of the vault>?",
        ),
        answers=(
            "Stop the server and run `minivault vault encrypt --key-file FILE`; from then on name that file by `vault_key_file` in `config.toml` or `MINIVAULT_VAULT_KEY_FILE`. `minivault vault decrypt` undoes it.",
        ),
        weight=1.2,
    ),
    Intent(
        "export",
        "exporting the vault",
        acts=(
            "<export|dump|save to a file|extract|download|write out> <my prompts|the prompts|prompts and answers|the records|my history|conversations|the data|everything|my chats|requests|all answers>",
            "<export|dump|extract|copy out|write out> <the vault|the vault to a file|the database|all records|my vault|the records to a file>",
            "<get|take> <my data|the data|the records|everything> <out|out of the vault|as a file|as JSON lines|as JSON>",
            "<make|create> <an export|a dump|a JSON export>",
        ),
        asks=(
            "Can <my data|the records|prompts> be <exported|saved to a file|downloaded>?",
            "I want <a file|a dump|an export> of <all records|my prompts|everything>.",
            "How is <the vault|my data> exported?",
            "<Export|Vault export|Export the vault|Data export|Dump>?",
            "<Can I|Is it possible to> export <the vault|my prompts|the records>?",
            "What does `minivault vault export` do?",
            "<Which|What> export formats <are there|exist>?",
        ),
        answers=(
            "Run `minivault vault export --format jsonl -o FILE`; `csv` and `parquet` are formats too.",
            "Use `minivault vault export --format jsonl -o FILE`: it writes the records as JSON lines. `csv` and `parquet` work as well.",
        ),
        follows={
            "<And how do I verify it|And how do I verify the vault|And verify>?": "verify",
            "<And as Parquet|And parquet>?": "parquet",
        },
        weight=1.4,
    ),
    Intent(
        "parquet",
        "exporting the vault",
        acts=(
            "<export|get|write|save> <Parquet|a Parquet file|parquet files|the vault as Parquet|the records as Parquet|records for pandas|records for DuckDB>",
            "<analyse|analyze|read|open> <the vault|the records|my records> <in|with> <pandas|DuckDB|Polars|Spark|a notebook>",
        ),
        asks=("<Parquet|parquet export|Data frame|pandas>?", "<Does it|Can it> <write|export|support> Parquet?"),
        answers=(
            "Run `pip install 'minivault[parquet]'`, then `minivault vault export --format parquet -o calls.parquet`.",
        ),
        weight=0.8,
    ),
    Intent(
        "csv",
        "exporting the vault",
        acts=(
            "<export|get|write|save> <CSV|a CSV file|the vault as CSV|the records as CSV|a table|records for Excel|records for a spreadsheet>",
            "<open|read|see> <the records|the vault|my records> in <Excel|LibreOffice|a spreadsheet|Numbers>",
        ),
        asks=("<CSV|csv export|Excel|Spreadsheet>?", "<Does it|Can it> <write|export|support> CSV?"),
        answers=("Run `minivault vault export --format csv -o calls.csv`.",),
        weight=0.8,
    ),
    Intent(
        "backup",
        "exporting the vault",
        acts=(
            "<back up|backup|make a backup of|save a copy of|copy|secure> <the vault|my data|MiniVault|my records|everything|the database|vault.db>",
            "<make|take|create> <a backup|backups|a copy of the vault|a safe copy>",
        ),
        asks=(
            "<Backup|Backups|vault backup>?",
            "How do backups work?",
            "What does `minivault vault backup` do?",
            "Can I <back up|copy the vault> while <it|the server> <runs|is running>?",
        ),
        answers=(
            "Run `minivault vault backup FILE`: it copies the vault and verifies the copy, also while a server runs. `minivault vault restore FILE` brings it back.",
        ),
        follows={"<And how do I restore it|And back again|How do I restore>?": "restore"},
        weight=1.2,
    ),
    Intent(
        "restore",
        "exporting the vault",
        acts=(
            "<restore|recover|put back|get back|load|use> <the vault|a backup|my backup|the vault from a backup|my data from a backup|an old vault>",
        ),
        asks=(
            "<Restore|vault restore|Recovery|Restore a backup>?",
            "What does `minivault vault restore` do?",
            "I have a backup. How do I <use|restore> it?",
            "I lost <my vault|vault.db>, but I have a backup.",
        ),
        answers=(
            "Stop the server and run `minivault vault restore FILE`: the backup is verified and put in place. `--replace` puts a vault that is there aside.",
        ),
        weight=0.9,
    ),
    Intent(
        "vault_import",
        "exporting the vault",
        acts=(
            "<bring in|import|take over|load> <old logs|a log.jsonl|old records|an old history|records from elsewhere|my old chats|an old SQLite file>",
        ),
        asks=("What does `minivault vault import` do?", "<vault import|Import old logs>?"),
        answers=(
            "Stop the server and run `minivault vault import FILE` with JSON lines or a SQLite file; the calls are marked as imported.",
        ),
        weight=0.7,
    ),
    Intent(
        "prove",
        "verifying the vault",
        acts=(
            "<prove|show|demonstrate> <that a record is in the vault|a record to someone|to someone that an answer was recorded|to a third party that it was recorded|to others that a call is on record|a record to an auditor>",
            "<get|make|write|export|create> <a proof|the proof of a record|a proof for a record|an inclusion proof>",
            "<check|verify|test> a proof",
        ),
        asks=(
            "<Proof|Proofs|vault prove|Inclusion proof|check-proof|tlog-proof>?",
            "What <does|do> <`minivault vault prove`|`minivault vault check-proof`> do?",
            "Can <a record|an answer> be proven <to others|to a third party|without the vault>?",
            "How does a third party check <a record|a proof|an answer>?",
        ),
        answers=(
            "Run `minivault vault prove ID -o FILE`; anybody can check it without the vault: `minivault vault check-proof FILE --key PUB`.",
        ),
        weight=1.1,
    ),
    Intent(
        "head",
        "verifying the vault",
        acts=(
            "<get|save|keep|print|export|store> <the signed head|the head|a signed head|the tree head|the head of the vault|the public key>",
            "<detect|notice|find out> <missing records|that records were deleted|a vault that was set back|a rollback|deleted records>",
        ),
        asks=(
            "<Signed head|Head|vault head|Tree head|vault.head>?",
            "What is <the signed head|a signed head|vault.head|the head>?",
            "What does `minivault vault head` do?",
            "Can someone <delete|cut off> records <unnoticed|without trace|at the end>?",
        ),
        answers=(
            "Run `minivault vault head -o FILE` and keep the file elsewhere; `minivault vault verify --against FILE` then shows whether any record is missing or changed.",
        ),
        weight=0.9,
    ),
    Intent(
        "stats",
        "the vault",
        acts=(
            "<see|count|show|get> <how many tokens were used|the token usage by day|usage statistics|statistics of the vault|how many calls there were|the usage of a key|tokens by model|usage by key|totals>",
        ),
        asks=(
            "How many <calls|tokens|requests|prompts> <were there|were used|have been used|are in the vault|did a key use>?",
            "<Vault stats|Usage|Usage statistics|Token usage|vault stats>?",
            "What does `minivault vault stats` do?",
            "Who uses <the most tokens|it most>?",
        ),
        answers=("Run `minivault vault stats`: calls, tokens and latency, in all and by day, model and key.",),
    ),
    Intent(
        "audit",
        "replay",
        acts=(
            "<replay|check|rerun|audit> <many records|all records|several answers|random answers|a sample of the answers|the whole vault by replay|200 answers>",
        ),
        asks=(
            "<Audit|Replay all|Replay a sample>?",
            "What does <`--sample`|`--all`> do for replay?",
            "Can I replay <everything|a sample|many records>?",
        ),
        answers=(
            "Run `minivault vault replay --sample 200` for random answers, or `--all` for every one. The exit code is 1 unless all match.",
        ),
        weight=0.9,
    ),
    Intent(
        "from_record",
        "replay",
        acts=(
            "<reuse|give again|return|serve> <recorded answers|an answer from the record|answers from the vault|a cached answer|earlier answers>",
            "<turn on|enable|use> <answers from the record|a cache of answers|answer caching|caching of answers>",
            "answer <a repeated request|the same request|equal requests> from the <record|vault>",
        ),
        asks=(
            "<Answer from the record|Response cache|Cached answers|answer_from_record|Caching>?",
            "What <is|does> <`--answer-from-record`|`answer_from_record`|the header MiniVault-Answer-From-Record>< for|>?",
            "Is the same request <computed again|computed twice|cached>?",
            "<Does it|Can it> <cache answers|answer from the vault|reuse recorded answers>?",
        ),
        answers=(
            "With `minivault serve --answer-from-record` (or the header `MiniVault-Answer-From-Record`), a request that equals a recorded one, seed included, may get the recorded answer without computing it again.",
        ),
        weight=0.8,
    ),
    Intent(
        "doctor",
        "operation",
        acts=(
            "<check|examine|diagnose|test|inspect> <my installation|the installation|my setup|the configuration|the machine|whether everything is set up right|my settings|the whole setup>",
            "<find|see|solve|troubleshoot> <what is wrong|a problem|problems|issues|errors>",
            "<use|run> <the doctor|minivault doctor>",
        ),
        asks=(
            "<Doctor|minivault doctor|Diagnosis|Troubleshooting|Self test|Problems>?",
            "What does `minivault doctor` do?",
            "<Something is wrong|It does not work|Something does not work|I have a problem|I have problems|It is broken><.|, what do I do?|. What now?>",
            "Is my <installation|setup|machine> <ok|fine|good enough|right>?",
        ),
        answers=(
            "Run `minivault doctor`: it checks the machine, the settings, the vault and the models, and says what to do.",
        ),
        weight=1.1,
    ),
    Intent(
        "config_commands",
        "settings",
        acts=(
            "<see|show|print|list> <every setting|the settings in use|all settings|my current settings|the values of the settings|where a setting comes from|the active configuration>",
            "<create|make|write|generate|get> <a config file|config.toml|a configuration file|a template for config.toml|a sample configuration|a default config.toml>",
        ),
        asks=(
            "What <does|do> <`minivault config show`|`minivault config init`|`minivault config path`|`minivault config`> do?",
            "<config show|config init|minivault config|All settings>?",
            "Which value does a setting have<| now>?",
        ),
        answers=(
            "`minivault config show` prints every setting, its value and where it comes from; `minivault config init` writes a `config.toml` to fill in; `minivault config path` tells where it is.",
        ),
        weight=1.1,
    ),
    Intent(
        "benchmark",
        "operation",
        acts=(
            "<measure|benchmark|test|find out> <the speed|how fast it is|the throughput|the performance|tokens per second|the latency|how fast my server is|my server>",
            "<run|make|do> <a benchmark|a load test|a speed test|a performance test>",
            "<compare|measure> the speed of <two servers|another server|servers>",
        ),
        asks=(
            "<Benchmark|minivault benchmark|Load test|Throughput|Speed test>?",
            "What does `minivault benchmark` do?",
            "Is there a <benchmark|load test|speed test>?",
        ),
        answers=(
            "Run `minivault benchmark`: throughput, time to first token and percentiles, as a table, `--json` or a plot with `--svg FILE`. `--url` measures any OpenAI-compatible server.",
        ),
    ),
    Intent(
        "compose",
        "Docker",
        acts=(
            "<run|use|start> <it with Grafana|docker compose|docker-compose|compose|the compose file|it with Prometheus and Grafana|the dashboards|it with docker compose>",
        ),
        asks=(
            "<Docker compose|docker-compose|Compose|Compose file|Grafana dashboard>?",
            "Is there a <compose file|docker-compose file|Grafana dashboard|dashboard for Grafana>?",
        ),
        answers=(
            "`deploy/compose.yaml` runs MiniVault with Prometheus and Grafana: `docker compose -f deploy/compose.yaml up -d`. Its first lines say how to make the keys.",
        ),
        weight=0.8,
    ),
    Intent(
        "systemd",
        "operation",
        acts=(
            "<run|install|use|set it up> <it as a service|as a systemd service|MiniVault as a service|the systemd unit|it in the background|as a daemon|under systemd>",
            "<start|launch> <it|MiniVault|the server> <at boot|when the machine starts|automatically|after a reboot|in the background|on startup>",
        ),
        asks=("<systemd|Service|Daemon|Autostart|systemd unit>?", "Is there a <systemd unit|service file|unit file>?"),
        answers=(
            "Copy `deploy/minivault.service` to `/etc/systemd/system/`, then `systemctl enable --now minivault`. Its data lies in `/var/lib/minivault`.",
        ),
        weight=0.9,
    ),
    Intent(
        "helm",
        "operation",
        acts=(
            "<run|deploy|install|use> <it|MiniVault|the server> <on Kubernetes|in Kubernetes|with Helm|in a cluster|on k8s>",
        ),
        asks=(
            "<Kubernetes|Helm|k8s|Helm chart>?",
            "Is there a <Helm chart|Kubernetes manifest|chart>?",
            "Does it run <on|in> <Kubernetes|k8s>?",
        ),
        answers=("There is a Helm chart in `deploy/helm/minivault`: `helm install minivault deploy/helm/minivault`.",),
        weight=0.8,
    ),
    Intent(
        "news_0_2",
        "what MiniVault is",
        asks=(
            "What is new<| in MiniVault| in 0.2| in version 0.2| in this release>?",
            "What <changed|was added|came> <in|with> <version 0.2|0.2|this release|the new version>?",
            "<Changelog|Release notes|New features|Features>?",
            "<What|Which> features <does it have|are there|does MiniVault have|does version 0.2 have>?",
        ),
        answers=(
            "Version 0.2 has API keys, models pulled from the hub or imported from GGUF, several models at once, embeddings, batches, the OpenAI, Ollama and Anthropic APIs, a web page, and an encrypted vault with proofs.",
        ),
    ),
)
