"""The package's shape: which module may import which, and how large one may become."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = """
    names errors faults endings notation yaml_lines json_lines
    lifecycle_model
    lifecycle
    event
    error_codes
    settings personal_data privacy
    context
    log_context
    sinks
    recorder
    outbox binding
    transition
    instrumentation
    providers
    runtime
    testing
    otel_orders
    ledger
    lookup
    server
    generate
    cli
"""
"""Lowest first: a module may import from its own line and from the lines above it.  otel_orders is the public API."""

NEVER = {"ledger": {"sinks", "instrumentation"}, "lookup": {"sinks", "instrumentation"}}
"""Right in direction, and still wrong: who reads the events knows nothing of how they are sent."""

MAX_LINES = 400
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc"}

RANK = {name: rank for rank, line in enumerate(LAYERS.split("\n")) for name in line.split()}

Imports = dict[str, set[str]]
"""Module name to the names of the modules, of the same package, that it imports."""


def modules(root: Path, package: str = "otel_orders") -> dict[str, Path]:
    """Return the package's modules by dotted name; a package's __init__ has the package's name."""
    files = sorted((root / package).rglob("*.py"))
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imports(root: Path, package: str = "otel_orders") -> Imports:
    """Return who imports whom, wherever in a file it stands, for type checking too."""
    known = modules(root, package)
    return {name: set(_imported(name, file, known)) - {name} for name, file in known.items()}


def _imported(name: str, file: Path, known: dict[str, Path]) -> set[str]:
    parent = name.split(".") if file.stem == "__init__" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = parent[: len(parent) - node.level + 1] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            found |= {f"{source}.{a.name}" if f"{source}.{a.name}" in known else source for a in node.names}
    return found & known.keys()


def layer(module: str) -> str:
    return [*module.split("."), module][1] if "." in module else module


def wrong_directions(found: Imports) -> list[str]:
    return [
        f"{importer} imports {imported}"
        for importer, all_imported in found.items()
        for imported in sorted(all_imported)
        if RANK[layer(imported)] > RANK[layer(importer)] or layer(imported) in NEVER.get(layer(importer), ())
    ]


def cycle(found: Imports) -> list[str]:
    try:
        TopologicalSorter(found).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / "otel_orders" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_every_module_has_a_place_in_the_layers() -> None:
    assert {layer(name) for name in modules(ROOT)} <= RANK.keys()


def test_imports_only_point_to_lower_layers() -> None:
    assert wrong_directions(imports(ROOT)) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert cycle(imports(ROOT)) == []


def test_the_rules_stand_in_the_layers() -> None:
    library = RANK["otel_orders"]
    assert all(RANK[name] > library for name in ("ledger", "lookup", "server", "generate", "cli"))


@pytest.mark.parametrize("file", modules(ROOT).values(), ids=lambda file: str(file.relative_to(ROOT)))
def test_a_module_says_what_it_is_for_in_reasonable_length(file: Path) -> None:
    text = file.read_text()
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= MAX_LINES
    assert file.stem not in SAYS_NOTHING


@pytest.mark.parametrize(
    "line",
    [
        "import otel_orders.runtime",
        "import otel_orders.runtime as r",
        "from otel_orders import names, runtime",
        "from otel_orders.runtime import configure",
        "from .runtime import configure",
        "from . import runtime",
        "if TYPE_CHECKING:\n    from otel_orders.runtime import Runtime",
        "def later():\n    from otel_orders import runtime",
    ],
)
def test_an_import_in_the_wrong_direction_is_found_however_it_is_written(line: str, tmp_path: Path) -> None:
    root = tree(tmp_path, {"__init__.py": "", "names.py": "", "runtime.py": "", "event.py": line})
    assert wrong_directions(imports(root)) == ["otel_orders.event imports otel_orders.runtime"]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("event.py", "from otel_orders import transition_context"),  # the public API, not a module
        ("sinks/logs.py", "from ..ledger import model"),
        ("ledger/model.py", "from otel_orders.sinks import logs"),
        ("runtime.py", "import otel_orders.ledger.model"),
    ],
)
def test_the_boundaries_between_library_and_ledger_are_checked(file: str, line: str, tmp_path: Path) -> None:
    packages = dict.fromkeys(["__init__.py", "sinks/__init__.py", "sinks/logs.py", "ledger/__init__.py"], "")
    root = tree(tmp_path, packages | {"ledger/model.py": "", file: line})
    assert len(wrong_directions(imports(root))) == 1


def test_a_circle_is_found_through_a_package_and_names_its_modules(tmp_path: Path) -> None:
    files = {"__init__.py": "", "event.py": "from otel_orders import sinks", "sinks/__init__.py": "from . import logs"}
    found = imports(tree(tmp_path, files | {"sinks/logs.py": "from otel_orders.event import Event"}))
    assert set(cycle(found)) == {"otel_orders.event", "otel_orders.sinks", "otel_orders.sinks.logs"}


def test_what_points_down_or_to_other_packages_is_fine(tmp_path: Path) -> None:
    line = (
        "import json\nimport otel_orders_other.cli\nfrom otel_orders import names\nfrom otel_orders.names import STATUS"
    )
    root = tree(tmp_path, {"__init__.py": "from otel_orders import event", "names.py": "", "event.py": line})
    assert imports(root)["otel_orders.event"] == {"otel_orders.names"}
    assert wrong_directions(imports(root)) == []
