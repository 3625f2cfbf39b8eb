from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_orders.errors import LifecycleError
from otel_orders.lifecycle import Duration, Lifecycle, Owner, load_lifecycle, parse_duration, parse_lifecycle

REFERENCE = Path(__file__).parents[1] / "examples" / "order_pipeline" / "lifecycle.yaml"

# Every test of a mistake changes one line of this file.
SOUND = """\
version: 1
statuses:
  NEW: {owner: shop, initial: true, next: [PAID, DROPPED], stuck_after: 1d}
  PAID: {owner: mes, next: [MADE], stuck_after: 2h, stalled_after: 30m}
  MADE:
    owner: mes
    next:
      - DONE
  DONE: {owner: shop, terminal: true}
  DROPPED: {owner: shop, terminal: true}
milestones:
  making: {from: PAID, to: MADE, start: last, void_on: [DROPPED]}
slas:
  made_in_time: {from: PAID, to: MADE, within: 5m, objective: 0.9, calendar: workdays}
calendars:
  workdays: {zone: Europe/Moscow, days: mon-fri, hours: "09:00-18:00"}
owners:
  shop: {services: [shop-api], contact: "#shop"}
  mes: {services: [mes-api, worker], quiet_after: 3m}
  old: {services: [old-mes], heartbeat: none}
queues:
  pricing.requests: {status: PAID, consumer: worker, oldest_after: 10m, bindings: ["orders:pricing"], long: true}
partners: {named: [acme]}
sampling: {ratio: 0.15, problem_only: [pricing.requests]}
"""


def mistake(tmp_path: Path, text: str) -> LifecycleError:
    path = tmp_path / "lifecycle.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LifecycleError) as caught:
        load_lifecycle(path)
    assert caught.value.path == str(path)
    return caught.value


def changed(before: str, after: str) -> tuple[str, int]:
    """Return SOUND with *before* replaced, and the line of the change."""
    assert SOUND.count(before) == 1, before
    return SOUND.replace(before, after), SOUND.count("\n", 0, SOUND.index(before)) + 1


@pytest.fixture(scope="module")
def sound() -> Lifecycle:
    return parse_lifecycle(SOUND)


@pytest.fixture(scope="module")
def reference() -> Lifecycle:
    return load_lifecycle(REFERENCE)


def test_the_reference_lifecycle_is_sound_and_in_pipeline_order(reference: Lifecycle) -> None:
    assert list(reference.statuses) == [
        "INITIATED",
        "FILE_UPLOADED",
        "SUBMITTED",
        "PRICE_CALCULATED",
        "MANUFACTURING_APPROVED",
        "MANUFACTURING_STARTED",
        "MANUFACTURING_COMPLETED",
        "PACKAGING",
        "SHIPPED",
        "CLOSED",
        "PRICE_REJECTED",
        "CANCELLED",
    ]
    assert [reference.rank(status) for status in reference.statuses] == list(range(12))


def test_the_reference_lifecycle_says_whose_move_it_is_not_who_moved_last(reference: Lifecycle) -> None:
    owners = {name: status.owner for name, status in reference.statuses.items()}
    assert (owners["SUBMITTED"], owners["PRICE_CALCULATED"], owners["MANUFACTURING_APPROVED"]) == ("mes", "crm", "mes")
    assert owners["PRICE_REJECTED"] == "shop"
    assert not reference.owners["legacy-mes"].heartbeat


@pytest.mark.parametrize(
    ("queue", "status", "consumer", "binding"),
    [
        ("pricing.requests", "SUBMITTED", "pricing-worker", ("orders", "pricing")),
        ("crm.priced", "PRICE_CALCULATED", "crm-api", ("orders", "priced")),
        ("mes.approved", "MANUFACTURING_APPROVED", "mes-api", ("orders", "approved")),
        ("crm.shipped", "SHIPPED", "crm-api", ("orders", "shipped")),
    ],
)
def test_the_reference_lifecycle_names_the_queues_between_the_systems(
    reference: Lifecycle, queue: str, status: str, consumer: str, binding: tuple[str, str]
) -> None:
    found = reference.queues[queue]
    assert (found.status, found.consumer, found.bindings) == (status, consumer, (binding,))


def test_every_section_is_read(sound: Lifecycle) -> None:
    paid = sound.statuses["PAID"]
    assert (paid.owner, paid.next, paid.rank) == ("mes", ("MADE",), 1)
    assert (paid.stuck_after, paid.stalled_after) == (parse_duration("2h"), parse_duration("30m"))
    assert sound.statuses["NEW"].initial
    assert sound.statuses["DONE"].terminal
    making, sla = sound.milestones["making"], sound.slas["made_in_time"]
    assert (making.start_status, making.end_status, making.start, making.void_on) == (
        "PAID",
        "MADE",
        "last",
        ("DROPPED",),
    )
    assert (sla.within.seconds, sla.objective, sla.calendar, sla.start) == (300.0, 0.9, "workdays", "last")
    workdays = sound.calendars["workdays"]
    assert (workdays.zone, workdays.days, workdays.hours) == ("Europe/Moscow", frozenset(range(5)), (540, 1080))
    assert sound.owners["shop"] == Owner("shop", ("shop-api",), parse_duration("2m"), "#shop", heartbeat=True)
    assert sound.owners["mes"].quiet_after == parse_duration("3m")
    assert not sound.owners["old"].heartbeat
    queue = sound.queues["pricing.requests"]
    assert (queue.status, queue.consumer, queue.bindings) == ("PAID", "worker", (("orders", "pricing"),))
    assert (queue.oldest_after, queue.long, queue.track) == (parse_duration("10m"), True, False)
    assert sound.partners.named == {"acme"}
    assert (sound.sampling.ratio, sound.sampling.problem_only) == (0.15, ("pricing.requests",))


def test_only_statuses_and_owners_are_needed() -> None:
    least = parse_lifecycle(
        "version: 1\nstatuses: {A: {owner: us, initial: true, next: [B]}, B: {owner: us, terminal: true}}\n"
        "owners: {us: {services: [api]}}\n"
    )
    for section in (least.milestones, least.slas, least.calendars, least.queues):
        assert not section
    assert (least.partners.named, least.sampling.ratio) == (frozenset(), 1.0)


@pytest.mark.parametrize(
    ("from_status", "to_status", "move"),
    [
        ("NEW", "PAID", "legal"),
        (None, "NEW", "legal"),
        (None, "MADE", "legal"),
        ("NEW", "MADE", "skipped"),
        ("NEW", "DONE", "skipped"),
        ("MADE", "NEW", "illegal"),
        ("PAID", "PAID", "illegal"),
        ("PAID", "DROPPED", "illegal"),
        ("DONE", "NEW", "illegal"),
        ("NEW", "LOST", "unknown_status"),
        ("LOST", "NEW", "unknown_status"),
        (None, "LOST", "unknown_status"),
    ],
)
def test_a_move_is_judged(sound: Lifecycle, from_status: str | None, to_status: str, move: str) -> None:
    assert sound.move(from_status, to_status) == move


def test_a_status_that_a_loop_leads_back_to_can_be_skipped_to(reference: Lifecycle) -> None:
    assert reference.move("SUBMITTED", "FILE_UPLOADED") == "skipped"
    assert reference.move("SUBMITTED", "INITIATED") == "illegal"


def test_names_are_looked_up(sound: Lifecycle) -> None:
    assert sound.status("PAID") is sound.statuses["PAID"]
    assert sound.status("LOST") is None
    assert sound.rank("LOST") > max(sound.rank(status) for status in sound.statuses)
    assert [sound.partner_label(partner) for partner in (None, "acme", "globex")] == ["retail", "acme", "other"]
    assert sound.owner_of("worker") is sound.owners["mes"]
    assert sound.owner_of("nobody") is None


MISTAKES = {
    "unknown version": ("version: 1", "version: 2", "version", "expected 1, got 2"),
    "version that is no number": ("version: 1", "version: .inf", "version", "expected 1, got '.inf'"),
    "version of the wrong type": ("version: 1", "version: true", "version", "expected 1, got True"),
    "unknown section": ("milestones:", "milestone:", "milestone", "did you mean milestones?"),
    "section without entries": ("partners: {named: [acme]}", "partners:", "partners", "not empty"),
    "empty section": ("partners: {named: [acme]}", "partners: {}", "partners", "not empty"),
    "section of the wrong type": ("partners: {named: [acme]}", "partners: [acme]", "partners", "mapping"),
    "entry of the wrong type": ("DONE: {owner: shop, terminal: true}", "DONE: shop", "statuses.DONE", "mapping"),
    "duplicate key": ("  old: {", "  mes: {", "owners.mes", "line 19"),
    "duplicate field": ("contact: ", "services: [], contact: ", "owners.shop.services", "line 18"),
    "unknown field": ("stuck_after: 2h", "stuck_aftr: 2h", "statuses.PAID.stuck_aftr", "did you mean stuck_after?"),
    "unknown field like no other": ("stuck_after: 2h", "x: 2h", "statuses.PAID.x", "owner, next, initial"),
    "field that is counted, not written": ("stuck_after: 2h", "rank: 2", "statuses.PAID.rank", "expected"),
    "missing field": ("owner: mes, next", "next", "statuses.PAID.owner", "missing"),
    "text for a boolean": ("initial: true", "initial: yes", "statuses.NEW.initial", "expected bool, got str"),
    "text for a list": ("[PAID, DROPPED]", "PAID", "statuses.NEW.next", "expected list, got str"),
    "number in a list": ("[PAID, DROPPED]", "[7, DROPPED]", "statuses.NEW.next[0]", "expected str, got int"),
    "unknown status in next": ("- DONE", "- DONNE", "statuses.MADE.next[0]", "did you mean DONE?"),
    "unknown status in milestone": ("making: {from: PAID", "making: {from: PAYED", "milestones.making.from", "PAID?"),
    "unknown status in void_on": ("void_on: [DROPPED]", "void_on: [X]", "milestones.making.void_on[0]", "'X' is not"),
    "unknown status in sla": ("to: MADE, within", "to: X, within", "slas.made_in_time.to", "NEW, PAID, MADE, DONE"),
    "unknown status in queue": ("status: PAID", "status: X", "queues.pricing.requests.status", "'X' is not known"),
    "unknown owner": ("owner: mes, next", "owner: mess, next", "statuses.PAID.owner", "did you mean mes?"),
    "unknown calendar": ("calendar: workdays", "calendar: x", "slas.made_in_time.calendar", "one of workdays"),
    "unknown queue": (
        "problem_only: [pricing.requests]",
        "problem_only: [x]",
        "sampling.problem_only[0]",
        "one of pric",
    ),
    "consumer of no owner": ("consumer: worker", "consumer: walker", "queues.pricing.requests.consumer", "worker?"),
    "service of two owners": ("[old-mes]", "[mes-api]", "owners.old.services[0]", "mes has mes-api"),
    "owner without services": ("[old-mes]", "[]", "owners.old.services", "length >= 1"),
    "service without a name": ("[old-mes]", "['']", "owners.old.services[0]", "length >= 1"),
    "terminal with next": ("DONE: {", "DONE: {next: [NEW], ", "statuses.DONE.next", "no next status"),
    "terminal with a limit": ("DONE: {", "DONE: {stuck_after: 1d, ", "statuses.DONE", "no limit"),
    "neither next nor terminal": (
        "DONE: {owner: shop, terminal: true}",
        "DONE: {owner: shop}",
        "statuses.DONE.next",
        "or",
    ),
    "bad duration": ("stuck_after: 2h", "stuck_after: 2 hours", "statuses.PAID.stuck_after", "such as 500ms"),
    "duration without a unit": ("stuck_after: 2h", "stuck_after: 2", "statuses.PAID.stuck_after", "got 2"),
    "duration of nothing": ("stuck_after: 2h", "stuck_after: 0s", "statuses.PAID.stuck_after", "got '0s'"),
    "duration that is missing": ("stuck_after: 2h", "stuck_after: ", "statuses.PAID.stuck_after", "got nothing"),
    "stalled after stuck": (
        "stalled_after: 30m",
        "stalled_after: 3h",
        "statuses.PAID.stalled_after",
        "stuck_after, 2h",
    ),
    "objective of one": ("objective: 0.9", "objective: 1", "slas.made_in_time.objective", "got 1"),
    "objective of nothing": ("objective: 0.9", "objective: 0.0", "slas.made_in_time.objective", "got 0.0"),
    "ratio above one": ("ratio: 0.15", "ratio: 1.5", "sampling.ratio", "got 1.5"),
    "ratio below zero": ("ratio: 0.15", "ratio: -0.1", "sampling.ratio", "got -0.1"),
    "unknown start": ("start: last", "start: latest", "milestones.making.start", "first, last or each"),
    "from and to the same": ("to: MADE, start", "to: PAID, start", "milestones.making.to", "another status"),
    "unknown time zone": ("Europe/Moscow", "Europe/Moskva", "calendars.workdays.zone", "'Europe/Moskva'"),
    "time zone that is a folder": ("Europe/Moscow", "Europe", "calendars.workdays.zone", "'Europe'"),
    "time zone outside": ("Europe/Moscow", "../../etc/passwd", "calendars.workdays.zone", "passwd"),
    "bad days": ("mon-fri", "mon-freitag", "calendars.workdays.days", "mon,wed,sat"),
    "bad hours": ("09:00-18:00", "9-18", "calendars.workdays.hours", "09:00-18:00"),
    "hours that end before they start": ("09:00-18:00", "18:00-09:00", "calendars.workdays.hours", "after"),
    "hours after midnight": ("09:00-18:00", "09:00-24:01", "calendars.workdays.hours", "24:01"),
    "bad heartbeat": ("heartbeat: none", "heartbeat: never", "owners.old.heartbeat", "expected none"),
    "binding without a colon": ("orders:pricing", "pricing", "queues.pricing.requests.bindings", "exchange"),
    "one binding twice": ('"orders:pricing"', "a:b, a:b", "queues.pricing.requests.bindings", "different"),
    "partner named as the others": ("[acme]", "[acme, other]", "partners.named", "other already stands"),
    "partner that is a number": ("[acme]", "[7]", "partners.named", "partner ids"),
    "queue without a name": ("  pricing.requests: {", "  '': {", "queues.", "printable"),
    "service of two lines": (
        "services: [mes-api,",
        'services: ["a\\nb", mes-api,',
        "owners.mes.services[0]",
        "printable",
    ),
    "name of two lines": ("  old: {", '  "a\\nb": {', "owners.a\nb", "printable"),
    "key that is a list": ("  old: {", "  [old]: {", "owners", "a name before the colon"),
}


@pytest.mark.parametrize(("before", "after", "field", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_by_line_field_and_expectation(
    tmp_path: Path, before: str, after: str, field: str, expected: str
) -> None:
    text, line = changed(before, after)
    error = mistake(tmp_path, text)
    assert (error.line, error.field) == (line, field)
    assert expected in error.expected
    assert str(error).startswith(f"{error.path}:{line}: {field}: ")


@pytest.mark.parametrize(
    ("before", "after", "line_of", "field", "expected"),
    [
        ("initial: true, ", "", "statuses:", "statuses", "initial: true"),
        ("[PAID, DROPPED]", "[PAID]", "  DROPPED:", "statuses.DROPPED", "a way here"),
        ("      - DONE\n", "      - PAID\n", "  PAID:", "statuses.PAID", "to a terminal"),
        ("partners:", "owner_s: {}\npartners:", "owner_s:", "owner_s", "did you mean owners?"),
        ("version: 1\n", "", "statuses:", "version", "missing"),
    ],
)
def test_a_mistake_of_the_whole_stands_where_it_shows(  # noqa: PLR0917 - one column of the table each
    tmp_path: Path, before: str, after: str, line_of: str, field: str, expected: str
) -> None:
    text, _ = changed(before, after)
    error = mistake(tmp_path, text)
    assert error.line == text.count("\n", 0, text.index(line_of)) + 1
    assert error.field == field
    assert expected in error.expected


def test_without_a_terminal_status_an_order_never_ends(tmp_path: Path) -> None:
    text = "version: 1\nstatuses:\n  A: {owner: us, initial: true, next: [B]}\n  B: {owner: us, next: [A]}\n"
    error = mistake(tmp_path, text + "owners: {us: {services: [api]}}\n")
    assert (error.line, error.field) == (2, "statuses")
    assert "terminal: true" in error.expected


@pytest.mark.parametrize("name", ["new", "1ST", "A-B", "A" * 65, "BESTÄTIGT"])
def test_a_status_name_fits_a_metric_label(tmp_path: Path, name: str) -> None:
    error = mistake(tmp_path, SOUND.replace("DONE", name))
    assert error.field == f"statuses.{name}"
    assert "such as SUBMITTED" in error.expected


@pytest.mark.parametrize("name", ["ON", "NO", "NULL_", "Y", "A" * 64])
def test_a_status_may_be_called_what_yaml_takes_for_a_boolean(name: str) -> None:
    lifecycle = parse_lifecycle(SOUND.replace("DONE", name))
    assert lifecycle.statuses["MADE"].next == (name,)


def test_of_two_mistakes_the_first_in_the_file_is_reported(tmp_path: Path) -> None:
    text = SOUND.replace("ratio: 0.15", "ratio: 2").replace("to: MADE, within", "to: X, within")
    assert mistake(tmp_path, text).field == "slas.made_in_time.to"
    text = text.replace("[PAID, DROPPED], stuck_after: 1d", "[PAID, DROPPED], stuck_after: x, owner: y")
    assert mistake(tmp_path, text).field == "statuses.NEW.stuck_after"


def test_a_broken_section_does_not_break_every_reference_to_it(tmp_path: Path) -> None:
    head, _, tail = SOUND.partition("owners:\n")
    error = mistake(tmp_path, head + "owners: nobody\nqueues:" + tail.partition("queues:")[2])
    assert error.field == "owners"


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("version: 1\nstatuses: {A: [\n", 3, "valid YAML"),
        ("version: 1\n\tstatuses: {}\n", 2, "valid YAML"),
        ("version: 1\nowners: *nowhere\n", 2, "valid YAML"),
        ("version: 1\n---\nversion: 1\n", 2, "valid YAML"),
        ("version: 1\nowners: \x01\n", 2, "control characters"),
        ('version: "\\UFFFFFFFF"\n', None, "escapes"),
        ("version: &a [*a]\n", 1, "alias"),
        pytest.param("version: " + "[" * 5_000, None, "nesting", marks=pytest.mark.no_cover),
        ("", 1, "missing"),
        ("- version: 1\n", 1, "missing"),
        ("lifecycle\n", 1, "missing"),
    ],
)
def test_a_file_that_is_no_lifecycle_at_all_is_refused(
    tmp_path: Path, text: str, line: int | None, expected: str
) -> None:
    error = mistake(tmp_path, text)
    assert error.line == line
    assert expected in error.expected


def test_nested_aliases_do_not_grow_without_bounds(tmp_path: Path) -> None:
    levels = "".join(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10))
    assert "at most 20,000 values" in mistake(tmp_path, "a0: &a0 lol\n" + levels).expected


def test_a_long_chain_of_aliases_ends(tmp_path: Path) -> None:
    chain = "".join(f"a{level}: &a{level} [*a{level - 1}]\n" for level in range(1, 2_000))
    assert "at most 20,000 values" in mistake(tmp_path, "a0: &a0 x\n" + chain).expected


def test_an_alias_that_ends_is_fine() -> None:
    text = SOUND.replace("next: [PAID, DROPPED], stuck_after: 1d", "next: [PAID, DROPPED], stuck_after: &limit 1d")
    assert parse_lifecycle(text.replace("stuck_after: 2h", "stuck_after: *limit")).statuses["PAID"].stuck_after


def test_python_objects_are_never_made_from_the_file(tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    text = SOUND.replace("[acme]", f"!!python/object/apply:os.mkdir ['{evil}']")
    parse_lifecycle(text)
    assert not evil.exists()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, expected in ((tmp_path / "missing.yaml", "No such file"), (tmp_path, "directory")):
        with pytest.raises(LifecycleError, match=expected) as caught:
            load_lifecycle(path)
        assert (caught.value.path, caught.value.line) == (str(path), None)


def test_a_file_in_another_encoding_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "lifecycle.yaml"
    path.write_bytes("version: 1\n# статус\n".encode("cp1251"))
    with pytest.raises(LifecycleError, match="UTF-8") as caught:
        load_lifecycle(path)
    assert caught.value.line == 2


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "lifecycle.yaml"
    path.write_bytes(SOUND.replace("\n", "\r\n").encode("utf-8-sig"))
    assert load_lifecycle(path).hash == parse_lifecycle(SOUND).hash


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    assert "1,000,000 bytes" in mistake(tmp_path, SOUND + "#" * 1_000_000).expected


def test_more_statuses_than_a_dashboard_can_show_are_refused(tmp_path: Path) -> None:
    chain = "".join(f"  S{n}: {{owner: us, initial: true, next: [S{n + 1}]}}\n" for n in range(200))
    text = f"version: 1\nstatuses:\n{chain}  S200: {{owner: us, terminal: true}}\nowners: {{us: {{services: [api]}}}}\n"
    assert "at most 200" in mistake(tmp_path, text).expected


def test_layout_comments_and_written_defaults_do_not_change_the_hash(sound: Lifecycle) -> None:
    text = "# a comment\n" + SOUND.replace("  MADE:\n    owner: mes\n", "  MADE:   # here too\n    owner:   'mes'\n\n")
    text = text.replace("{owner: shop, initial: true, ", "{initial: true, owner: shop, ")
    text = text.replace("stuck_after: 1d", "stuck_after: 24h, terminal: false").replace(
        '"#shop"', '"#shop", quiet_after: 2m'
    )
    assert len(sound.hash) == 12
    assert int(sound.hash, 16) >= 0
    assert parse_lifecycle(text).hash == sound.hash


def test_the_order_of_statuses_changes_the_hash_and_that_of_owners_does_not(sound: Lifecycle) -> None:
    lines = SOUND.splitlines(keepends=True)
    assert parse_lifecycle("".join([*lines[:8], lines[9], lines[8], *lines[10:]])).hash != sound.hash
    assert parse_lifecycle("".join([*lines[:18], lines[19], lines[18], *lines[20:]])).hash == sound.hash


@pytest.mark.parametrize(
    ("before", "after"),
    [("2h", "3h"), ("[acme]", "[globex]"), ("0.15", "0.16"), ("making:", "made:"), ('"#shop"', '"#store"')],
)
def test_a_change_of_content_changes_the_hash(sound: Lifecycle, before: str, after: str) -> None:
    assert parse_lifecycle(changed(before, after)[0]).hash != sound.hash


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("500ms", 0.5), ("20s", 20.0), ("5m", 300.0), ("24h", 86_400.0), ("1d", 86_400.0), ("3w", 1_814_400.0)),
        *(("1h30m", 5_400.0), ("1d12h", 129_600.0), ("1m500ms", 60.5), ("90m", 5_400.0)),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text).seconds == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "m",
        "5 m",
        "-5m",
        "0s",
        "0h0m",
        "1.5h",
        "30m1h",
        "1h1h",
        "5M",
        "5min",
        "\N{ARABIC-INDIC DIGIT FIVE}m",
        "5m\n",
        "9" * 13 + "s",
        "999999w",
    ],
)
def test_what_is_no_duration_says_what_one_is(text: str) -> None:
    with pytest.raises(ValueError, match="such as 500ms"):
        parse_duration(text)


@given(st.integers(1, 3_000_000_000_000))
def test_a_duration_is_read_as_it_is_written(milliseconds: int) -> None:
    duration = Duration(milliseconds * 1_000_000)
    assert parse_duration(str(duration)) == duration


@given(st.text())
def test_a_text_is_a_duration_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_duration(text) > 0


@pytest.mark.parametrize(
    ("text", "days"),
    [("mon-fri", {0, 1, 2, 3, 4}), ("mon,wed,sat", {0, 2, 5}), ("sun-thu", {6, 0, 1, 2, 3}), ("Sat", {5})],
)
def test_days_are_read_across_the_end_of_the_week(text: str, days: set[int]) -> None:
    lifecycle = parse_lifecycle(SOUND.replace("mon-fri", f'"{text}"'))
    assert lifecycle.calendars["workdays"].days == days


def read_or_refused(text: str) -> None:
    """Fails with anything but a LifecycleError."""
    with contextlib.suppress(LifecycleError):
        assert parse_lifecycle(text).statuses


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_any_text_is_a_lifecycle_or_a_lifecycle_error(text: str) -> None:
    read_or_refused(text)


@given(st.data())
def test_any_damage_to_a_lifecycle_is_a_lifecycle_error_at_worst(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(SOUND)))
    end = data.draw(st.integers(start, min(start + 40, len(SOUND))))
    damage = data.draw(st.text(alphabet="{}[]:,-&*!|>'\"\\%@`#?~ \n\tAZaz019._uUx/", max_size=12))
    read_or_refused(SOUND[:start] + damage + SOUND[end:])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["NEW", "shop", "1h"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.sampled_from(
        [
            "DONE: {owner: shop, terminal: true}",
            "[acme]",
            "{from: PAID, to: MADE, start",
            "mon-fri",
            "Europe/Moscow",
            "0.15",
        ]
    ),
    VALUES,
)
def test_any_value_anywhere_is_a_lifecycle_error_at_worst(before: str, value: object) -> None:
    # JSON is YAML; surrogates and control characters come as escapes.
    read_or_refused(SOUND.replace(before, json.dumps(value)))
