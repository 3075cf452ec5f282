# ruff: noqa: E501  (a pattern stays on one line, however long: it is read and searched as one sentence)
"""What the guide knows about bringing, keeping and running models: pull, GGUF, memory, engines, embeddings, batches.

Data only: questions as patterns and the answers that are true of MiniVault 0.2. Knows nothing of how they are used.
"""

from __future__ import annotations

from grammar import Intent

CATALOG_INTENTS = (
    Intent(
        "download",
        "choosing and adding a model",
        acts=(
            "<download|pull|fetch|get|grab|load down|obtain> <a model|models|a model from Hugging Face|a model from the internet|a model from the hub|a Hugging Face model|one from huggingface|another model from the hub|weights from the hub>",
            "<use|access|reach> <the Hugging Face hub|the hub|huggingface|Hugging Face>",
        ),
        asks=(
            "Does it download models<| by itself| for me>?",
            "Can <it|MiniVault|you> <download|pull|fetch> <models|a model|a model for me>?",
            "Where do I get models<| from>?",
            "<Download a model|Pull a model|models pull|minivault models pull|Pull|Hugging Face hub>?",
            "What does `minivault models pull` do?",
            "<Which|What> command <downloads|fetches|pulls> <a model|models>?",
            "What if a download <breaks off|is interrupted|stops>?",
        ),
        answers=(
            "Run `minivault models pull NAME` with a short name such as `smollm2-135m-instruct`, or `ORG/NAME` of the Hugging Face hub; then `minivault serve --model NAME`. An interrupted pull goes on where it was.",
            "Use `minivault models pull NAME`: a short name such as `qwen2.5-0.5b-instruct`, or `ORG/NAME` of the hub. Only safetensors are taken, and each file is checked.",
        ),
        follows={
            "<And then|And how do I use it|How do I serve it then>?": "choose",
            "<And a GGUF file|And GGUF|And from a file>?": "gguf",
            "<And a gated model|It is gated|And private models>?": "gated",
        },
        weight=1.6,
    ),
    Intent(
        "download_name",
        "choosing and adding a model",
        acts=("<download|pull|fetch|get|grab> <the model |>%hub%<| from the hub| from Hugging Face>",),
        asks=("<I want|I need|Please get me|Can I have> %hub%<.|, please>", "<pull|download> %hub%"),
        answers=("Run `minivault models pull %hub%`, then `minivault serve --model %hub%`.",),
        weight=1.0,
    ),
    Intent(
        "gated",
        "choosing and adding a model",
        acts=(
            "<download|pull|get> <a gated model|a private model|Llama 3.2 from Meta|a model that needs a token|gated models>",
            "<use|set|give> <a Hugging Face token|my hub token|HF_TOKEN|my Hugging Face token>",
        ),
        asks=(
            "The model is <gated|private|behind a licence>.",
            "<HF_TOKEN|Gated model|Hugging Face token|Private models>?",
            "The hub <says 401|refuses the download|wants a token|asks for a login>.",
            "Why can I not <pull|download> <Llama|Gemma|this model>?",
        ),
        answers=(
            "Accept its terms on the hub's page, make a token there, and set `HF_TOKEN` before `minivault models pull NAME`.",
        ),
        weight=0.8,
    ),
    Intent(
        "gguf",
        "choosing and adding a model",
        acts=(
            "<import|use|load|add|convert|run|open|bring in> <a GGUF file|a gguf|a GGUF model|gguf files|a GGUF|a llama.cpp model|a quantised GGUF file|a .gguf file|a Q4_K_M file>",
        ),
        asks=(
            "<GGUF|gguf|GGUF file|GGUF import|llama.cpp models|Q4_K_M>?",
            "<Does it|Can it|Does MiniVault|Will it> <read|load|support|run|take|import> <GGUF|gguf files|a GGUF model|llama.cpp models|quantised GGUF files>?",
            "I have a <GGUF file|gguf|model.gguf>. <How do I use it|What now|How do I add it>?",
            "Which GGUF types <work|are read|can be imported>?",
        ),
        answers=(
            "Yes, GGUF files can be imported: `minivault models import model.gguf --name NAME`, then `minivault serve --model NAME`.",
        ),
        weight=1.2,
    ),
    Intent(
        "gguf_path",
        "choosing and adding a model",
        acts=(
            "<import|load|add|use> <the file |>%gguf% as %m%",
            "<import|add> <the GGUF file |>%gguf% <under the name|named|called> %m%",
        ),
        answers=("Run `minivault models import %gguf% --name %m%`, then `minivault serve --model %m%`.",),
        weight=0.7,
    ),
    Intent(
        "families",
        "choosing and adding a model",
        asks=(
            "<What|Which> <models|model families|families|architectures|kinds of models|LLMs> <does it support|are supported|work|can it run|can I use|does MiniVault run|can MiniVault load|does the engine know>?",
            "<Does it|Can it|Does MiniVault|Will it> <support|run|load> <Llama|GPT-2|Mistral|Qwen|Gemma|TinyLlama|SmolLM|distilgpt2|Phi|Falcon|Llama 3|gpt2|other architectures|Qwen 3|Gemma 3>?",
            "<Supported models|Model families|Architectures>?",
            "<Is|Are> <Qwen|Gemma|Llama|Phi-3|Falcon|GPT-2|GPT-Neo|Qwen models|Llama models> supported?",
            "<Which|What> model <formats|format|files> <does it|can it|does MiniVault> <read|load|support>?",
            "<Does it|Can it> <read|load|support|run> <safetensors|PyTorch files|pickle files>?",
            "Which <Qwen|Gemma|Llama|Mistral> models <work|are supported|run>?",
        ),
        answers=(
            "Llama, Mistral, Qwen 2 and 3, Gemma 2 and 3, Phi-3, Falcon, GPT-2 and GPT-Neo run natively, from safetensors folders or GGUF files. Others run with the transformers engine.",
            "Natively: Llama, Mistral, Qwen 2 and 3, Gemma 2 and 3, Phi-3, Falcon, GPT-2 and GPT-Neo, as safetensors or GGUF files. For others there is the transformers engine.",
        ),
        follows={
            "<And how do I add one|How do I import one|And how do I get one>?": "download",
            "<And others|And another family|What about others>?": "transformers",
        },
        weight=1.5,
    ),
    Intent(
        "models_rm",
        "choosing and adding a model",
        acts=(
            "<remove|delete|erase|uninstall|drop|get rid of|throw out|discard> <a model|an imported model|a model from disk|the files of a model|an old model|models I do not need|a downloaded model>",
        ),
        asks=(
            "<Remove a model|Delete a model|models rm|Uninstall a model>?",
            "What does `minivault models rm` do?",
            "My disk is full of models, how do I remove one?",
        ),
        answers=("Run `minivault models rm NAME`. The records of its calls stay in the vault.",),
    ),
    Intent(
        "models_verify",
        "choosing and adding a model",
        acts=(
            "<verify|check> <the files of a model|a model|model files|that a model is undamaged|the digests of a model|the weights>",
            "<see|show|view> <details of a model|what is known of a model|the digest of a model|the licence of a model|where a model came from>",
        ),
        asks=(
            "What <do|does> <`minivault models verify`|`minivault models show`> do?",
            "<models verify|models show|Model details>?",
            "Is my model <damaged|corrupt|unchanged>?",
        ),
        answers=(
            "`minivault models verify` reads every file again and compares digests; `minivault models show NAME` tells sizes, digest, origin and licence.",
        ),
        weight=0.8,
    ),
    Intent(
        "several_models",
        "models in memory",
        acts=(
            "<serve|run|use|load|have|keep|hold> <several models|two models|many models|more than one model|multiple models|three models|a second model> <|at once|at the same time|together|in memory|side by side>",
            "<preload|load at the start|load beforehand> <a model|models|another model|more models>",
        ),
        asks=(
            "<Can it|Can I|Does it|Does MiniVault> <serve|run|hold|support> <several models|two models|multiple models|many models><| at once>?",
            "<Several models|Multiple models|Preload|--preload|Two models>?",
            "What does `--preload` do?",
            "Is a model loaded <on first use|when I ask for it|by itself|automatically>?",
        ),
        answers=(
            "Yes: name any model in a request and it is loaded on first use. `minivault serve --preload NAME,NAME` loads more at the start; together they stay within `memory_budget`.",
        ),
        follows={
            "<Which are loaded|And how do I see them|How do I see which are loaded>?": "models_ps",
            "<And how do I unload one|How do I unload one>?": "models_unload",
        },
        weight=1.2,
    ),
    Intent(
        "models_ps",
        "models in memory",
        acts=(
            "<see|show|list|find out> <which models are loaded|the loaded models|what is in memory|loaded models|which models are in memory|how far a load is|running models>",
        ),
        asks=(
            "<Which|What> models are <loaded|in memory|running|active><| now>?",
            "<models ps|Loaded models|What is loaded>?",
            "What does `minivault models ps` do?",
            "Why does my request wait<| so long>?",
        ),
        answers=("Run `minivault models ps`: it shows the models in memory, and those that are being loaded.",),
    ),
    Intent(
        "models_load",
        "models in memory",
        acts=(
            "<load|bring> <a model into memory|a model now|a model beforehand|a model in advance|a model into RAM>",
            "<warm up|preheat> a model",
        ),
        asks=("What does `minivault models load` do?", "<models load|Load into memory|Warm up>?"),
        answers=(
            "Run `minivault models load NAME`; it waits until the model is in memory. `minivault models unload NAME` takes it out.",
        ),
        weight=0.8,
    ),
    Intent(
        "models_unload",
        "models in memory",
        acts=(
            "<unload|evict|remove from memory|take out of memory|throw out of memory|release|push out> <a model|the model|an idle model|a loaded model>",
            "<free|release|save|get back> <memory|RAM|the memory of a model|some memory>",
        ),
        asks=(
            "What does `minivault models unload` do?",
            "<models unload|Unload|Free memory>?",
            "A model <takes too much memory|should leave memory|should be unloaded>.",
            "How is a model <unloaded|removed from memory>?",
        ),
        answers=("Run `minivault models unload NAME`; the next request for it loads it again.",),
    ),
    Intent(
        "memory_budget",
        "models in memory",
        acts=(
            "<limit|set|change|bound|raise|lower|restrict> <the memory|how much memory it uses|the memory budget|memory_budget|memory use|the RAM it takes|the memory for models|RAM usage>",
        ),
        asks=(
            "How much <memory|RAM> does it <use|need|take>?",
            "What is `memory_budget`?",
            "<Memory budget|Memory limit|RAM|--memory-budget|Out of memory>?",
            "It uses too much <memory|RAM>.",
            "The model <needs too much memory|does not fit|does not fit into memory>.",
            "What if the models do not fit<| into memory>?",
        ),
        answers=(
            "Set `minivault serve --memory-budget 8000000000`. The default is three quarters of what is free; when room is needed, the model idle for longest leaves. `--precision int4` makes a model smaller.",
        ),
    ),
    Intent(
        "keep_alive",
        "models in memory",
        acts=(
            "<keep|hold> a model in memory <longer|for ever|for an hour|all the time>",
            "<set|change> <keep_alive|the keep-alive|how long a model stays>",
        ),
        asks=(
            "How long does <a model|an idle model|it> stay <in memory|loaded>?",
            "<keep_alive|Keep alive|--keep-alive|Idle models>?",
            "What is `keep_alive`<| for>?",
            "When <is|does> an idle model <unloaded|leave>?",
            "The model is unloaded too <soon|early|fast>.",
        ),
        answers=(
            "An idle model stays for `keep_alive` seconds, 1800 by default: `minivault serve --keep-alive 3600` changes it, and -1 keeps it for ever.",
        ),
        weight=0.9,
    ),
    Intent(
        "remote",
        "engines",
        acts=(
            "<use|add|connect|put it before|forward to|proxy to|attach> <another server|a remote model|a vLLM server|llama-server|a remote server as a model|an OpenAI-compatible server|a model that runs elsewhere|a GPU server|an Ollama server|Ray Serve|vLLM>",
            "<scale out|use a cluster|run on several machines|spread the load|balance over several servers>",
            "<put|place|run> <MiniVault|it> <before|in front of> <vLLM|another server|llama.cpp|Ollama|a cluster|several servers>",
        ),
        asks=(
            "<Remote model|Remote models|add-remote|vLLM|Scale out|Cluster|Load balancing>?",
            "What does `minivault models add-remote` do?",
            "Can <it|MiniVault> <use|forward to|sit before|work with> <another server|vLLM|several servers|a GPU server|llama-server>?",
            "My model runs on another <machine|server|computer>.",
            "I have a <vLLM|llama.cpp|Ollama> server. Can I use it <as a model|behind MiniVault>?",
        ),
        answers=(
            "Run `minivault models add-remote NAME --url http://HOST:8000/v1` (`--url` again for more servers), then `minivault serve --model NAME`. Keys, limits and the vault stay here.",
        ),
        weight=1.2,
    ),
    Intent(
        "transformers",
        "engines",
        acts=(
            "<run|use|load> <a model that is not supported|another family|an unsupported model|a model with PyTorch|other architectures|the transformers engine|PyTorch|Hugging Face Transformers>",
            "<install|add> <the transformers engine|PyTorch support|the transformers extra>",
            "<choose|change|set|select> the engine",
        ),
        asks=(
            "<Transformers|Transformers engine|PyTorch|--engine|Engines>?",
            "<Which|What> engines <are there|does it have|can I choose>?",
            "What does <`--engine`|`--device`> do?",
            "My model is <not supported|refused|of another family>.",
            "What is the <transformers engine|native engine|difference between the engines>?",
            "Is PyTorch <needed|required|used>?",
        ),
        answers=(
            "Three engines: native, transformers and remote. For a family that native lacks: `pip install 'minivault[transformers]'`, then import and serve it as usual (`--engine transformers --device cuda` for a GPU). Only native promises the same bytes.",
        ),
    ),
    Intent(
        "gpu",
        "GPUs",
        acts=(
            "<use|run on|enable|turn on|run it on|use it with> <a GPU|the GPU|my GPU|CUDA|my graphics card|an NVIDIA card|GPUs|a graphics card|an AMD GPU|Metal|MPS>",
        ),
        asks=(
            "I have <a GPU|an NVIDIA card|a strong graphics card>. <Is it used|Does it help|Can you use it>?",
            "Does a <GPU|graphics card> <help|make it faster|speed it up>?",
            "<Do I|Does it|Does MiniVault> need a <GPU|graphics card|video card|CUDA card>?",
            "<Does it|Can it|Does MiniVault|Will it> <use|run on|support|work with> <a GPU|my GPU|GPUs|CUDA|my graphics card|NVIDIA|graphics cards|ROCm>?",
            "<GPU|GPU support|CUDA|Graphics card|GPUs>?",
            "<What|Which> hardware <do I need|does it need|is needed|is required>?",
            "Does it run <without a GPU|on the CPU|on a CPU only|on a laptop without a GPU>?",
            "Why is my GPU <not used|idle>?",
            "Is a <GPU|graphics card> <needed|required|used|necessary>?",
        ),
        answers=(
            "No GPU is needed: the native engine runs on the CPU. For a graphics card: `pip install 'minivault[transformers]'`, then `minivault serve --engine transformers --device cuda`.",
            "MiniVault runs on the CPU, so no GPU is needed. To use one, install `minivault[transformers]` and run `minivault serve --engine transformers --device cuda`.",
        ),
        weight=1.7,
    ),
    Intent(
        "precision",
        "precision",
        acts=(
            "<change|set|choose|switch> the <precision|quantisation|quantization|number format|weights precision|lane>",
            "<use|run with|run in|switch to|serve in> <int8|int4|f32|full precision|8-bit weights|4-bit weights|float32|8 bit|4 bit|32 bit floats|unquantised weights|quantized weights>",
        ),
        asks=(
            "What does `--precision` do?",
            "<Which|What> <precision|precisions|quantisation|quantization|number format> <does it use|are there|is used|is the default|can I choose>?",
            "<Is the model|Are the weights|Is it> quanti<s|z>ed?",
            "What is the <difference between|difference of> <int8 and f32|int8 and int4>?",
            "What <is|does> <int8|int4|f32> <mean|precision>?",
            "<Precision|Quantization|int8 or f32|int4>?",
            "Can it <run|use> <4-bit|4 bit|8-bit> weights?",
        ),
        answers=(
            "Use `minivault serve --precision int8` (the default, fast), `int4` (smallest) or `f32` (unquantised, the reference). `MINIVAULT_PRECISION` sets it too.",
            "There are three: `int8`, the default, `int4`, the smallest, and `f32`, the unquantised reference. Choose with `--precision` or `MINIVAULT_PRECISION`.",
        ),
        weight=1.2,
    ),
    Intent(
        "embeddings",
        "embeddings and batches",
        acts=(
            "<make|get|compute|create|generate|calculate|produce> <embeddings|an embedding|vectors|text vectors|a vector for a text|sentence embeddings|embedding vectors>",
            "<embed|vectorise|vectorize> <a text|texts|sentences|documents|something>",
            "<use|run|serve|load> <an embedding model|embedding models|MiniLM|BGE|E5|a sentence transformer|all-minilm-l6-v2>",
            "<do|build|set up> <semantic search|RAG|a vector search|retrieval>",
        ),
        asks=(
            "<Does it|Can it|Does MiniVault> <make|support|do|offer|compute|have> <embeddings|vectors|text embeddings|sentence vectors>?",
            "<Embeddings|Embedding|Vectors|/v1/embeddings|minivault embed|Semantic search|RAG>?",
            "What does `minivault embed` do?",
            "Which model <makes|is for|should I use for> <embeddings|vectors>?",
            "Which <endpoint|route> gives <embeddings|vectors>?",
        ),
        answers=(
            'Get an encoder with `minivault models pull all-minilm-l6-v2`, then `minivault embed -m all-minilm-l6-v2 "TEXT"`, or `POST /v1/embeddings`.',
        ),
        weight=1.3,
    ),
    Intent(
        "batch",
        "embeddings and batches",
        acts=(
            "<run|answer|process|work through|send|do|handle> <a batch|many prompts|a file of prompts|a file of requests|thousands of prompts|a lot of requests|many requests at once|a list of questions|a jsonl file of requests>",
            "<use|start|make> <batches|the batch API|batch mode|a batch job>",
            "<resume|continue|stop|cancel> a batch",
        ),
        asks=(
            "<Batch|Batches|Batch API|/v1/batches|minivault batch|Batch mode|Bulk requests>?",
            "<Is there|Does it have> <a batch mode|a batch API|batches|bulk processing>?",
            "What does `minivault batch` do?",
            "I have <many|a thousand|hundreds of> <prompts|questions|requests><| in a file>.",
            "What happens to a batch <after a crash|when the server stops|if it is interrupted>?",
        ),
        answers=(
            "Run `minivault batch in.jsonl -o out.jsonl`: a request a line. After an interruption the same command goes on, and no line is answered twice. Over HTTP: `/v1/files` and `/v1/batches`.",
        ),
        weight=1.2,
    ),
)
