"""RabbitMQ in a container, where it cannot be installed but a Docker engine answers."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from examples.order_pipeline.scenarios.broker.found import Broker, BrokerUnavailable, wait_for
from examples.order_pipeline.scenarios.broker.leash import leashed

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER_SECONDS = 30
PULL_SECONDS = 600
BOOT_SECONDS = 120

COMPOSE_FILE = """\
services:
  rabbitmq:
    image: rabbitmq:3.13-management
    ports: ["127.0.0.1::5672", "127.0.0.1::15672", "127.0.0.1::15692"]
"""

HOLD = ("tail", "-f", "/dev/null")
CLEAN_UP = 'docker compose --file "$0/compose.yaml" down --volumes --timeout 0; rm -rf "$0"'


def engine_answers() -> bool:
    """Return whether ``docker compose`` can start a container here."""
    if not shutil.which("docker"):
        return False
    try:
        _run("docker", "info", seconds=ANSWER_SECONDS)
        _run("docker", "compose", "version", seconds=ANSWER_SECONDS)
    except BrokerUnavailable:
        return False
    return True


@contextmanager
def started() -> Iterator[Broker]:
    """Run the container inside the block, and remove it afterwards.  Raises BrokerUnavailable."""
    directory = Path(tempfile.mkdtemp(prefix="otel-orders-rabbitmq-"))  # also names the compose project
    (directory / "compose.yaml").write_text(COMPOSE_FILE)
    clean_up = ["sh", "-c", CLEAN_UP, str(directory)]
    with leashed(HOLD, clean_up=clean_up, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as leash:
        compose = ("docker", "compose", "--file", str(directory / "compose.yaml"))
        _run(*compose, "up", "--detach", seconds=PULL_SECONDS)
        broker = _broker(compose)
        wait_for(broker.amqp_url, seconds=BOOT_SECONDS, running=lambda: leash.poll() is None)
        yield broker


def _broker(compose: tuple[str, ...]) -> Broker:
    def address(port: int) -> str:
        return _run(*compose, "port", "rabbitmq", str(port), seconds=ANSWER_SECONDS).strip()

    return Broker(
        f"amqp://guest:guest@{address(5672)}/",
        f"http://{address(15672)}",
        f"http://{address(15692)}/metrics",
        rabbitmqctl=(*compose, "exec", "--no-TTY", "rabbitmq", "rabbitmqctl"),
    )


def _run(*command: str, seconds: float) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True).stdout
    except subprocess.CalledProcessError as error:
        raise BrokerUnavailable(f"{' '.join(command)} failed:\n{error.stderr}") from error
    except subprocess.TimeoutExpired as error:
        raise BrokerUnavailable(f"{' '.join(command)} took more than {seconds:.0f} s") from error
