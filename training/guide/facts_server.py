# ruff: noqa: E501  (a pattern stays on one line, however long: it is read and searched as one sentence)
"""What the guide knows about running the server: starting, port, stopping, Docker, settings, limits, health.

Data only: questions as patterns and the answers that are true of MiniVault 0.2. Knows nothing of how they are used.
"""

from __future__ import annotations

from grammar import Intent

SERVER_INTENTS = (
    Intent(
        "start",
        "starting the server",
        acts=(
            "<start|launch|run|boot|bring up|fire up|get|spin up|turn on|begin|open|execute|power up> <the server|MiniVault|minivault|the minivault server|my server|the service|it|the LLM server|this server|the API|a server|the program|the application|the app|your server>",
            "<get|bring> <MiniVault|the server|minivault|it|the service> <up and running|going|running|started|up|online|working|to run>",
            "<start serving|serve|begin serving> <prompts|the model|the embedded model|a model|requests|the guide|answers>",
            "get started<| with MiniVault| with this| quickly>",
            "<start|run|launch> <everything|the whole thing|the server> <the first time|for the first time|from a clone|from the repository|from the command line|in the terminal|locally|on my machine|on my laptop>",
            "set up <MiniVault|minivault|the server|everything> <|for the first time|and run it|and start it>",
        ),
        asks=(
            "How <is|do you get> the <server|service> <started|brought up|running>?",
            "How can <the server|MiniVault> be <started|brought up|run>?",
            "<I want to begin|I want to use MiniVault|I want the server to run|I would like the service to run>. <What do I type|How|What now|What is the command>?",
            "How <does|do> <the server|one|minivault|MiniVault> <start|get started>?",
            "<What|Which> command <starts|launches|runs|boots|brings up> <the server|MiniVault|minivault|the service>?",
            "<Server|MiniVault|Service> <start|startup|start command|quick start|launch>?",
            "<Quickstart|Getting started|Quick start|First steps>",
            "The server is not running<.|, what now?|, what do I do?|. How do I start it?>",
            "<What do I do|What should I do|Where do I begin|What comes> <first|to begin|after cloning|after the clone|after git clone|at the start>?",
            "<I cloned|I have cloned|I just cloned|I downloaded|I have> the <repository|repo|code>, <what now|what next|now what|how do I run it>?",
            "<What does|What is|What happens with|Explain> `make run`<| do| for>?",
            "<What does|What is> `minivault serve`<| do| for>?",
        ),
        answers=(
            "In a clone, type `make run`: it sets everything up and serves the embedded model on http://127.0.0.1:8000. If MiniVault is installed, use `minivault serve`.",
            "Type `make run` in the clone of the repository. With MiniVault installed, run `minivault serve`. The server then listens on http://127.0.0.1:8000.",
            "Run `minivault serve`, or `make run` in a fresh clone, which sets everything up first. It serves the embedded model on http://127.0.0.1:8000.",
        ),
        follows={
            "<And how do I|how do I|How can I> <stop|end|shut down|quit> <it|the server|it again>?": "stop",
            "<And on|On|And> <another|a different|some other> port?": "port",
            "<And then|And now|What next|What now|Then what|And how do I ask something>?": "curl",
            "<How do I change the port|Can I change the port|and the port>?": "port",
            "<Is it|How do I see that it is|How do I know it is> <running|up|working>?": "health",
            "<And with Docker|In Docker|in a container>?": "docker",
        },
        weight=2.0,
    ),
    Intent(
        "install",
        "starting the server",
        acts=(
            "<install|set up|build|compile|obtain> <MiniVault|minivault|it|this|the software|the program|the package> <|on my machine|from source|on Linux|on a Mac|from scratch>",
        ),
        asks=(
            "What <do I need|is needed|is required> <for MiniVault|to install MiniVault|to build MiniVault|before I install it|to build it>?",
            "What are the <requirements|system requirements|prerequisites|dependencies>?",
            "Which Python <version|do I need|version do I need|is needed>?",
            "<Do I need|Is there a need for> a <compiler|C++ compiler>?",
            "<Installation|Install|Setup|Requirements>",
        ),
        answers=(
            "Clone the repository and type `make run`: it builds and sets up everything, then serves on http://127.0.0.1:8000. You need Python 3.11 or newer, a C++20 compiler and make.",
            "You need Python 3.11 or newer, a C++20 compiler and make. Then type `make run` in a clone of the repository; it sets everything up.",
        ),
        follows={
            "<And then|What next|How do I start it>?": "start",
            "<And how do I start it later|and the next time>?": "start",
        },
    ),
    Intent(
        "address",
        "starting the server",
        asks=(
            "<What|Which> <address|URL|url|port|endpoint|host and port> <does|will> <the server|MiniVault|it|minivault> <listen on|use|run on|serve on|answer on><| by default>?",
            "<Where|On which port|On what address> <does|is> <the server|MiniVault|it> <listening|running|listen|reachable|serving>?",
            "What is the <default|standard|usual> <port|address|host|URL>?",
            "<Default port|Server address|Server URL|Base url>",
            "Where <do|can> I <find|reach|connect to|open> the server<| in my browser>?",
            "What is the <URL|address> of the <server|API>?",
        ),
        answers=(
            "The server listens on http://127.0.0.1:8000 by default, so only this machine can reach it. Change it with `--host` and `--port`.",
            "By default it is http://127.0.0.1:8000. It binds 127.0.0.1 only; use `--port` and `--host` to change that.",
        ),
        follows={
            "<And how do I change it|How do I change that|Can I change it|how can I change the port>?": "port",
            "<Can other machines reach it|And from another machine>?": "host",
        },
    ),
    Intent(
        "port",
        "changing the port",
        acts=(
            "<change|set|choose|pick|alter|modify|switch|configure|select|adjust|specify|override> the <port|server port|TCP port|port number|listening port|port of the server|port it listens on>",
            "<use|run on|start on|serve on|listen on|move to|bind> <another port|a different port|some other port|a custom port|a new port|my own port>",
            "<start|run|launch> <the server|MiniVault|it|minivault> on <another|a different|some other|a free|a custom|an alternative> port",
            "make <it|the server|MiniVault> <listen on|use|run on> <another|a different|some other> port",
        ),
        asks=(
            "How <is|can> the port <changed|set|be set|be configured|be chosen>?",
            "Is the port <configurable|fixed|adjustable>?",
            "I <do not like|cannot use|do not want> port 8000.",
            "It should <use|listen on|run on> <another|a different> port.",
            "<Port 8000|The port|port 8000|That port> is <already |><in use|taken|busy|occupied|used><, what now?|. What can I do?|. What now?|>",
            "<Address already in use|address in use|Error: address already in use>",
            "<Something else|Another program> <uses|is using|runs on> port 8000<.|, what do I do?>",
            "<Can|Does> <the server|MiniVault|it> <use|run on|listen on> <another|a different> port?",
            "<Change port|Port setting|Set port|Another port|port change|Where is the port set|Which flag sets the port>?",
            "What is the <flag|option|switch|setting> for the port?",
        ),
        answers=(
            "Use `minivault serve --port 9000`. You can also set the environment variable `MINIVAULT_PORT=9000`, or write `port = 9000` in `~/.minivault/config.toml`.",
            "Start it with `minivault serve --port 9000`, set `MINIVAULT_PORT=9000`, or put `port = 9000` in `~/.minivault/config.toml`.",
        ),
        follows={
            "<And|and> <with|through|by> an environment variable?": "port_env",
            "<And|and> in the <config file|settings|configuration>?": "port_config",
            "<And the host|And the address|And the host name>?": "host",
            "<Which one wins|What wins if I set both|Which has priority>?": "precedence",
        },
        weight=1.5,
    ),
    Intent(
        "port_number",
        "changing the port",
        acts=(
            "<start|run|launch|serve|open|bring up|have|put> <the server|MiniVault|it|minivault> on port %port%",
            "<use|listen on|serve on|run on|switch to|move to|change to> port %port%",
            "<change|set|switch> the <port|server port> to %port%",
            "make <it|the server|MiniVault> <listen on|use|run on> port %port%",
        ),
        asks=(
            "<Can it|Can the server|Can MiniVault> <run|listen> on port %port%?",
            "<Port|port> %port%<?| please|, please>",
            "<I want it|It should run|I want the server|It should listen> on port %port%.",
        ),
        answers=(
            "Run `minivault serve --port %port%`. `MINIVAULT_PORT=%port%` or `port = %port%` in `~/.minivault/config.toml` does the same.",
            "Use `minivault serve --port %port%`, or set `MINIVAULT_PORT=%port%`.",
        ),
        weight=1.5,
    ),
    Intent(
        "port_env",
        "changing the port",
        acts=(
            "<set|change|choose> the port <with|by|through|using|via> <an environment variable|an env var|the environment|an env variable>",
        ),
        asks=(
            "<Which|What> <environment variable|env var|env variable> <sets|changes|is for|controls> the port?",
            "<Port|port> <as an environment variable|env var>?",
        ),
        answers=("Set `MINIVAULT_PORT`, for example `MINIVAULT_PORT=9000 minivault serve`.",),
        follows={"<And|and> in the <config file|settings|configuration>?": "port_config"},
    ),
    Intent(
        "port_config",
        "changing the port",
        acts=(
            "<set|change|choose|fix> the port <in|with|through> <the config file|config.toml|the configuration|the settings file|the configuration file>",
            "<make|keep> the <port|new port> <permanent|for good|for ever>",
        ),
        asks=("<How|Where> do I <write|put> the port in <config.toml|the config file>?",),
        answers=("Write `port = 9000` in `~/.minivault/config.toml` and start the server again.",),
    ),
    Intent(
        "host",
        "changing the port",
        acts=(
            "<reach|use|access|open|connect to> <the server|MiniVault|it> from <another machine|other machines|another computer|my phone|the network|my LAN|outside|a different computer>",
            "<listen on|bind to|expose it on|bind> <all interfaces|0.0.0.0|another address|the network|the LAN|another host|every interface>",
            "<change|set> the <host|address|bind address|listening address|interface>",
            "<expose|share|open> <the server|MiniVault|it> <to|on|in> <the network|my network|the LAN|other people|my colleagues|others>",
        ),
        asks=(
            "Can <the server|it> be <reached|used|seen> from <other machines|outside|the network|my tablet>?",
            "<Can|May> <other machines|others|other people|my phone|someone else|other computers> <reach|use|connect to|access> <the server|it|MiniVault>?",
            "Is <the server|it|MiniVault> <reachable from outside|open to the network|visible on the network|exposed to the network|public>?",
            "What does `--host` do?",
            "<Which interfaces|Which address> does <it|the server> bind<| to>?",
        ),
        answers=(
            "By default it binds 127.0.0.1, so only this machine can reach it. To open it to your network, make a key with `minivault keys create NAME --role admin`, then run `minivault serve --host 0.0.0.0`.",
            "Make a key with `minivault keys create NAME --role admin`, then run `minivault serve --host 0.0.0.0`. Without a key it listens on 127.0.0.1 only.",
        ),
        follows={
            "<And API keys|Can I use API keys|And with a key>?": "keys",
            "<and the port|How do I change the port>?": "port",
        },
    ),
    Intent(
        "stop",
        "stopping the server",
        acts=(
            "<stop|end|shut down|quit|terminate|kill|halt|close|turn off|exit|switch off|bring down|shutdown|finish|interrupt> <the server|MiniVault|it|minivault|the service|my server|the running server|the minivault server|the process|it again|it cleanly|the program|the app>",
            "<get out of|leave> the server",
        ),
        asks=(
            "How is the server <stopped|shut down|ended>?",
            "How can <the server|it> be <shut down|ended|stopped|killed>?",
            "<It should stop|I am done|I want it to end|The server must stop>. <How|What do I press|What now>?",
            "Which key <stops|ends> <it|the program>?",
            "<What|Which> command <stops|ends|kills|shuts down> <the server|MiniVault|it>?",
            "What happens to <running|open|unfinished|current> <answers|requests|streams> when <I stop the server|the server stops|I press Ctrl-C|it stops>?",
            "<Is it safe|Is it ok|Is it okay> to <stop|kill|interrupt> <the server|it|MiniVault> <|while it is answering|in the middle of an answer|with Ctrl-C>?",
            "<Do|Will> I lose <data|anything|answers> <when I stop it|if I stop the server|with Ctrl-C>?",
            "<Stop server|Server stop|Shutdown|Graceful shutdown|stop command>?",
        ),
        answers=(
            "Press Ctrl-C in its terminal, or send SIGTERM with `kill PID`. Running answers get up to 30 seconds to finish, and everything acknowledged is kept.",
            "Press Ctrl-C in the terminal where it runs (or `kill PID`). It lets running answers finish for up to 30 seconds; nothing that was acknowledged is lost.",
        ),
        follows={
            "<And how do I start it again|How do I start it again|and start it again|And how do I restart it>?": "start",
            "<Is anything lost|Do I lose data>?": "crash",
        },
        weight=1.5,
    ),
    Intent(
        "restart",
        "stopping the server",
        acts=(
            "<restart|reboot|reload|start again> <the server|MiniVault|it|minivault>",
            "stop and start <the server|it> again",
        ),
        asks=("<Restart|Server restart|reload>?",),
        answers=(
            "Press Ctrl-C to stop it, then run `minivault serve` (or `make run` in a clone) again. The vault keeps everything.",
        ),
    ),
    Intent(
        "crash",
        "stopping the server",
        asks=(
            "What happens <if|when> <the server|it|MiniVault|the machine|my computer> <crashes|dies|is killed|loses power|breaks down>?",
            "<Is anything lost|What is lost|Do I lose answers|Is my data safe|Are my records safe> <after a crash|when the power fails|if it crashes|after a power cut|with kill -9>?",
            "What does <interrupted|the outcome interrupted> mean?",
        ),
        answers=(
            "Everything that was acknowledged is kept: each prompt and answer is durable in the vault before it is shown. A call that was cut off is marked `interrupted` at the next start.",
        ),
    ),
    Intent(
        "docker",
        "Docker",
        acts=(
            "<run|use|start|launch|deploy|put|try|host> <MiniVault|the server|it|minivault> <in Docker|with Docker|in a container|in a docker container|as a container|as a docker container|using docker|inside docker|through docker>",
            "<build|make|create|get> <a Docker image|the docker image|the container image|an image|a container|the container>",
            "<use|run> <docker|Docker|the Dockerfile|a container|containers|podman>",
        ),
        asks=(
            "How is the <image|container> <built|run|started>?",
            "<I like|I use|We use> <containers|Docker>. <How do I run MiniVault|What is the command>?",
            "Is there a <Docker image|Dockerfile|container|docker image|container image>?",
            "<Does it|Does MiniVault|Will it|Can it> <run in|work in|work with|support> <Docker|a container|containers|docker>?",
            "<Docker|Docker command|docker run|Containers|Container image|dockerfile>?",
            "Where is the Dockerfile?",
            "<Which|What> docker <command|commands|command line> do I <need|use|run>?",
        ),
        answers=(
            "Build the image, then run it:\n```\ndocker build -f deploy/Dockerfile -t minivault .\ndocker run -p 127.0.0.1:8000:8000 -v minivault:/data minivault\n```",
            "With two commands: `docker build -f deploy/Dockerfile -t minivault .` and then `docker run -p 127.0.0.1:8000:8000 -v minivault:/data minivault`. The vault lives in the volume `minivault`.",
        ),
        follows={
            "<Where is the data then|Where are the records then|And the data|where does it keep the vault>?": "docker_data",
            "<And without Docker|Without docker>?": "start",
        },
        weight=1.4,
    ),
    Intent(
        "docker_data",
        "Docker",
        asks=(
            "Where <is|are> the <data|records|vault|prompts> <in Docker|in the container|when I use docker|with docker>?",
            "What is the <volume|/data folder> for?",
            "<Does|Will> the vault survive <when I remove the container|a new container|a container restart>?",
        ),
        acts=(
            "<keep|save|persist> <the data|the vault|my records> <with Docker|in docker|when the container is removed>",
        ),
        answers=(
            "In the container the data folder is `/data`. With `-v minivault:/data` it lives in the volume `minivault` and survives the container.",
        ),
    ),
    Intent(
        "settings",
        "settings",
        acts=(
            "<configure|set up|customise|customize|change the settings of|change settings in|adjust> <MiniVault|the server|it|minivault>",
            "<change|edit|set|adjust|see> <settings|the settings|a setting|the configuration|options|my settings|the config>",
        ),
        asks=(
            "How is <MiniVault|the server> <configured|set up>?",
            "Where <are|can I make> settings <made|changed|stored>?",
            "<What|Which> <settings|options|flags|configuration|serve options> <are there|exist|does it have|can I change|does serve have|does minivault serve take>?",
            "<Settings|Configuration|Config|Options|Flags|Server flags>?",
            "How <is|does> <MiniVault|it|the server> <configured|get its settings>?",
        ),
        answers=(
            "Use flags of `minivault serve` (`--host`, `--port`, `--model`, `--precision`, `--threads`, `--data-dir`, `--rate-limit`), environment variables such as `MINIVAULT_PORT`, or `~/.minivault/config.toml`. Flags win over the environment, the environment over the file. `minivault config show` lists all.",
            "There are three ways: flags such as `minivault serve --port 9000`, environment variables such as `MINIVAULT_PORT=9000`, and lines such as `port = 9000` in `~/.minivault/config.toml`.",
        ),
        follows={
            "<Which one wins|Which has priority|And if they disagree|what if I set both>?": "precedence",
            "<Where is the config file|Where is that file>?": "config_file",
            "<And the environment variables|Which environment variables>?": "env",
        },
        weight=1.2,
    ),
    Intent(
        "env",
        "settings",
        acts=(
            "<use|set|configure it with|change settings with> <environment variables|env vars|env variables|the environment>",
        ),
        asks=(
            "<What|Which> <environment variables|env vars|env variables|variables> <are there|exist|does it read|can I set|does MiniVault know|does minivault use>?",
            "<List|Show|Give me|Name> <the|all> <environment variables|env vars>.",
            "<Environment variables|Env vars|MINIVAULT_ variables>?",
        ),
        answers=(
            "`MINIVAULT_PORT`, `MINIVAULT_MODEL`, `MINIVAULT_PRECISION`, `MINIVAULT_THREADS`, `MINIVAULT_DATA_DIR`, `MINIVAULT_RATE_LIMIT` and `MINIVAULT_KERNELS`; for the client commands also `MINIVAULT_URL` and `MINIVAULT_API_KEY`. `minivault config show` lists all.",
        ),
        follows={"<And flags|Do flags win|Which one wins>?": "precedence"},
    ),
    Intent(
        "config_file",
        "settings",
        acts=(
            "<use|edit|write|find|create|change|open> <a config file|the config file|config.toml|the configuration file|the settings file|a settings file>",
        ),
        asks=(
            "Where is the <config file|configuration|settings file|config|configuration file|config.toml>?",
            "Is there a <config file|configuration file|settings file>?",
            "What <goes in|can I write in|does it look like in|is in> <config.toml|the config file|the configuration file>?",
            "<Config file|config.toml|Configuration file|Config location|toml>?",
            "Which <file|format> <holds|has|is used for> the <settings|configuration>?",
        ),
        answers=(
            "The file is `~/.minivault/config.toml`. Write one setting a line, for example `port = 9000`; start the server again to apply it.",
            "It is `~/.minivault/config.toml`, with lines such as `port = 9000`.",
        ),
        follows={"<And does a flag win over it|What about flags|Which one wins>?": "precedence"},
    ),
    Intent(
        "precedence",
        "settings",
        asks=(
            "<Which|What> setting <wins|has priority|takes precedence|comes first|is used> <|if I set two|if both are set|if they disagree|if I use a flag and an environment variable>?",
            "What is the <order|precedence|priority|order of precedence> of <settings|the settings|flags and environment variables|configuration|the configuration sources>?",
            "<Does|Do> <a flag|flags|the command line|the environment|environment variables|an env var> <win over|override|beat|overrule> <the config file|the environment|config.toml|environment variables>?",
            "<Precedence|Settings precedence|Priority of settings>?",
            "If I set <both|the port in both|a flag and a variable>, which <is used|wins|counts>?",
        ),
        answers=(
            "Flags win over `MINIVAULT_*` environment variables, those win over `~/.minivault/config.toml`, and that wins over the defaults.",
        ),
    ),
    Intent(
        "data_dir",
        "settings",
        acts=(
            "<change|set|move|choose|use another|use a different|relocate> <the data folder|the data directory|the data dir|data directory|where data is kept|the place of the vault|the storage folder|the folder for data>",
            "<keep|put|store|save> <my data|the vault|the records|everything|the database> <somewhere else|in another folder|on another disk|in a different directory|elsewhere|on a different drive>",
        ),
        asks=(
            "Can the data <live|be kept|be stored|lie> <somewhere else|on another disk|in another folder>?",
            "My disk is <small|full>, can the <vault|data> <be somewhere else|go to another disk>?",
            "What does `--data-dir` do?",
            "<Data dir|Data directory|Data folder>?",
            "Which <flag|option|setting> <sets|changes> the <data folder|data directory>?",
        ),
        answers=(
            "Use `minivault serve --data-dir DIR`, or set `MINIVAULT_DATA_DIR=DIR`. The default is `~/.minivault`.",
            "Start it with `--data-dir DIR` (or `MINIVAULT_DATA_DIR`); the default is `~/.minivault`.",
        ),
    ),
    Intent(
        "data_dir_path",
        "settings",
        acts=(
            "<keep|store|put|save> <the data|the vault|everything|my data|the records> in %dir%",
            "<use|set> %dir% as <the data folder|the data directory|data dir>",
        ),
        answers=("Run `minivault serve --data-dir %dir%`, or set `MINIVAULT_DATA_DIR=%dir%`.",),
        weight=0.7,
    ),
    Intent(
        "threads",
        "threads and kernels",
        acts=(
            "<set|change|limit|choose|control|reduce|increase|raise|lower|configure> the <number of threads|threads|thread count|CPU threads|cores it uses|number of CPU cores|CPU usage>",
            "use <more|fewer|less> <threads|cores|CPU|CPUs|of my CPU>",
            "<give it|let it use> <more|fewer> <cores|threads>",
        ),
        asks=(
            "It should use <fewer|less|only some> <cores|CPUs|threads>.",
            "How can the <CPU use|number of threads> be <limited|changed>?",
            "How many <threads|cores|CPUs> does it use?",
            "What does `--threads` do?",
            "<Do|Does> <more threads|the number of threads|the thread count> change the <answer|answers|output|result>?",
            "<Threads|Thread count|CPU cores>?",
            "It uses <too much CPU|all my cores>.",
        ),
        answers=(
            "Use `minivault serve --threads N` or `MINIVAULT_THREADS=N`. The answers are the same bytes with any number of threads; only the speed changes.",
            "Set it with `--threads N` or `MINIVAULT_THREADS`. It changes the speed only, never the answer.",
        ),
    ),
    Intent(
        "threads_number",
        "threads and kernels",
        acts=(
            "<use|run with|run it with|run it on|serve with|limit it to|start the server with> %n% <threads|cores|CPU threads|CPU cores>",
            "set the <number of threads|threads|thread count> to %n%",
        ),
        answers=("Run `minivault serve --threads %n%`, or set `MINIVAULT_THREADS=%n%`.",),
    ),
    Intent(
        "kernels",
        "threads and kernels",
        acts=(
            "<choose|set|change|select|force|pick> the <kernels|CPU kernels|kernel set|instruction set|kernel>",
            "<use|force|turn on|turn off|disable|enable> <AVX2|AVX-512|avx512|the scalar kernels|NEON|AVX>",
        ),
        asks=(
            "What is `MINIVAULT_KERNELS`<| for>?",
            "<Which|What> <kernels|CPU kernels|instruction sets> <are there|does it have|does it support|exist>?",
            "Does it <use|support> <AVX2|AVX-512|avx512|NEON|SIMD|Arm|ARM>?",
            "<Kernels|AVX-512|NEON>?",
            "Which CPU <features|instructions> does it use?",
        ),
        answers=(
            "Set `MINIVAULT_KERNELS` to `auto`, `scalar`, `avx2`, `avxvnni`, `avx512` or `neon`. The default, `auto`, picks the best for your CPU; the answers are the same bytes with all of them.",
        ),
    ),
    Intent(
        "rate",
        "rate limits",
        acts=(
            "<set|change|configure|raise|lower|adjust|use|choose|increase> <a rate limit|the rate limit|rate limits|rate limiting|the request limit|the limit on requests|the limit per minute>",
            "<limit|restrict|throttle|cap> <requests|how many requests a client may send|the number of requests|clients|the requests per minute|how often someone can ask|users>",
            "<allow|permit> <more|fewer> requests<| per minute| a minute>",
        ),
        asks=(
            "How is the rate limit <set|changed|configured>?",
            "<Someone|A user|A client> sends too many requests, how do I <limit|stop|slow> <them|that>?",
            "Can requests be <limited|throttled>?",
            "<Is there|Does it have|What is|Is there any> <a rate limit|the rate limit|rate limiting|the default rate limit|a limit on requests>?",
            "How many <requests|prompts|calls> <per minute are allowed|can I send per minute|may I send|per minute|are allowed>?",
            "<Rate limit|Rate limits|Rate limiting|Throttling|requests per minute>?",
            "What does `--rate-limit` do?",
        ),
        answers=(
            "Use `minivault serve --rate-limit 5/minute`, or set `MINIVAULT_RATE_LIMIT`. The default is 600/minute per client; above it the answer is 429 with a `Retry-After` header.",
            "Start it with `--rate-limit 5/minute` or set `MINIVAULT_RATE_LIMIT=5/minute`. The default is 600/minute; who asks more often gets 429 with `Retry-After`.",
        ),
        follows={
            "<And what happens above it|What happens when it is reached|What do I get above the limit>?": "too_many"
        },
        weight=1.3,
    ),
    Intent(
        "rate_value",
        "rate limits",
        acts=(
            "<set|change|raise|lower> the rate limit to %r% <per minute|a minute|requests per minute|requests a minute>",
            "<allow|limit it to|permit|accept> <only |>%r% requests <per minute|a minute>",
        ),
        answers=("Run `minivault serve --rate-limit %r%/minute`, or set `MINIVAULT_RATE_LIMIT=%r%/minute`.",),
    ),
    Intent(
        "too_many",
        "rate limits",
        asks=(
            "<What does|What is|Why do I get|What means|I get|Why a> <429|error 429|a 429|status 429|HTTP 429|Too Many Requests|429 too many requests>?",
            "What <happens|do I get|comes back> <if|when> I <send too many requests|exceed the rate limit|hit the rate limit|ask too often|go over the limit>?",
            "<The server|It> says <too many requests|429>.",
            "What is <Retry-After|the Retry-After header>?",
        ),
        answers=(
            "429 means that you sent more requests than the rate limit allows (600/minute by default). Wait as long as the `Retry-After` header says, or raise the limit with `minivault serve --rate-limit 2000/minute`.",
        ),
    ),
    Intent(
        "health",
        "health and metrics",
        acts=(
            "<check|see|test|find out|know|verify|tell> <whether|if|that> <the server|MiniVault|it|minivault|the service> is <up|running|alive|healthy|working|ready|ok|online>",
            "<check|test|see|query> <the health|health|the server health|the status|the server status|the state of the server|readiness>",
        ),
        asks=(
            "How do I <know|see|tell> <the server is up|it runs|it works>?",
            "Does the server <run|live|still run>?",
            "Is the server <running|up|alive|ok|healthy|ready>?",
            "<Health|Health check|Health endpoint|Healthcheck|Status|Liveness|Readiness probe>?",
            "<Which|What> <endpoint|URL|path|route|command> <is for|shows|tells|gives|checks> <health|the health|the status|the server status|readiness>?",
            "What <are|do> <`/livez` and `/readyz`|livez and readyz|the probes><| for| do>?",
            "Is there a health <check|endpoint|probe>?",
        ),
        answers=(
            "Run `minivault health`, or `curl localhost:8000/health`. For probes there are also `/livez` (alive) and `/readyz` (ready).",
            "Use `minivault health` or `GET /health`; `/livez` and `/readyz` serve as liveness and readiness probes.",
        ),
        follows={
            "<And metrics|And the metrics|What about metrics>?": "metrics",
            "<And if it is not running|And if it does not answer|It does not answer>?": "not_answering",
        },
        weight=1.2,
    ),
    Intent(
        "metrics",
        "health and metrics",
        acts=(
            "<see|get|read|scrape|collect|view|find|export|watch> <metrics|the metrics|statistics|Prometheus metrics|numbers about the server|server metrics|stats|performance metrics|usage metrics>",
            "<monitor|observe|watch|measure> <the server|MiniVault|it|the load|performance>",
            "<use|connect|set up|add> <Prometheus|Grafana|monitoring>",
        ),
        asks=(
            "Are there <statistics|numbers|counters|graphs> <about the server|about requests|I can see>?",
            "How can <the server|MiniVault> be <monitored|observed|watched>?",
            "<Is there|Does it have|Are there> <a metrics endpoint|metrics|Prometheus metrics|monitoring|Prometheus support|an endpoint for Prometheus>?",
            "Where are the <metrics|statistics|stats>?",
            "<Metrics|Prometheus|Grafana|Monitoring|Statistics|Stats>?",
            "<Which|What> <endpoint|URL|path> <has|gives|is for|shows> <the metrics|metrics|Prometheus metrics>?",
            "What should Prometheus scrape?",
        ),
        answers=(
            "The server has Prometheus metrics at `GET /metrics`: try `curl localhost:8000/metrics`.",
            "Use `GET /metrics`, in Prometheus format, for example `curl localhost:8000/metrics`.",
        ),
        weight=1.3,
    ),
    Intent(
        "docs_page",
        "health and metrics",
        acts=(
            "<see|open|read|find|view|browse> <the API docs|the documentation|the API documentation|Swagger|the docs|the swagger page|all endpoints>",
        ),
        asks=(
            "<Is there|Where is|Where are|Where can I find> <API documentation|the documentation|the docs|Swagger|OpenAPI|a Swagger page|a list of endpoints|the manual>?",
            "<Documentation|API docs|Swagger|OpenAPI|Docs>?",
            "<Which|What> <endpoints|routes|paths> <are there|does the server have|exist|does it offer>?",
        ),
        answers=(
            "Open http://127.0.0.1:8000/docs in a browser: Swagger pages with every endpoint, and they work offline.",
        ),
    ),
    Intent(
        "request_id",
        "health and metrics",
        acts=(
            "<find|see|get|use|read> <the request id|a request ID|the id of a request|request ids>",
            "<trace|identify|track|follow> <a request|one request|requests>",
        ),
        asks=(
            "What is <the X-Request-ID|X-Request-ID|the request id|a request id>?",
            "<Is there|Does each request have> a request <id|ID>?",
            "<Request id|X-Request-ID>?",
        ),
        answers=("Each response carries an `X-Request-ID` header; see it with `curl -i`. It names that one request.",),
    ),
    Intent(
        "log",
        "logs",
        acts=(
            "<see|read|show|view|open|look at|watch|print|check> <the log|the logs|logs|the last records|the last prompts|the latest answers|recent prompts|the log file|recent activity|the last requests>",
            "<follow|tail|watch> <the log|the logs|new records|what happens live|requests live>",
        ),
        asks=(
            "<Show|Print> me the <log|last records|newest records>.",
            "How can the log be <read|seen|followed>?",
            "Where <is|are> the <log|logs|log file|log files>?",
            "<Logs|Log|Log file|Tail the log|minivault log>?",
            "What does `minivault log` do?",
            "Is there a log<| file>?",
            "What is in <log.jsonl|the log file>?",
        ),
        answers=(
            "`minivault log` shows the last records, and `minivault log --follow` keeps showing new ones. The file is `~/.minivault/logs/log.jsonl`, one JSON line a record.",
            "Use `minivault log` (add `--follow` to watch live). The log file is `~/.minivault/logs/log.jsonl`.",
        ),
        follows={"<And live|Can I follow it|and how do I follow it live>?": "log_follow"},
        weight=1.2,
    ),
    Intent(
        "log_follow",
        "logs",
        acts=(
            "<follow|tail|watch> <the log|new records|the log live|records> <live|as they come|in real time|continuously>",
        ),
        answers=("Run `minivault log --follow`.",),
    ),
    Intent(
        "not_answering",
        "errors",
        asks=(
            "<The server|It|MiniVault|minivault> <does not answer|is not answering|doesn't respond|does not respond|is not reachable|gives connection refused>.",
            "<Connection refused|I get connection refused|Why connection refused|curl: connection refused|Cannot connect to the server|could not connect>.",
            "Why <can't I reach|can I not reach|is there no answer from> the server?",
        ),
        answers=(
            "Probably it is not running. Start it with `minivault serve` (or `make run` in a clone), then check with `minivault health`. If it runs on another port, tell the client with `--url` or `MINIVAULT_URL`.",
        ),
    ),
    Intent(
        "disk_full",
        "errors",
        asks=(
            "What happens <if|when> the disk is full?",
            "<Why do I get|What does|What is|I get> <a 503|503|error 503|HTTP 503|status 503><| mean>?",
            "<Disk full|The disk is full|No space left on device>.",
            "What if there is no <disk space|space> left?",
        ),
        answers=(
            "If a record cannot be written, for example because the disk is full, the server answers 503: there is never an unrecorded answer. Free some space and it goes on by itself.",
        ),
    ),
)
