"""A private RabbitMQ node: its own name, ports, cookie and data, gone without a trace when the block ends.

It shares nothing with a RabbitMQ or an Erlang of the machine: none of their configuration is read, and it brings its
own port mapper (epmd), which ends with it.  It listens on the loopback interface only.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import socket
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from examples.order_pipeline.scenarios.broker.found import Broker, BrokerUnavailable, wait_for
from examples.order_pipeline.scenarios.broker.leash import leashed

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

BOOT_SECONDS = 90
BOOT_ATTEMPTS = 2
"""A port that was free when we chose it can be taken by the time the node opens it."""

DEBIAN_SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Behind Debian's wrapper, which changes to the user rabbitmq and so needs root, and folders of that user."""

LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"

SETTINGS = """\
default_user = guest
default_pass = {node.password}
listeners.tcp.1 = 127.0.0.1:{node.ports.amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {node.ports.management}
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {node.ports.prometheus}
log.file = false
log.console = true
"""


def server_script() -> Path | None:
    """Return the script that starts RabbitMQ in the foreground, or None where it is not installed."""
    if DEBIAN_SCRIPT.exists():
        return DEBIAN_SCRIPT
    found = shutil.which("rabbitmq-server")
    return Path(found) if found else None


STATISTICS = "[{{rabbit, [{{collect_statistics_interval, {every}}}, {{quorum_tick_interval, {every}}}]}}]."
"""In milliseconds: how often queues say what they hold, and so how old is what the management API says."""


@contextmanager
def started(server: Path, *, statistics_every: float = 1.0) -> Iterator[Broker]:
    """Run a private node inside the block; *server* is what server_script() returned.

    statistics_every: seconds between two counts of what is in its queues; RabbitMQ's own are 5.
    Raises BrokerUnavailable, with the last lines of its log, where the node does not come up.
    """
    for attempts_left in reversed(range(BOOT_ATTEMPTS)):
        directory = Path(tempfile.mkdtemp(prefix="otel-orders-rabbitmq-"))
        (directory / "advanced.config").write_text(STATISTICS.format(every=round(statistics_every * 1000)))
        node = _Node(server, directory, _Ports(*free_ports(5)), password=secrets.token_hex(8))
        with node.run() as (leash, log):
            failure = node.wait(leash, log)
            if failure is None:
                yield node.broker
                return
            ended = leash.poll() is not None
        if not (ended and attempts_left):
            raise BrokerUnavailable(failure)


def free_ports(count: int) -> list[int]:
    """Return *count* TCP ports of the loopback interface on which nobody listens now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


class _Ports(NamedTuple):
    """The TCP ports of a node.  distribution and mapper are for other Erlang programs, such as rabbitmqctl."""

    amqp: int
    management: int
    prometheus: int
    distribution: int
    mapper: int


@dataclass(frozen=True)
class _Node:
    server: Path
    directory: Path
    ports: _Ports
    password: str
    """Nobody else has it: a login that works was at this node, and not at another one that took our port."""

    @property
    def broker(self) -> Broker:
        control = self.server.with_name("rabbitmqctl")
        return Broker(
            f"amqp://guest:{self.password}@127.0.0.1:{self.ports.amqp}/",
            f"http://127.0.0.1:{self.ports.management}",
            f"http://127.0.0.1:{self.ports.prometheus}/metrics",
            rabbitmqctl=(*self._environment, str(control)),
        )

    @contextmanager
    def run(self) -> Iterator[tuple[subprocess.Popen[bytes], BinaryIO]]:
        """Run the port mapper and the node inside the block, then kill both: nobody needs the data any more.

        Gives the process and its log, which can be read even when all files are gone because the node ended.
        """
        (self.directory / "rabbitmq.conf").write_text(SETTINGS.format(node=self))
        (self.directory / "plugins").write_text("[rabbitmq_management,rabbitmq_prometheus].\n")
        cookie = self.directory / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        command = f"epmd -port {self.ports.mapper} & exec {shlex.quote(str(self.server))}"
        with (
            (self.directory / "log").open("wb") as output,
            (self.directory / "log").open("rb") as log,
            leashed(
                [*self._environment, "sh", "-c", command],
                clean_up=["rm", "-rf", str(self.directory)],
                cwd=self.directory,
                stdout=output,
                stderr=output,
            ) as leash,
        ):
            yield leash, log

    def wait(self, leash: subprocess.Popen[bytes], log: BinaryIO) -> str | None:
        """Return None when the node answers, or why it never will."""
        try:
            wait_for(self.broker.amqp_url, seconds=BOOT_SECONDS, running=lambda: leash.poll() is None)
        except BrokerUnavailable as failure:
            lines = log.read().decode(errors="replace").splitlines()
            return "\n".join([f"{failure}.  The last lines of its log:", *lines[-20:]])
        return None

    @property
    def _environment(self) -> tuple[str, ...]:
        """The command that gives a program the node's environment, and nothing of ours."""
        here = self.directory
        variables = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": here,  # of the Erlang cookie
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": self.ports.mapper,
            "ERL_CRASH_DUMP_SECONDS": 0,
            "ERL_FLAGS": "-start_epmd false",  # one that Erlang starts by itself would outlive us
            "RUNNING_UNDER_SYSTEMD": "true",  # replace the shell by the node, with no helper in between
            "RABBITMQ_NODENAME": f"orders-{here.name[-8:]}@localhost",
            "RABBITMQ_DIST_PORT": self.ports.distribution,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": LOOPBACK,
            "RABBITMQ_CTL_ERL_ARGS": LOOPBACK,
            "RABBITMQ_CTL_DIST_PORT_MIN": 0,  # any
            "RABBITMQ_CTL_DIST_PORT_MAX": 0,
            "RABBITMQ_MNESIA_BASE": here / "mnesia",
            "RABBITMQ_LOG_BASE": here,
            "RABBITMQ_PLUGINS_EXPAND_DIR": here / "expanded",
            "RABBITMQ_ENABLED_PLUGINS_FILE": here / "plugins",
            "RABBITMQ_CONFIG_FILE": here / "rabbitmq.conf",
            "RABBITMQ_CONFIG_FILES": here / "conf.d" / "*.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": here / "advanced.config",
            "RABBITMQ_CONF_ENV_FILE": here / "environment",
        }
        return ("env", "-i", *(f"{name}={value}" for name, value in variables.items()))
