"""The wheel as a user gets it: what is in it, and what it does in an environment that has nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"

LOADED_WHEN_NEEDED = {
    *("pika", "aio_pika", "aiormq", "httpx", "starlette", "fastapi", "uvicorn", "grpc", "jinja2", "typer", "rich"),
    *(
        "http.server",
        "http.server",
        "sqlite3",
        "psycopg",
        "opentelemetry.exporter",
        "opentelemetry.instrumentation",
        "google.protobuf",
    ),
}
"""Client libraries, servers and exporters: importing otel_orders must not load one of them."""


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run *command* unmeasured: coverage would load modules of its own there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE_"))}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def uv(*arguments: str | Path) -> None:
    result = run(Path(sys.executable).with_name("uv"), *arguments, cwd=ROOT)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("wheel")
    uv("build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", built)
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds the wheel and its base dependencies only."""
    environment = tmp_path_factory.mktemp("bare") / "venv"
    uv("venv", "--python", sys.executable, environment)
    uv("pip", "install", "--python", environment / "bin" / "python", "--constraints", LOCK, wheel)
    return environment / "bin"


def test_the_wheel_holds_the_package_its_types_and_its_licence_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "otel_orders/py.typed" in names
    assert "otel_orders/event.py" in names
    assert "otel_orders/generate/written/runbooks/OrderStuck.md" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert {name.partition("/")[0].removesuffix(".dist-info") for name in names} == {
        "otel_orders",
        wheel.name.partition("-py3")[0],
    }


def test_the_wheel_brings_all_that_the_library_imports(bare: Path, tmp_path: Path) -> None:
    result = run(bare / "python", "-W", "error", "-c", "import otel_orders; print(otel_orders.__file__)", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).is_relative_to(bare.parent)


def test_importing_the_library_loads_no_client_exporter_or_server() -> None:
    code = "import json, sys, otel_orders; print(json.dumps(sorted(sys.modules)))"
    result = run(sys.executable, "-c", code, cwd=ROOT)  # not in the bare one: here all of them could be loaded
    assert result.returncode == 0, result.stderr
    loaded = json.loads(result.stdout)
    assert "otel_orders" in loaded
    assert LOADED_WHEN_NEEDED.intersection(loaded) == set()


@pytest.mark.parametrize("arguments", [[], ["ledger"], ["dev"]])
def test_without_the_ledger_extra_the_command_says_which_one_to_install(
    arguments: list[str], bare: Path, tmp_path: Path
) -> None:
    result = run(bare / "otel-orders", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert "pip install 'otel-orders[ledger]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_every_locked_requirement_is_an_exact_version_with_hashes() -> None:
    pinned = re.split(r"^(?=[^\s#])", LOCK.read_text(), flags=re.MULTILINE)[1:]
    assert len(pinned) > 20
    for text in pinned:
        assert re.match(r"[a-z0-9-]+==\S+ .*\\\n +--hash=sha256:[0-9a-f]{64}", text), text


def test_the_lock_names_no_index() -> None:
    assert not re.search(r"://|--(?:extra-)?index|--find-links|--trusted-host", LOCK.read_text())
