"""The house stands as docs/ARCHITECTURE.md says: floors, strangers, one door for each third party, no cycles.

Reads the sources with ``ast``; imports none of them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src"

FLOORS = (
    (6, ("minivault.cli", "minivault.__main__")),
    (5, ("minivault.api.app",)),
    (4, ("minivault.api",)),
    (3, ("minivault.service",)),
    (2, ("minivault.engine", "minivault.vault", "minivault.access", "minivault.models", "minivault.telemetry")),
    (2, ("minivault.batches",)),
    (1, ("minivault.embedding", "minivault.generation", "minivault.errors", "minivault.settings", "minivault.guide")),
    (1, ("minivault.bounds", "minivault.byte_size", "minivault.duration", "minivault.nearest", "minivault.one_line")),
    (1, ("minivault.control_group", "minivault.files", "minivault.file_lock", "minivault.processes")),
    (1, ("minivault.outage", "minivault.circle")),
    (0, ("minivault",)),
)

# Who may not know whom, beyond the floors. The first prefix that fits a module decides; an empty tuple lifts the rest.
STRANGERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    # Other servers are spoken to in JSON over HTTP, by this engine alone.
    ("minivault.engine.remote", ("minivault.vault", "minivault.access", "minivault.telemetry", "sqlite3")),
    ("minivault.vault", ("minivault.engine", "minivault.models", "minivault.access", "minivault.telemetry")),
    ("minivault.engine", ("minivault.vault", "minivault.access", "minivault.telemetry", "json", "http", "sqlite3")),
    ("minivault.models", ("minivault.vault", "minivault.access", "minivault.telemetry")),
    ("minivault.access", ("minivault.vault", "minivault.engine", "minivault.models")),
    ("minivault.telemetry", ("minivault.vault", "minivault.engine.native", "minivault.models", "minivault.access")),
    ("minivault.api.app", ()),
    ("minivault.api", ("minivault.engine", "minivault.vault")),
)

# The modules that see arrays and the C++ extension.
CORE = ("minivault.engine.native.runner", "minivault.engine.native.packing", "minivault.engine.native.sampling")

# Where each third party may be imported. Anything else that is not in the standard library may be imported nowhere.
DOORS: Mapping[str, tuple[str, ...]] = {
    "apsw": ("minivault.vault.database", "minivault.batches.database"),
    "cryptography": ("minivault.vault", "minivault.cli.certificate"),
    "fastapi": ("minivault.api",),
    "gguf": ("minivault.models.gguf_tensors",),
    "httpx2": ("minivault.cli.benchmark_load", "minivault.cli.client", "minivault.engine.remote"),
    "huggingface_hub": ("minivault.models.hub",),
    "jinja2": ("minivault.models.chat_template", "minivault.models.sandbox"),
    "limits": ("minivault.access",),
    "redis": ("minivault.access.redis_windows",),
    "llguidance": ("minivault.engine.native.grammar",),
    "minivault.engine.native._native": (
        "minivault.engine.native.adapter",
        "minivault.engine.native.cores",
        "minivault.engine.native.encoder_packing",
        "minivault.engine.native.encoder_runner",
        "minivault.engine.native.packing",
        "minivault.engine.native.runner",
        "minivault.engine.native.sampling",
    ),
    "numpy": ("minivault.engine.native", "minivault.models.gguf_tensors"),
    "opentelemetry": ("minivault.telemetry.otel",),
    "prometheus_client": ("minivault.telemetry",),
    "pyarrow": ("minivault.vault.parquet",),
    "pydantic": ("minivault.api", "minivault.settings"),
    "pydantic_settings": ("minivault.settings",),
    "python_multipart": ("minivault.api.upload",),
    "rich": ("minivault.cli",),
    "starlette": ("minivault.api",),
    "structlog": ("minivault.telemetry",),
    "swagger_ui_bundle": ("minivault.api",),
    "tokenizers": ("minivault.models.tokenizer",),
    "torch": ("minivault.engine.transformers",),
    "transformers": ("minivault.engine.transformers",),
    "typer": ("minivault.cli",),
    "uvicorn": ("minivault.cli.server", "minivault.cli.connection"),
}

STDLIB_ONLY = (
    "minivault.bounds",
    "minivault.byte_size",
    "minivault.duration",
    "minivault.embedding",
    "minivault.generation",
    "minivault.errors",
    "minivault.nearest",
    "minivault.one_line",
    "minivault.outage",
    "minivault.circle",
    "minivault.files",
    "minivault.file_lock",
    "minivault.control_group",
    "minivault.processes",
)
NO_ARRAYS = (
    "minivault.engine.native.scheduler",
    "minivault.engine.native.sequence",
    "minivault.engine.native.kv_cache",
)


@dataclass(frozen=True)
class Import:
    target: str
    line: int
    at_start: bool
    """True for an import that runs when the module is loaded."""


@dataclass(frozen=True)
class Module:
    name: str
    tree: ast.Module
    is_package: bool = False

    @classmethod
    def of(cls, name: str, source: str) -> Module:
        return cls(name, ast.parse(source))

    @property
    def imports(self) -> list[Import]:
        return list(self._walk(self.tree.body, at_start=True))

    def _walk(self, body: list[ast.stmt], *, at_start: bool) -> Iterator[Import]:
        for node in body:
            if isinstance(node, ast.Import):
                yield from (Import(alias.name, node.lineno, at_start) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (Import(target, node.lineno, at_start) for target in self._targets(node))
            else:
                late = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or _is_type_checking(node)
                children = [child for child in ast.walk(node) if isinstance(child, ast.stmt) and child is not node]
                yield from self._walk(
                    [child for child in children if isinstance(child, (ast.Import, ast.ImportFrom))],
                    at_start=at_start and not late and not isinstance(node, ast.ClassDef),
                )

    def _targets(self, node: ast.ImportFrom) -> Iterator[str]:
        base = node.module or ""
        if node.level:
            parts = self.name.split(".")
            kept = parts[: len(parts) - node.level + (1 if self.is_package else 0)]
            base = ".".join([*kept, base]) if base else ".".join(kept)
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def floor_of(name: str) -> int:
    return next(floor for floor, prefixes in FLOORS if within(name, prefixes))


def upward(module: Module) -> list[str]:
    own = floor_of(module.name)
    return [
        f"{module.name}:{found.line} imports {found.target}, which is on a higher floor"
        for found in module.imports
        if within(found.target, ("minivault",)) and floor_of(found.target) > own
    ]


def strangers(module: Module) -> list[str]:
    barred = next((barred for owner, barred in STRANGERS if within(module.name, (owner,))), ())
    return [
        f"{module.name}:{found.line} must not know {found.target}"
        for found in module.imports
        if within(found.target, barred)
    ]


def wrong_doors(module: Module) -> list[str]:
    import sys

    faults = []
    for found in module.imports:
        top = found.target.partition(".")[0]
        party = next((party for party in DOORS if within(found.target, (party,))), None)
        if party is None and (top in sys.stdlib_module_names or top == "minivault"):
            continue
        if party is None or not within(module.name, DOORS[party]):
            faults.append(f"{module.name}:{found.line} imports {found.target} outside its door")
    return faults


def cycles(modules: Mapping[str, Module]) -> list[str]:
    """Module names on cycles of imports that run at load time."""
    graph = {
        name: {known for found in module.imports if found.at_start and (known := _known(found.target, modules))}
        - {name}
        for name, module in modules.items()
    }
    # Take away, again and again, whatever imports nothing that is left: what stays is on a cycle or above one.
    while free := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in free}
    return sorted(graph)


def _known(target: str, modules: Mapping[str, Module]) -> str | None:
    if target in modules:
        return target
    parent = target.rpartition(".")[0]
    return parent if parent in modules else None


def read_house() -> dict[str, Module]:
    house = {}
    for path in sorted(SOURCES.rglob("*.py")):
        parts = list(path.relative_to(SOURCES).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        house[name] = Module(name, ast.parse(path.read_text(encoding="utf-8")), is_package)
    return house


HOUSE = read_house()
each_module = pytest.mark.parametrize("module", [pytest.param(module, id=name) for name, module in HOUSE.items()])


@each_module
def test_imports_go_down_only(module: Module) -> None:
    assert upward(module) == []


@each_module
def test_strangers_do_not_meet(module: Module) -> None:
    assert strangers(module) == []


@each_module
def test_third_parties_come_in_by_their_door(module: Module) -> None:
    assert wrong_doors(module) == []


@each_module
def test_a_module_says_what_it_does(module: Module) -> None:
    assert len(ast.get_docstring(module.tree) or "") > 20


def test_no_import_cycles() -> None:
    assert cycles(HOUSE) == []


@pytest.mark.parametrize("name", STDLIB_ONLY)
def test_the_shared_words_need_the_standard_library_alone(name: str) -> None:
    import sys

    allowed = {*sys.stdlib_module_names, "minivault"}
    assert [found.target for found in HOUSE[name].imports if found.target.partition(".")[0] not in allowed] == []


@pytest.mark.parametrize("name", NO_ARRAYS)
def test_the_scheduler_sees_no_array(name: str) -> None:
    barred = ("numpy", "array", "minivault.engine.native.runner", "minivault.engine.native._native")
    assert [found.target for found in HOUSE[name].imports if within(found.target, barred)] == []


def test_only_the_service_knows_engine_and_vault() -> None:
    composers = ("minivault.service", "minivault.api.app", "minivault.cli")
    both = [
        name
        for name, module in HOUSE.items()
        if not within(name, composers)
        and {"minivault.engine", "minivault.vault"}
        <= {".".join(found.target.split(".")[:2]) for found in module.imports}
    ]
    assert both == []


def test_no_unknown_packages() -> None:
    assert {name for name in HOUSE if name != "minivault" and floor_of(name) == 0} == set()


# -- the checks themselves ---------------------------------------------------------------------------------------------


def test_an_upward_import_is_seen() -> None:
    assert upward(Module.of("minivault.vault.ledger", "from minivault.api import app"))


def test_a_late_import_counts_for_the_floors() -> None:
    assert upward(Module.of("minivault.service", "def f():\n    import minivault.cli.main"))


def test_engine_and_vault_are_strangers() -> None:
    assert strangers(Module.of("minivault.engine.native.engine", "from minivault import vault"))


def test_a_relative_import_is_resolved() -> None:
    assert strangers(Module.of("minivault.engine.engine", "from ..vault import ledger"))


def test_a_third_party_at_the_wrong_door_is_seen() -> None:
    assert wrong_doors(Module.of("minivault.service", "import fastapi"))


def test_an_unknown_third_party_is_seen() -> None:
    assert wrong_doors(Module.of("minivault.service", "import requests"))


def test_a_cycle_is_seen() -> None:
    house = {
        "minivault.a": Module.of("minivault.a", "from minivault import b"),
        "minivault.b": Module.of("minivault.b", "import minivault.a"),
    }
    assert cycles(house) == ["minivault.a", "minivault.b"]


def test_a_late_import_is_no_cycle() -> None:
    house = {
        "minivault.a": Module.of("minivault.a", "from minivault import b"),
        "minivault.b": Module.of("minivault.b", "def f():\n    import minivault.a"),
    }
    assert cycles(house) == []
