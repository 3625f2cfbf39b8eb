"""Read YAML as plain values, and keep the line of each, so that every mistake can be shown where it stands.

Only composes: nothing is ever constructed from the file but text, numbers, booleans, lists and mappings.  Knows nothing
of what the file means.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from otel_orders.errors import LifecycleError

if TYPE_CHECKING:
    import os

MAX_BYTES: Final = 1_000_000
MAX_NODES: Final = 20_000
"""Most values in a file, aliases expanded: a few lines of nested aliases can stand for billions."""

Place = tuple[str | int, ...]
"""Where a value stands: keys and list indexes, from the top."""


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the UTF-8 text of the file at *path*.  Raises LifecycleError where it cannot be read or is too large."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LifecycleError(str(path), None, "", f"expected a readable file: {reason}") from error
    if len(content) > MAX_BYTES:
        raise LifecycleError(str(path), None, "", f"expected at most {MAX_BYTES:,} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise LifecycleError(str(path), line, "", "expected UTF-8 text") from None


class Draft:
    """A file while it is checked: its content, the line of each value, and the mistakes found so far.

    Raises LifecycleError where the text cannot be read as YAML at all.
    """

    def __init__(self, text: str, path: str) -> None:
        self._path = path
        self._starts: dict[Place, tuple[int, int]] = {(): (1, 1)}
        self._mistakes: list[tuple[tuple[int, int], str, str]] = []
        self._nodes = 0
        try:
            root = self._composed(text)
            self.content = None if root is None else self._plain(root, (), ())
        except RecursionError:
            raise LifecycleError(path, None, "", "expected fewer levels of nesting") from None

    def wrong(self, place: Place, expected: str) -> None:
        """Note a mistake; a place that the file does not have takes the line of what should hold it."""
        field = _dotted(place)
        while place not in self._starts:
            place = place[:-1]
        self._mistakes.append((self._starts[place], field, expected))

    @property
    def mistakes(self) -> int:
        """How many mistakes were found so far."""
        return len(self._mistakes)

    def raise_first(self) -> None:
        """Raise LifecycleError for the mistake that stands first in the file, if there is one."""
        if self._mistakes:
            (line, _), field, expected = min(self._mistakes, key=lambda mistake: mistake[0])
            raise LifecycleError(self._path, line, field, expected)

    def _composed(self, text: str) -> yaml.Node | None:
        try:
            return yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = None if mark is None else mark.line + 1
            raise LifecycleError(self._path, line, "", f"expected valid YAML: {error.problem}") from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise LifecycleError(self._path, line, "", "expected valid YAML without control characters") from None
        except (ValueError, OverflowError):  # an escape such as "\Uffffffff", which the parser does not expect
            raise LifecycleError(self._path, None, "", "expected valid YAML without impossible escapes") from None

    def _plain(self, node: yaml.Node, place: Place, above: tuple[yaml.Node, ...]) -> object:
        self._nodes += 1
        if self._nodes > MAX_NODES or any(node is other for other in above):
            line, _ = _start(node)
            raise LifecycleError(self._path, line, "", f"expected no endless alias, and at most {MAX_NODES:,} values")
        self._starts.setdefault(place, _start(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place, (*above, node))
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, (*place, index), (*above, node)) for index, item in enumerate(node.value)]
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, place: Place, above: tuple[yaml.Node, ...]) -> dict[str, object]:
        values: dict[str, object] = {}
        for key, value in node.value:
            inner = (*place, _text(key))
            if not isinstance(key, yaml.ScalarNode):
                self._mistakes.append((_start(key), _dotted(place), "expected a name before the colon"))
            elif inner[-1] in values:
                expected = f"expected each name once; it stands on line {self._starts[inner][0]} already"
                self._mistakes.append((_start(key), _dotted(inner), expected))
            else:
                self._starts[inner] = _start(key)
                values[_text(key)] = self._plain(value, inner, above)
        return values


def _start(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _dotted(place: Place) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def _text(node: yaml.Node) -> str:
    """Return a scalar's text; half of a surrogate pair, which an escape can write, becomes a question mark."""
    return str(node.value).encode("utf-8", "replace").decode()


def _scalar(node: yaml.Node) -> object:
    """Return a scalar's value.  Only true and false are booleans: a status may be called ON, or NO."""
    text = _text(node)
    kind = node.tag.rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool" and text.lower() in {"true", "false"}:
        return text.lower() == "true"
    try:
        return {"int": int, "float": float}.get(kind, str)(text)
    except ValueError:
        return text
