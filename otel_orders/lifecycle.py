"""Read lifecycle.yaml into frozen types, and hold every check of it.

The lifecycle is the single source: names, legal moves, limits, alerts and dashboards are derived from it.  A mistake in
it is one LifecycleError with the line, the field and what was expected.  Knows no event, no order, no clock.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from typing import TYPE_CHECKING, Any

import msgspec

from otel_orders import notation
from otel_orders.lifecycle_model import (
    Calendar,
    Lifecycle,
    Milestone,
    Move,
    Owner,
    Partners,
    Queue,
    Sampling,
    Sla,
    Start,
    Status,
)
from otel_orders.notation import Duration, parse_duration, shown
from otel_orders.yaml_lines import Draft, Place, read_text

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = [
    "Calendar",
    "Duration",
    "Lifecycle",
    "Milestone",
    "Move",
    "Owner",
    "Partners",
    "Queue",
    "Sampling",
    "Sla",
    "Start",
    "Status",
    "load_lifecycle",
    "parse_duration",
    "parse_lifecycle",
]

_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "statuses": Status,
    "milestones": Milestone,
    "slas": Sla,
    "calendars": Calendar,
    "owners": Owner,
    "queues": Queue,
}
_SINGLE: dict[str, type[msgspec.Struct]] = {"partners": Partners, "sampling": Sampling}
_REQUIRED = ("version", "statuses", "owners")
_NOT_WRITTEN = ("name", "rank")

_PARSERS: dict[str, Callable[[Any], object]] = {
    **dict.fromkeys(("stuck_after", "stalled_after", "within", "quiet_after", "oldest_after"), parse_duration),
    "start": notation.parse_start,
    "zone": notation.parse_zone,
    "days": notation.parse_days,
    "hours": notation.parse_hours,
    "heartbeat": notation.parse_heartbeat,
    "bindings": notation.parse_bindings,
    "named": notation.parse_partners,
}
"""Fields that are written as text and kept as something else."""

_REFERENCES = {
    **dict.fromkeys(("next", "from", "to", "void_on", "status"), "statuses"),
    "owner": "owners",
    "calendar": "calendars",
    "consumer": "services",
    "problem_only": "queues",
}
"""What the names in a field must be names of."""

_STATUS_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")

_MAX_NAME = 255
_MAX_STATUSES = 200
"""Every status is a label of many metrics."""


def load_lifecycle(path: str | os.PathLike[str]) -> Lifecycle:
    """Read and check the lifecycle file at *path*.  Raises LifecycleError."""
    return parse_lifecycle(read_text(path), str(path))


def parse_lifecycle(text: str, path: str = "lifecycle.yaml") -> Lifecycle:
    """Check the lifecycle that *text* writes in YAML.  path: named in errors.

    Raises LifecycleError for the mistake that stands first in the file.  How the statuses hang together is judged only
    when each of them is right by itself.
    """
    draft = Draft(text, path)
    content = _outline(draft)
    names = _names(content)
    found: dict[str, Any] = {section: _entries(draft, section, content, names) for section in _SECTIONS}
    for section, kind in _SINGLE.items():
        found[section] = _entry(draft, kind, (section,), content.get(section, {}), names)
    for place, expected in _broken_rules(found):
        draft.wrong(place, expected)
    draft.raise_first()
    return Lifecycle(**found, forward=_forward(found["statuses"]), hash=_hash(found))


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _outline(draft: Draft) -> dict[str, object]:
    """Return the top level, with its version and its sections checked."""
    content = _mapping(draft.content)
    for key in _REQUIRED:
        if key not in content:
            draft.wrong((key,), "expected, and is missing")
    for key in _known_keys(draft, (), content, ("version", *_SECTIONS, *_SINGLE)):
        value = content[key]
        if key == "version" and (type(value) is not int or value != 1):
            draft.wrong((key,), f"expected 1, got {shown(value)}")
        elif key != "version" and not _mapping(value):
            draft.wrong((key,), f"expected a mapping that is not empty, got {shown(value)}")
    return content


def _names(content: Mapping[str, object]) -> dict[str, list[str]]:
    """Return the names that each section defines, and the services of all owners.

    A section that is no mapping is left out: one mistake must not make every reference to it another.
    """
    sections = {section: content.get(section, {}) for section in _SECTIONS}
    names = {section: list(entries) for section, entries in sections.items() if isinstance(entries, dict)}
    services = [_mapping(owner).get("services") for owner in _mapping(sections["owners"]).values()]
    if all(isinstance(listed, list) for listed in services):
        names["services"] = [str(service) for listed in services if isinstance(listed, list) for service in listed]
    return names


def _known_keys(draft: Draft, place: Place, value: Mapping[str, object], known: Iterable[str]) -> list[str]:
    """Return the keys of *value* that may stand there; note the others as mistakes."""
    for key in value:
        if key not in known:
            draft.wrong((*place, key), f"expected {_one_of(known, key)}")
    return [key for key in value if key in known]


def _one_of(known: Iterable[str], name: str) -> str:
    if near := difflib.get_close_matches(name, known, 1):
        return f"another name; did you mean {near[0]}?"
    return f"one of {', '.join(known) or 'none, as there are none'}"


def _entries(
    draft: Draft, section: str, content: Mapping[str, object], names: Mapping[str, list[str]]
) -> dict[str, msgspec.Struct | None]:
    kind = _SECTIONS[section]
    entries = {}
    for rank, (name, value) in enumerate(_mapping(content.get(section)).items()):
        if not _may_be_a_name(name):
            draft.wrong((section, name), f"expected a name of 1 to {_MAX_NAME} printable characters")
        given = {"name": name, "rank": rank} if kind is Status else {"name": name}
        entries[name] = _entry(draft, kind, (section, name), value, names, **given)
    return entries


def _may_be_a_name(text: str) -> bool:
    return text.isprintable() and 0 < len(text.strip()) == len(text) <= _MAX_NAME


def _entry(
    draft: Draft,
    kind: type[msgspec.Struct],
    place: Place,
    value: object,
    names: Mapping[str, list[str]],
    **given: object,
) -> msgspec.Struct | None:
    """Return what stands at *place* as a struct, or None after noting what is wrong with it."""
    if not isinstance(value, dict):
        draft.wrong(place, f"expected a mapping, got {shown(value)}")
        return None
    before = draft.mistakes
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind) if field.name not in _NOT_WRITTEN}
    for key in _known_keys(draft, place, value, fields):
        given[fields[key].name] = _field(draft, (*place, key), value[key], fields[key].type, names)
    for key, field in fields.items():
        if field.required and key not in value:
            draft.wrong((*place, key), "expected, and is missing")
    return kind(**given) if draft.mistakes == before else None


def _field(draft: Draft, place: Place, value: object, kind: object, names: Mapping[str, list[str]]) -> object:
    """Return a field's value, of the right type and naming only what there is."""
    key = str(place[-1])
    try:
        parsed = _PARSERS[key](value) if key in _PARSERS else msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        indexes = [int(index) for index in re.findall(r"[0-9]+", where)]
        expected = message.replace("`", "").replace("array", "list").replace("Expected", "expected")
        draft.wrong((*place, *indexes), expected if "got" in expected else f"{expected}, got {shown(value)}")
        return None
    except ValueError as error:
        draft.wrong(place, str(error))
        return None
    _check_names(draft, place, parsed, names.get(_REFERENCES.get(key, "")))
    return parsed


def _check_names(draft: Draft, place: Place, found: object, known: list[str] | None) -> None:
    """Note the names in *found*, one or many, that are not *known*; None: what is known cannot be told."""
    if known is None:
        return
    listed = isinstance(found, tuple)
    for index, name in enumerate(found if isinstance(found, tuple) else (found,)):
        if name is not None and name not in known:
            at = (*place, index) if listed else place
            draft.wrong(at, f"{shown(name)} is not known; expected {_one_of(known, str(name))}")


def _broken_rules(found: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    """Yield what is wrong between fields and entries that are right by themselves."""
    sound = {section: {name: entry for name, entry in found[section].items() if entry} for section in _SECTIONS}
    alone = [mistake for status in sound["statuses"].values() for mistake in _status_rules(status)]
    yield from alone
    for section in ("milestones", "slas"):
        for name, span in sound[section].items():
            if span.start_status == span.end_status:
                yield (section, name, "to"), f"expected another status than from, {span.start_status}"
    yield from _owner_rules(sound["owners"])
    if not alone and len(sound["statuses"]) == len(found["statuses"]) > 0:
        yield from _graph_rules(sound["statuses"])


def _status_rules(status: Status) -> Iterator[tuple[Place, str]]:
    place = ("statuses", status.name)
    if not _STATUS_NAME.fullmatch(status.name):
        yield place, "expected a name of capitals, digits and _, at most 64, such as SUBMITTED"
    if status.terminal and status.next:
        yield (*place, "next"), "expected no next status after a terminal one"
    if status.terminal and (status.stuck_after or status.stalled_after):
        yield place, "expected no limit on a terminal status: nothing waits there"
    if not status.terminal and not status.next:
        yield (*place, "next"), "expected at least one status, or terminal: true"
    if status.stuck_after and status.stalled_after and status.stalled_after > status.stuck_after:
        yield (*place, "stalled_after"), f"expected at most stuck_after, {status.stuck_after}"


def _owner_rules(owners: Mapping[str, Owner]) -> Iterator[tuple[Place, str]]:
    spoken_for: dict[str, str] = {}
    for name, owner in owners.items():
        for index, service in enumerate(owner.services):
            if not _may_be_a_name(service):
                yield ("owners", name, "services", index), f"expected a name of 1 to {_MAX_NAME} printable characters"
            if service in spoken_for:
                other = spoken_for[service]
                yield ("owners", name, "services", index), f"expected one owner a service; {other} has {service}"
            spoken_for[service] = name


def _graph_rules(statuses: Mapping[str, Status]) -> Iterator[tuple[Place, str]]:
    """Yield each status that no order can reach from a start, or from which none can reach an end."""
    starts = {status.name for status in statuses.values() if status.initial}
    ends = {status.name for status in statuses.values() if status.terminal}
    if not starts:
        yield ("statuses",), "expected a status with initial: true"
    if not ends:
        yield ("statuses",), "expected a status with terminal: true"
    if len(statuses) > _MAX_STATUSES:
        yield ("statuses",), f"expected at most {_MAX_STATUSES} statuses"
    elif starts and ends:
        forward = _forward(statuses)
        reached = starts.union(*(forward[name] for name in starts))
        for name in statuses:
            if name not in reached:
                yield ("statuses", name), "expected a way here from an initial status"
            if name not in ends and not ends & forward[name]:
                yield ("statuses", name), "expected a way from here to a terminal status"


def _forward(statuses: Mapping[str, Status]) -> dict[str, frozenset[str]]:
    """Return for each status all that its orders can still reach."""
    forward = {}
    for status in statuses.values():
        reached: set[str] = set()
        ahead = list(status.next)
        while ahead:
            if (name := ahead.pop()) not in reached:
                reached.add(name)
                ahead.extend(statuses[name].next)
        forward[status.name] = frozenset(reached)
    return forward


def _hash(found: Mapping[str, Any]) -> str:
    """Digest what the file says.  Only among statuses does the order of entries mean something."""
    said = {section: {name: _said(entry) for name, entry in found[section].items()} for section in _SECTIONS}
    content = [list(said["statuses"]), said, _said(found["partners"]), _said(found["sampling"])]
    return hashlib.sha256(msgspec.json.encode(content, enc_hook=int, order="deterministic")).hexdigest()[:12]


def _said(entry: msgspec.Struct) -> dict[str, object]:
    """Return the fields that differ from their defaults: a field that a later version adds changes no hash."""
    fields = msgspec.structs.fields(type(entry))
    return {field.name: value for field in fields if (value := getattr(entry, field.name)) != field.default}
