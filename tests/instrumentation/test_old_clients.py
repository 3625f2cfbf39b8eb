"""Other versions of the clients than the locked ones: the oldest that we trace, and aio-pika 9 as it is today.

Each is installed into a folder that goes before all others, and the tests of its instrumentation run with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from examples.order_pipeline.scenarios.broker import Broker

pytestmark = [pytest.mark.broker, pytest.mark.slow]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

BOTH = ("test_message_outcomes", "test_coexistence", "test_compared_amqp")
PIKA = ("test_pika", "test_pika_async", "test_pika_identical", "test_pika_identical_consuming", *BOTH)
AIO_PIKA = ("test_aio_pika", *BOTH)
IDENTICAL = tuple(f"test_aio_pika_identical{part}" for part in ("", "_consuming", "_patterns"))


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run *command* unmeasured."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE_"))}
    words = [str(word) for word in command]
    return subprocess.run(
        words, cwd=ROOT, env=inherited | environment, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.parametrize(
    ("client", "version", "modules"),
    [
        ("aio-pika", "9", (*AIO_PIKA, *IDENTICAL)),
        ("aio-pika", "9.1", (*AIO_PIKA, "test_aio_pika_identical")),
        ("pika", "1.3", PIKA),
    ],
)
def test_the_instrumentation_works_with_another_version_of_its_client(
    client: str, version: str, modules: Sequence[str], broker: Broker, tmp_path: Path
) -> None:
    requirements = HERE / "old_clients" / f"{client}-{version}.txt"
    uv = Path(sys.executable).with_name("uv")
    into = ("--python", sys.executable, "--target", tmp_path, "--no-deps", "--require-hashes")
    installed = run(uv, "pip", "install", "--quiet", *into, "--requirement", requirements)
    assert installed.returncode == 0, installed.stderr
    shadowing = {"PYTHONPATH": str(tmp_path), "AMQP_URL": broker.amqp_url}
    used = run(sys.executable, "-c", f"import importlib.metadata as m; print(m.version({client!r}))", **shadowing)
    assert f"{used.stdout.strip()}.".startswith(f"{version}.")
    files = (HERE / f"{module}.py" for module in modules)
    tested = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, **shadowing)
    assert tested.returncode == 0, tested.stdout[-5000:]
