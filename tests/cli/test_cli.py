"""The command line: what it prints, and that a mistake is one line and exit status 2."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.integration.processes import COMMAND, LIFECYCLE, running
from tests.ledger import senders
from tests.ledger.senders import changed
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Outcome = tuple[int, str, str]


def test_check_says_that_a_lifecycle_is_right(run: Callable[..., Outcome]) -> None:
    code, out, err = run("check", LIFECYCLE)
    assert (code, err) == (0, "")
    assert out.startswith(f"{LIFECYCLE}: right; 12 statuses, hash ")


def broken_lifecycle(folder: Path) -> Path:
    broken = folder / "lifecycle.yaml"
    broken.write_text(LIFECYCLE.read_text().replace("stuck_after: 24h", "stuck_after: soon"))
    return broken


@pytest.mark.parametrize("command", ["check", "dev", "ledger"])
def test_a_mistake_in_a_lifecycle_is_one_line_with_its_place(
    run: Callable[..., Outcome], tmp_path: Path, command: str
) -> None:
    broken = broken_lifecycle(tmp_path)
    line = 1 + next(place for place, text in enumerate(broken.read_text().splitlines()) if "soon" in text)
    arguments: dict[str, list[object]] = {
        "check": [broken],
        "dev": ["--lifecycle", broken],
        "ledger": ["--lifecycle", broken, "--store", f"sqlite:///{tmp_path}/l.db"],
    }
    code, out, err = run(command, *arguments[command])
    assert (code, out) == (2, "")
    assert err.startswith(f"otel-orders: {broken}:{line}: statuses.SUBMITTED.stuck_after: expected a duration")
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["check", "dev"])
def test_a_lifecycle_that_is_not_there_is_one_line(run: Callable[..., Outcome], tmp_path: Path, command: str) -> None:
    missing = tmp_path / "none.yaml"
    option = ["--lifecycle"] if command == "dev" else []
    code, _, err = run(command, *option, missing)
    assert code == 2
    assert str(missing) in err
    assert err.count("\n") == 1


def not_a_database(folder: Path) -> str:
    (folder / "notes.txt").write_text("no database " * 200)
    return f"sqlite:///{folder / 'notes.txt'}"


def of_the_future(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "later.db")) as later:
        later.execute("PRAGMA user_version = 99")
    return f"sqlite:///{folder / 'later.db'}"


@pytest.mark.parametrize(
    ("store", "says"),
    [
        (lambda _: "mysql://here/db", "--store 'mysql://here/db': expected sqlite:///PATH"),
        (lambda _: "ledger.db", "--store 'ledger.db': expected sqlite:///PATH"),
        (lambda _: "sqlite:///", "expected sqlite:///PATH"),
        (lambda _: "sqlite:///:memory:", "the path of a file"),
        (lambda folder: f"sqlite:///{folder}/none/l.db", "there is no folder"),
        (lambda folder: f"sqlite:///{folder}", "it is a folder"),
        (not_a_database, "not a database"),
        (of_the_future, "written by a newer otel_orders"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line(
    run: Callable[..., Outcome], tmp_path: Path, store: Callable[[Path], str], says: str
) -> None:
    code, out, err = run("ledger", "--store", store(tmp_path), "--lifecycle", LIFECYCLE, "--port", 0)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_a_port_in_use_is_one_line(run: Callable[..., Outcome]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = run("dev", "--lifecycle", LIFECYCLE, "--port", port)
    assert code == 2
    assert err.startswith(f"otel-orders: cannot listen on 127.0.0.1:{port}: Address already in use; try --port 0")
    assert err.count("\n") == 1


@pytest.mark.parametrize("host", ["no.such.host.invalid", "x" * 100, "256.1.1.1"])
def test_a_host_that_is_none_is_one_line(run: Callable[..., Outcome], tmp_path: Path, host: str) -> None:
    store = f"sqlite:///{tmp_path}/l.db"
    code, _, err = run("ledger", "--store", store, "--lifecycle", LIFECYCLE, "--port", 0, "--host", host)
    assert code == 2
    assert f"cannot listen on {host}:0" in err
    assert err.count("\n") == 1


def test_a_url_file_that_cannot_be_written_is_one_line(run: Callable[..., Outcome], tmp_path: Path) -> None:
    code, _, err = run("dev", "--lifecycle", LIFECYCLE, "--port", 0, "--url-file", tmp_path / "none" / "url")
    assert code == 2
    assert err.splitlines()[-1] == f"otel-orders: --url-file {tmp_path}/none/url: No such file or directory"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("rabbit", "--rabbitmq: expected http://HOST:15672 or https://HOST:15671"),
        ("http://rabbit", "--rabbitmq needs OTEL_ORDERS_RABBITMQ_USER and OTEL_ORDERS_RABBITMQ_PASSWORD"),
    ],
)
@pytest.mark.parametrize("command", ["ledger", "dev"])
def test_a_broker_that_cannot_be_probed_is_one_line(
    run: Callable[..., Outcome], tmp_path: Path, command: str, url: str, says: str
) -> None:
    store = ["--store", f"sqlite:///{tmp_path}/l.db"] if command == "ledger" else []
    code, _, err = run(command, *store, "--lifecycle", LIFECYCLE, "--port", 0, "--rabbitmq", url)
    assert (code, err) == (2, f"otel-orders: {says}{' in the environment' if 'needs' in says else ''}\n")


def test_another_env_than_the_stores_is_one_line(run: Callable[..., Outcome], tmp_path: Path) -> None:
    with running(tmp_path) as ledger:
        ledger.stop(signal.SIGTERM)
    store = f"sqlite:///{tmp_path / 'ledger.db'}"
    code, _, err = run("ledger", "--store", store, "--lifecycle", LIFECYCLE, "--port", 0, "--env", "prod")
    assert code == 2
    assert err == "otel-orders: the store holds the events of env 'test', and this ledger is for 'prod'\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--help"], ["ledger", "dev", "check", "where every order is"]),
        (["ledger", "--help"], ["--store", "--lifecycle", "--follow", "sqlite:///PATH", "OTEL_ORDERS_LEDGER_TOKEN"]),
        (["dev", "--help"], ["--lifecycle", "--port", "print events as they come"]),
        (["check", "--help"], ["lifecycle file"]),
    ],
)
def test_help_names_what_there_is(run: Callable[..., Outcome], arguments: list[str], says: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert [word for word in says if word not in out] == []


@pytest.mark.parametrize("arguments", [["ledger"], ["nothing"], ["dev", "--port", "99999"], ["dev", "--port", "x"]])
def test_wrong_use_says_what_is_right_and_ends_with_2(run: Callable[..., Outcome], arguments: list[str]) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert "Usage" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("host", "token", "warned"),
    [("0.0.0.0", "", True), ("0.0.0.0", "s3cret", False), ("127.0.0.1", "", False)],  # noqa: S104 - that is the test
)
def test_it_warns_where_others_could_reach_it_without_a_token(
    tmp_path: Path, host: str, token: str, *, warned: bool
) -> None:
    with running(tmp_path, "--host", host, environ={"OTEL_ORDERS_LEDGER_TOKEN": token}) as ledger:
        said = ledger.errors.read_text()
        port = ledger.url.rpartition(":")[2]
        answer = httpx.get(f"http://127.0.0.1:{port}/statuses", trust_env=False)
        assert answer.status_code == (401 if token else 200)
    assert ("WARNING: reachable from other machines without a token" in said) is warned
    assert "s3cret" not in said


def test_a_token_may_end_with_a_line_break_as_files_do(tmp_path: Path) -> None:
    with running(tmp_path, environ={"OTEL_ORDERS_LEDGER_TOKEN": "s3cret\n"}) as ledger, ledger.client() as client:
        assert client.get("/statuses", headers={"authorization": "Bearer s3cret"}).is_success


def test_nothing_of_an_order_is_in_the_ledgers_own_log(tmp_path: Path) -> None:
    secret = "anna@example.com"  # noqa: S105 - personal data
    with running(tmp_path) as ledger, ledger.client() as client:
        records = [changed(secret), changed("A-1", partner_id=secret, note=secret), changed("A-2", secret, env="prod")]
        client.post("/events", content=senders.lines(records) + f"junk {secret}\n".encode())
        client.get(f"/orders/{secret}")
        client.get(f"/nowhere/{secret}")
        client.post("/v1/logs", content=secret.encode(), headers={"content-type": "application/json"})
        assert ledger.stop(signal.SIGTERM) == 0
    assert secret not in ledger.errors.read_text() + ledger.output.read_text()


def test_without_the_extra_it_says_which_one_to_install() -> None:
    program = "import sys; sys.modules['typer'] = None; from otel_orders.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "otel-orders: otel-orders needs the extra 'ledger': pip install 'otel-orders[ledger]'\n"


def test_it_ends_well_while_it_starts(tmp_path: Path) -> None:
    """A signal before it serves: no traceback, whenever it comes."""
    store = f"sqlite:///{tmp_path / 'l.db'}"
    arguments = [*COMMAND, "ledger", "--store", store, "--lifecycle", str(LIFECYCLE), "--port", "0"]
    started = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    wait_for((tmp_path / "l.db").exists)
    started.send_signal(signal.SIGTERM)
    _, err = started.communicate(timeout=20)
    assert started.returncode == 0
    assert "Traceback" not in err


def test_two_that_start_at_once_on_one_port_are_told_apart(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environ = os.environ | {"TMPDIR": str(tmp_path)}
    arguments = [*COMMAND, "dev", "--lifecycle", str(LIFECYCLE), "--port", str(port), "--no-grpc"]
    two = [subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environ) for _ in range(2)]
    try:
        wait_for(lambda: any(one.poll() is not None for one in two))
    finally:
        for one in two:
            if one.poll() is None:
                one.send_signal(signal.SIGTERM)
        ended = [(one.communicate(timeout=20)[1], one.returncode) for one in two]
    assert sorted(code for _, code in ended) == [0, 2]
    assert next(err for err, code in ended if code == 2).splitlines()[-1].startswith("otel-orders: cannot listen on")


def test_a_ledger_without_a_store_says_what_is_missing(run: Callable[..., Outcome]) -> None:
    code, _, err = run("ledger", "--lifecycle", LIFECYCLE)
    assert code == 2
    assert "--store" in err


WITHOUT_A_DRIVER = """
import sys
sys.modules["psycopg"] = None
from otel_orders.cli import main
sys.argv = ["otel-orders", "ledger", "--store", "postgresql://me:s3cr3t@here/orders", "--lifecycle", sys.argv[1]]
main()
"""


def test_postgresql_without_its_driver_says_which_extra_to_install() -> None:
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_DRIVER, LIFECYCLE], capture_output=True, text=True, check=False
    )
    expected = "otel-orders: --store postgresql://... needs the extra 'postgres': pip install 'otel-orders[postgres]'\n"
    assert (result.returncode, result.stderr) == (2, expected)


def test_a_port_for_grpc_that_is_taken_is_one_line_with_the_way_out(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        port = first.grpc.rpartition(":")[2]
        other = (*COMMAND, "dev", "--lifecycle", str(LIFECYCLE), "--port", "0", "--grpc-port", port)
        ended = subprocess.run(other, capture_output=True, text=True, timeout=30, check=False)
        assert ended.returncode == 2
        assert ended.stderr == (
            f"otel-orders: cannot listen on 127.0.0.1:{port} for gRPC;"
            " try --grpc-port 0 for a free port, or --no-grpc\n"
        )


def test_without_grpc_there_is_no_port_for_it(tmp_path: Path) -> None:
    with running(tmp_path, "--no-grpc") as ledger, ledger.client() as client:
        assert ledger.grpc == ""
        assert client.get("/readyz").is_success
