"""Install RabbitMQ from the distribution, where that is possible without asking anybody."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from examples.order_pipeline.scenarios.broker.node import server_script

INSTALL_SECONDS = 600

# RUNLEVEL=1 tells SysV init scripts that services are not started now.  A policy-rc.d file would do more, but one that
# is left behind (we may be killed) keeps every later package of the machine from starting its service.
ENVIRONMENT = ("env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")

UPDATE = ("apt-get", "update", "--quiet")
INSTALL = ("apt-get", "install", "--quiet", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300")


def installed() -> Path | None:
    """Install rabbitmq-server with apt-get; return what server_script() finds then.

    None where there is no apt-get, where we may not use it, or where it failed (its last lines go to stderr).
    """
    root = _as_root()
    if root is None or not shutil.which("apt-get"):
        return None
    with Path(__file__).open("rb") as turn:  # several test runners may find at once that there is none
        fcntl.flock(turn, fcntl.LOCK_EX)
        return server_script() or _installed(root)


def _installed(root: tuple[str, ...]) -> Path | None:
    print("No RabbitMQ here: installing rabbitmq-server with apt-get (about 15 s) ...", file=sys.stderr)
    _run(*root, *ENVIRONMENT, *UPDATE)  # may fail where another one runs: the lists are then as good as new
    result = _run(*root, *ENVIRONMENT, *INSTALL, "rabbitmq-server")
    if result.returncode:
        print(f"apt-get failed:\n{result.stdout[-2000:]}", file=sys.stderr)
    elif Path("/run/systemd/system").is_dir():  # systemd starts what is installed: we wanted the program only
        _run(*root, "systemctl", "disable", "--now", "rabbitmq-server")
    return server_script()


def _as_root() -> tuple[str, ...] | None:
    """Return what goes before a command to run it as root, or None where we may not."""
    if os.geteuid() == 0:
        return ()
    sudo = ("sudo", "--non-interactive")
    return sudo if shutil.which("sudo") and _run(*sudo, "true").returncode == 0 else None


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
