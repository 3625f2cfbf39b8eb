"""``otel-orders generate`` writes what a lifecycle decides, and says what is stale."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from otel_orders.generate.runbooks import END
from tests.integration.processes import LIFECYCLE

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., tuple[int, str, str]]
    Runbook = tuple[Path, str, Run]

ROOT = Path(__file__).parents[2]
_NO_ADDRESS = (
    *("", "nonsense", "ftp://host/x", "https://", "https://a host/", "http://[::1", "http://host:port/"),
    "https://host/{{.Labels}}",
)


def test_what_was_written_is_up_to_date_until_the_lifecycle_changes(run: Run, tmp_path: Path) -> None:
    changed = tmp_path / "lifecycle.yaml"
    changed.write_text(LIFECYCLE.read_text().replace("ratio: 0.15", "ratio: 0.2"))
    command = ("generate", "collector", "--out", tmp_path)
    assert run(*command, "--lifecycle", LIFECYCLE)[0] == 0
    assert run(*command, "--lifecycle", LIFECYCLE, "--check")[0] == 0
    code, _, err = run(*command, "--lifecycle", changed, "--check")
    said = "is stale: run the command that made it, with its options, without --check"
    assert (code, err) == (1, f"otel-orders: {tmp_path}/sampling.yaml {said}\n")


def test_a_folder_is_made_but_no_path_to_it(run: Run, tmp_path: Path) -> None:
    assert run("generate", "collector", "--lifecycle", LIFECYCLE, "--out", tmp_path / "new")[0] == 0
    code, _, err = run("generate", "collector", "--lifecycle", LIFECYCLE, "--out", tmp_path / "none/none")
    assert code == 2
    assert err == f"otel-orders: {tmp_path}/none/none/sampling.yaml: No such file or directory\n"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("option", ["--partner-webhook", "--watchdog-webhook", "--grafana", "--runbooks-at"])
@pytest.mark.parametrize("value", [*_NO_ADDRESS])
def test_what_is_no_address_is_refused_before_anything_is_written(
    run: Run, tmp_path: Path, option: str, value: str
) -> None:
    code, _, err = run("generate", "all", "--lifecycle", LIFECYCLE, "--out", tmp_path, option, value)
    assert code == 2
    assert "is no address such as https://host/path" in err
    assert not any(tmp_path.iterdir())


def test_all_of_it_is_what_each_command_writes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "alerts").mkdir()
    for command in ("rules", "alerts", "alertmanager", "runbooks"):
        assert run("generate", command, "--lifecycle", LIFECYCLE, "--out", tmp_path / "alerts")[0] == 0
    (tmp_path / "dashboards").mkdir()
    assert run("generate", "dashboards", "--lifecycle", LIFECYCLE, "--out", tmp_path / "dashboards")[0] == 0
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()}
    assert run("generate", "all", "--lifecycle", LIFECYCLE, "--out", tmp_path)[0] == 0
    after = {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()}
    assert {file.relative_to(tmp_path).as_posix() for file in after.keys() - before} == {"collector/sampling.yaml"}
    assert before.items() <= after.items()
    assert run("generate", "all", "--lifecycle", LIFECYCLE, "--out", tmp_path, "--check")[0] == 0


def test_a_stale_file_is_shown_as_a_difference_and_left_as_it_is(run: Run, tmp_path: Path) -> None:
    command = ("generate", "alerts", "--lifecycle", LIFECYCLE, "--out", tmp_path)
    run(*command)
    file = tmp_path / "rules/queues.yaml"
    mended = file.read_text().replace("for: 2m", "for: 20m")
    file.write_text(mended)
    code, out, err = run(*command, "--check")
    assert code == 1
    assert "\n-    for: 20m\n+    for: 2m\n" in out
    assert f"{file} is stale" in err
    assert f"{tmp_path}/rules/orders.yaml: up to date\n" in out
    assert file.read_text() == mended


def test_links_lead_to_the_companys_own_places(run: Run, tmp_path: Path) -> None:
    places = ("--grafana", "https://grafana.acme.example/", "--runbooks-at", "https://wiki.acme.example/runbooks")
    assert run("generate", "alerts", "--lifecycle", LIFECYCLE, "--out", tmp_path, *places)[0] == 0
    text = (tmp_path / "rules/ledger.yaml").read_text()
    assert "dashboard_url: https://grafana.acme.example/d/otel-orders-telemetry\n" in text
    assert "runbook_url: https://wiki.acme.example/runbooks/LedgerDown.md\n" in text


@pytest.fixture
def runbook(run: Run, tmp_path: Path) -> Runbook:
    """A runbook that was made, its frame, and how all are made again."""
    again = partial(run, "generate", "runbooks", "--lifecycle", LIFECYCLE, "--out", tmp_path)
    again()
    file = tmp_path / "runbooks/OrderStuck.md"
    return file, file.read_text().partition(END)[0], again


def test_what_people_wrote_into_a_runbook_is_never_touched(runbook: Runbook) -> None:
    file, frame, again = runbook
    file.write_text(f"an old frame\n{END}\n\nCall Ann, she knows.\n")
    assert again("--check")[0] == 1
    assert again()[0] == 0
    assert file.read_text() == f"{frame}{END}\n\nCall Ann, she knows.\n"
    file.write_text("A runbook from before.\n")
    assert again()[0] == 0
    assert file.read_text() == f"{frame}{END}\n\nA runbook from before.\n"


def test_a_runbook_keeps_the_ends_of_its_lines(runbook: Runbook) -> None:
    file, frame, again = runbook
    file.write_bytes(f"\ufeffan old frame\r\n{END}\r\nCall Ann.\r\nOr Bob.\n".encode())
    assert again()[0] == 0
    wanted = f"{frame}{END}\n".replace("\n", "\r\n") + "Call Ann.\r\nOr Bob.\n"
    assert file.read_bytes().decode() == wanted
    assert again("--check")[0] == 0


@pytest.mark.parametrize("end", ["", "  \n", "\t\r\n"])
def test_a_runbook_in_which_little_stands_after_the_mark_has_one_frame(runbook: Runbook, end: str) -> None:
    file, frame, again = runbook
    file.write_bytes(f"an old frame\n{END}{end}".encode())
    assert again()[0] == 0
    assert file.read_text() == f"{frame}{END}\n"


def test_a_checkout_with_other_ends_of_lines_is_not_stale(run: Run, tmp_path: Path) -> None:
    command = ("generate", "rules", "--lifecycle", LIFECYCLE, "--out", tmp_path)
    run(*command)
    file = tmp_path / "rules/recording.yaml"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert run(*command, "--check")[0] == 0


def test_what_cannot_be_written_whole_is_left_as_it_was(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("generate", "runbooks", "--lifecycle", LIFECYCLE, "--out", tmp_path)
    run(*command)
    file = tmp_path / "runbooks/OrderStuck.md"
    file.write_text(f"an old frame\n{END}\n\nCall Ann, she knows.\n")
    before = sorted(tmp_path.rglob("*"))

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as unfinished:
            unfinished.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    code, _, err = run(*command)
    assert (code, err) == (2, f"otel-orders: {file}: No space left on device\n")
    assert file.read_text() == f"an old frame\n{END}\n\nCall Ann, she knows.\n"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_is_a_link_stays_one_and_keeps_its_mode(run: Run, tmp_path: Path) -> None:
    (tmp_path / "alerts").mkdir()
    (tmp_path / "real.yaml").write_text("old\n")
    (tmp_path / "real.yaml").chmod(0o640)
    (tmp_path / "alerts/sampling.yaml").symlink_to(tmp_path / "real.yaml")
    assert run("generate", "collector", "--lifecycle", LIFECYCLE, "--out", tmp_path / "alerts")[0] == 0
    assert (tmp_path / "alerts/sampling.yaml").is_symlink()
    assert (tmp_path / "real.yaml").read_text().startswith("# Generated by")
    assert (tmp_path / "real.yaml").stat().st_mode & 0o777 == 0o640


def test_what_a_lifecycle_has_no_use_for_any_more_is_named_and_stays(run: Run, tmp_path: Path) -> None:
    command = ("generate", "all", "--lifecycle", LIFECYCLE, "--out", tmp_path)
    run(*command)
    old = [tmp_path / "alerts/runbooks/Gone.md", tmp_path / "dashboards/gone.json"]
    for made, file in zip(("alerts/runbooks/OrderStuck.md", "dashboards/queues.json"), old, strict=True):
        file.write_text((tmp_path / made).read_text())
    for other in ("alerts/runbooks/notes.md", "dashboards/own.json"):
        (tmp_path / other).write_text("{}")
    code, out, _ = run(*command, "--check")
    named = [line for line in out.splitlines() if line.endswith("no use for it; delete it")]
    assert (code, named) == (0, [f"{file}: this lifecycle has no use for it; delete it" for file in old])
    assert all(file.exists() for file in old)


def test_a_new_runbook_begins_with_our_text(run: Run, tmp_path: Path) -> None:
    assert run("generate", "runbooks", "--lifecycle", LIFECYCLE, "--out", tmp_path)[0] == 0
    for ours in (ROOT / "alerts/runbooks").iterdir():
        assert (tmp_path / "runbooks" / ours.name).read_text() == ours.read_text()


@pytest.mark.parametrize("seed", ["1", "2"])
def test_what_is_written_does_not_depend_on_the_process_that_writes_it(seed: str) -> None:
    command = [Path(sys.executable).with_name("otel-orders"), "generate", "all", "--lifecycle", LIFECYCLE, "--check"]
    environment = os.environ | {"PYTHONHASHSEED": seed}
    done = subprocess.run(
        [*map(str, command), "--out", "."], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def test_without_the_extra_the_command_says_which_one_to_install(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otel_orders.cli.generate.find_spec", lambda _: None)
    code, _, err = run("generate", "dashboards", "--lifecycle", LIFECYCLE, "--out", tmp_path)
    assert code == 2
    assert err.endswith("needs the extra 'generate': pip install 'otel-orders[generate]'\n")
