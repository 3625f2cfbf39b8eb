"""A real PostgreSQL for tests and benchmarks: the one that OTEL_ORDERS_TEST_PG names, or one of our own.

Ours lives in a temporary folder, is reached over a Unix socket (without a password) and over loopback (with one), and
is gone with all that is in it when the block ends, even when we are killed.  Knows nothing of orders.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import sql

from examples.order_pipeline.scenarios.broker.leash import leashed
from examples.order_pipeline.scenarios.broker.node import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

GIVEN = "OTEL_ORDERS_TEST_PG"
"""URL of a PostgreSQL to use, as a user who may create databases."""
HOW = f"no PostgreSQL: set {GIVEN} to the URL of one, or install it (apt-get install postgresql)"
FAST = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off")
"""For tests that pull no plug; a store asks for synchronous_commit itself."""
HOLD = ("tail", "-f", "/dev/null")


class PostgresUnavailable(Exception):  # noqa: N818 - it is what the sentence says
    """No PostgreSQL is named and none can be started.  The message says what to do."""


@dataclass(frozen=True)
class Postgres:
    """A server.  url: of its database ``postgres``.  folder: where ours lives, None for one that was given."""

    url: str = field(repr=False)
    folder: Path | None = None
    port: int = 0
    password: str = field(default="", repr=False)
    control: tuple[str, ...] = field(default=(), repr=False)

    def database(self, name: str) -> str:
        """Return the URL of the database *name*."""
        return urlsplit(self.url)._replace(path=f"/{name}").geturl()

    def tcp(self, name: str, user: str = "postgres", password: str | None = None) -> str:
        """Return the URL of the database *name* over loopback, which asks for a password."""
        return f"postgresql://{user}:{quote(password or self.password)}@127.0.0.1:{self.port}/{name}"

    @contextmanager
    def new(self) -> Iterator[str]:
        """Give the URL of a new database, gone afterwards with whoever is still connected to it."""
        name = f"test_{secrets.token_hex(6)}"
        self.run("CREATE DATABASE {}", name)
        try:
            yield self.database(name)
        finally:
            self.run("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def run(self, statement: str, *names: str) -> None:
        """Execute *statement*, in which each ``{}`` is one of *names*."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def stop(self) -> None:
        """Let it die as in a power cut: no goodbye to anybody."""
        self._control("stop", "--mode=immediate")

    def start(self) -> None:
        """Start it again, and wait until it answers."""
        self._control("start", "--silent", f"--log={self.folder}/log")

    def _control(self, *arguments: str) -> None:
        done = subprocess.run([*self.control, *arguments], capture_output=True, text=True, check=False, cwd="/")
        if done.returncode:
            log = Path(f"{self.folder}/log")
            raise PostgresUnavailable(f"{done.stdout}{done.stderr}{log.read_text()[-2000:] if log.exists() else ''}")


@contextmanager
def postgres(*, private: bool = False, durable: bool = False) -> Iterator[Postgres]:
    """Give a server.  private: one that may be stopped.  durable: it keeps what it committed when it dies.

    Raises PostgresUnavailable.
    """
    given = os.environ.get(GIVEN)
    if given and not private:
        yield Postgres(given)
        return
    binaries = _binaries()
    if binaries is None:
        raise PostgresUnavailable(HOW)
    with _started(binaries, () if durable else FAST) as own:
        yield own


def _binaries() -> Path | None:
    """Return the folder of initdb and pg_ctl; Debian keeps it off the PATH."""
    found = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return Path(found).parent if found else debian[-1].parent if debian else None


@contextmanager
def _started(binaries: Path, settings: tuple[str, ...]) -> Iterator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="otel-orders-pg-"))
    user, become = _user()
    folder.chmod(0o711)  # others pass through to the socket
    (folder / "password").write_text(password := secrets.token_hex(8))
    if become:
        shutil.chown(folder, user)
        shutil.chown(folder / "password", user)
    port = free_ports(1)[0]
    control = (*become, str(binaries / "pg_ctl"), f"--pgdata={folder}/data")
    clean_up = ["sh", "-c", '"$@"; rm -rf "$0"', str(folder), *control, "--silent", "--mode=immediate", "stop"]
    with leashed(HOLD, clean_up=clean_up, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        options = (
            f"--auth-local=trust --auth-host=scram-sha-256 --username=postgres --pwfile={folder}/password --no-sync"
        )
        options += " --encoding=UTF8 --locale=C"
        url = f"postgresql://postgres@/postgres?host={quote(str(folder), safe='')}&port={port}"
        own = Postgres(url, folder, port, password, control)
        own._control("initdb", "--silent", f"--options={options}")
        where = ("-c", f"unix_socket_directories={folder}", "-c", "listen_addresses=127.0.0.1", "-c", f"port={port}")
        with (folder / "data/postgresql.conf").open("a") as file:
            pairs = [pair.split("=", 1) for pair in (*where, *settings) if pair != "-c"]
            file.writelines(f"{name} = '{value}'\n" for name, value in pairs)
        own.start()
        yield own
        with suppress(PostgresUnavailable):
            own.stop()


def _user() -> tuple[str, tuple[str, ...]]:
    """Return who runs the server, and what goes before a command to become that user: it refuses to run as root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name, ()
    known = {one.pw_name for one in pwd.getpwall()}
    name = "postgres" if "postgres" in known else "nobody"
    found = pwd.getpwnam(name)
    return name, ("setpriv", f"--reuid={found.pw_uid}", f"--regid={found.pw_gid}", "--clear-groups")
