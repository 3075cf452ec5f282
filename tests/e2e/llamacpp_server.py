"""llama.cpp's own HTTP server, as the ``xllamacpp`` wheel has it. Runs in an environment that has that package.

python llamacpp_server.py FILE.gguf        prints its address, and serves until its input ends
"""

from __future__ import annotations

import sys

import xllamacpp  # type: ignore[import-not-found,unused-ignore]


def main() -> None:
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.n_parallel, params.n_ctx, params.port = 2, 2048, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.fit_params, params.cache_ram_mib, params.ui, params.verbosity = False, 0, False, 0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
