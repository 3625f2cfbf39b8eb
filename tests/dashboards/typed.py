"""Whether what Grafana's own types have read is of the types that they declare; they read anything without a word."""

from __future__ import annotations

import enum
import json
import types
import typing
from typing import TYPE_CHECKING, Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

if TYPE_CHECKING:
    from collections.abc import Callable


def wrong(value: Any, hint: Any, where: str = "") -> list[str]:
    """Return where *value*, or something in it, is not of the type *hint*."""
    if hint in (Any, object) or isinstance(hint, typing.TypeVar):
        return _declared(value, where)
    checked = _KINDS.get(typing.get_origin(hint), _plain)
    return checked(value, hint, where)


def _one_of(value: Any, hint: Any, where: str) -> list[str]:
    each = [wrong(value, one, where) for one in typing.get_args(hint)]
    return max(each, key=_deepest) if all(each) else []


def _literal(value: Any, hint: Any, where: str) -> list[str]:
    return [] if value in typing.get_args(hint) else [f"{where}: {value!r} is not in {typing.get_args(hint)}"]


def _list(value: Any, hint: Any, where: str) -> list[str]:
    if not isinstance(value, list):
        return [f"{where}: {value!r} is no list"]
    (inner,) = typing.get_args(hint)
    return [one for place, each in enumerate(value) for one in wrong(each, inner, f"{where}[{place}]")]


def _dict(value: Any, hint: Any, where: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where}: {value!r} is no object"]
    _, inner = typing.get_args(hint)
    return [one for key, each in value.items() for one in wrong(each, inner, f"{where}.{key}")]


def _deepest(found: list[str]) -> int:
    """Return how far a value was of a type: that one of several was meant."""
    return max(len(one.partition(": ")[0]) for one in found)


def _plain(value: Any, hint: Any, where: str) -> list[str]:
    if hint is None or hint is type(None):
        return [] if value is None else [f"{where}: {value!r} is not null"]
    if issubclass(hint, enum.Enum):
        return [] if value in {member.value for member in hint} else [f"{where}: {value!r} is no {hint.__name__}"]
    if isinstance(value, dict) and hasattr(hint, "from_json"):
        return _read(value, hint, where)
    number = hint is float and isinstance(value, int) and not isinstance(value, bool)
    if not (number or (isinstance(value, hint) and not (hint is int and isinstance(value, bool)))):
        return [f"{where}: {value!r} is no {hint.__name__}"]
    return _declared(value, where)


def _read(value: dict[str, Any], hint: Any, where: str) -> list[str]:
    """Return what is wrong in an object that Grafana's types left as it came."""
    read = hint.from_json(value)
    again = json.loads(json.dumps(read, cls=JSONEncoder))
    unknown = [f"{where}: {value!r} is not what {hint.__name__} writes: {again!r}"] if again != value else []
    return unknown + _declared(read, where)


def _declared(value: Any, where: str) -> list[str]:
    """Return what is wrong in the fields of an object of Grafana's types, whatever it was declared as."""
    if not type(value).__module__.startswith("grafana_foundation_sdk.models"):
        return []
    hints = typing.get_type_hints(type(value))
    return [one for name, hint in hints.items() for one in wrong(getattr(value, name), hint, f"{where}.{name}")]


_KINDS: dict[Any, Callable[[Any, Any, str], list[str]]] = {
    typing.Union: _one_of,
    types.UnionType: _one_of,
    typing.Literal: _literal,
    list: _list,
    dict: _dict,
}
