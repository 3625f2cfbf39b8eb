"""Mask personal data and secrets before anything leaves the process, and make ids that mean nothing outside.

Pure: knows no log, no span, no event, only texts and mappings.  Masking is best effort by nature; what must never leave
should not be logged.  It never raises, and what holds nothing personal comes back as it is.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from otel_orders import personal_data as forms
from otel_orders.errors import ConfigurationError

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable

MAX_DEPTH: Final = 8
MAX_VALUES: Final = 10_000
"""Nesting and number of values that are looked at in one mapping; what lies beyond is left out."""
MAX_PASSES: Final = 4
"""Masking one thing can uncover another beside it."""
MAX_KEYS: Final = 4_096
"""Keys whose meaning is remembered."""

LEFT_OUT: Final = "[left out]"

MIN_KEY: Final = 16
"""Shortest key of pseudonyms, in bytes."""

_PLACEHOLDERS = frozenset(forms.PLACEHOLDERS.values())
_SEPARATORS = 3
"""In the address of a host, at least."""
_SHORTEST_SECRET = 3
_MOST_SECRETS = 32

_HARMLESS = (int, float, complex, type(None), date, time, timedelta, Decimal, UUID, range)
_BYTES = (bytes, bytearray, memoryview)


class Masker:
    """Replaces personal data by its kind: ``[email] [phone] [card] [token] [name] [address]``.

    extra_keys: keys whose values are masked too, as ``[masked]`` where their names say no more.  plain_keys: keys whose
    values are not masked for their key.  Both as a whole or as the last dotted segment, in any case and style.
    """

    def __init__(self, extra_keys: Iterable[str] = (), plain_keys: Iterable[str] = ()) -> None:
        self.masked: dict[str, int] = {}
        """How often each kind was masked; about right when several threads mask."""
        self._extra = frozenset(map(forms.words_of, extra_keys))
        self._plain = frozenset(map(forms.words_of, plain_keys))
        self._kinds: dict[str, str] = {}

    def mask_text(self, text: str) -> str:
        """Return *text* without the personal data that its own form or a ``key: value`` in it gives away."""
        if text.isascii() and not (forms.SUSPECT.search(text) or _has_scheme(text)):
            return text
        for _ in range(MAX_PASSES):
            masked = self._masked_once(text)
            if masked == text:
                return text
            text = masked
        return text

    def mask_value(self, key: str, value: Any) -> Any:
        """Return *value*, which stands under *key*, masked for its key or else for what it holds."""
        return _Sweep(self).value(key, key, value, 0)

    def mask_mapping(self, mapping: Mapping[str, Any]) -> dict[str, Any]:
        """Return *mapping* masked, nested values too; the same dict if there was nothing to mask.

        A value that is masked for its key is also masked wherever else in the mapping it is written.
        """
        sweep = _Sweep(self)
        try:
            masked = sweep.mapping("", mapping, 0)
            if sweep.secrets:
                masked = sweep.mapping("", masked, 0)
        except Exception:  # a mapping that cannot even be read has nothing to say
            return {}
        return masked if isinstance(masked, dict) else dict(masked)

    def kind(self, key: str) -> str:
        """Return what the values of *key* are masked as, or "" where they are not masked for their key."""
        known = self._kinds.get(key)
        if known is None:
            if len(self._kinds) >= MAX_KEYS:
                self._kinds.clear()
            known = self._kinds[key] = self._kind_of(key)
        return known

    def _kind_of(self, key: str) -> str:
        words = forms.words_of(key)
        forms_of_key = {words, forms.words_of(key.rpartition(".")[2])}
        if forms_of_key & self._plain:
            return ""
        return forms.kind_of_key(words) or ("masked" if forms_of_key & self._extra else "")

    def placeholder(self, kind: str) -> str:
        """Return what stands in place of personal data of *kind*, and count it."""
        text = forms.PLACEHOLDERS[kind]
        self.masked[text[1:-1]] = self.masked.get(text[1:-1], 0) + 1
        return text

    def _masked_once(self, text: str) -> str:
        if "://" in text and "@" in text:
            text = forms.URL_PASSWORD.sub(lambda match: match[1] + self.placeholder("token") + "@", text)
        if ":" in text or "=" in text:
            text = self._masked_fields(text)
        if "</" in text or "('" in text or '("' in text:
            text = forms.PAIR.sub(self._pair, forms.ELEMENT.sub(self._pair, text))
        if "@" in text or "%40" in text or "u0040" in text or "&#" in text:
            text = forms.EMAIL.sub(lambda _: self.placeholder("email"), text)
        if "eyJ" in text:
            text = forms.JWT.sub(lambda _: self.placeholder("token"), text)
        if any(start in text for start in forms.SECRET_STARTS):
            text = forms.SECRET.sub(lambda _: self.placeholder("token"), text)
        if _has_scheme(text):
            text = forms.BEARER.sub(lambda match: match[1] + self.placeholder("token"), text)
            text = forms.BASIC.sub(self._basic, text)
        if forms.LONG_NUMBER.search(text):
            text = forms.CARD.sub(self._cards, text)
            text = forms.PHONE.sub(lambda _: self.placeholder("phone"), text)
            text = forms.SOCIAL_SECURITY.sub(lambda _: self.placeholder("masked"), text)
        if text.count(".") >= _SEPARATORS or text.count(":") >= _SEPARATORS:
            text = forms.IPV6.sub(self._public, forms.IPV4.sub(self._public, text))
        text = forms.ADDRESS.sub(lambda _: self.placeholder("address"), text)
        return text if text.isascii() else self._masked_in_other_scripts(text)

    def _masked_in_other_scripts(self, text: str) -> str:
        text = forms.WIDE_PHONE.sub(lambda _: self.placeholder("phone"), text)
        return forms.ADDRESS_RU.sub(lambda _: self.placeholder("address"), text)

    def _masked_fields(self, text: str) -> str:
        """Mask the values in ``key: value``, ``key=value`` and JSON."""
        parts: list[str] = []
        done = 0
        for field in forms.FIELD.finditer(text):
            kind = self._kind_in_text(text, field)
            if kind and field.start() >= done and (value := forms.VALUES[kind].match(text, field.end())):
                start, end = value.span(value.lastindex or 0)
                end -= len(value[0]) - len(value[0].rstrip(" ,.)}]")) if value.lastindex == forms.PLAIN else 0
                if forms.holds(kind, text[start:end]) and text[start:end] not in _PLACEHOLDERS:
                    parts += text[done:start], self.placeholder(kind)
                    done = end
        return "".join(parts) + text[done:] if parts else text

    def _kind_in_text(self, text: str, field: re.Match[str]) -> str:
        key = field[1]
        if kind := self.kind(key):
            return kind
        if " " in key and "=" in field[0]:  # "paid name=Ivan": the word before is no part of the key
            return self.kind(key.partition(" ")[2])
        return "token" if forms.is_query_secret(text, field.start(), key) else ""

    def _pair(self, match: re.Match[str]) -> str:
        """Return an element or a tuple with its value masked, where its key says so."""
        kind, value = self.kind(match[1]), match[2]
        if not kind or value in _PLACEHOLDERS or not forms.holds(kind, value):
            return match[0]
        start, end = match.start(2) - match.start(), match.end(2) - match.start()
        return match[0][:start] + self.placeholder(kind) + match[0][end:]

    def _public(self, match: re.Match[str]) -> str:
        return self.placeholder("masked") if forms.is_public(match[0]) else match[0]

    def _basic(self, match: re.Match[str]) -> str:
        return match[1] + self.placeholder("token") if forms.is_basic(match[2]) else match[0]

    def _cards(self, match: re.Match[str]) -> str:
        text, run, done = "", match[0], 0
        for start, end in forms.card_spans(run):
            text += run[done:start] + self.placeholder("card")
            done = end
        return text + run[done:]


class _Sweep:
    """One walk over a mapping: bounded, and remembering what it masked for its key."""

    def __init__(self, masker: Masker) -> None:
        self.secrets: dict[str, str] = {}
        self._masker = masker
        self._left = MAX_VALUES

    def mapping(self, parent: str, mapping: Mapping[Any, Any], depth: int) -> Mapping[Any, Any]:
        """Return *mapping* with keys and values masked; the same object if there was nothing to mask."""
        masked: dict[Any, Any] = {}
        changed = False
        for key, value in mapping.items():
            name = self._masker.mask_text(key) if isinstance(key, str) and not key.isidentifier() else key
            masked[name] = self.value(key, f"{parent}.{key}" if parent else key, value, depth)
            changed = changed or masked[name] is not value or name is not key
            if self._left < 0:
                break
        return masked if changed else mapping

    def value(self, key: Any, path: Any, value: Any, depth: int) -> Any:
        """Return *value* masked.  path: *key* after the key above it, which says whose name a name is."""
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            return LEFT_OUT
        try:
            if key in forms.OWN_FIELDS:
                return value if key in forms.NEVER_MASKED else self._own(key, value, depth)
            return self._masked(key, path, value, depth)
        except Exception:  # an object whose own methods raise
            return LEFT_OUT

    def _own(self, key: str, value: Any, depth: int) -> Any:
        """Return the value of a field of the toolkit, masked for what it holds, unless it is an id."""
        if isinstance(value, str):
            return value if key in forms.IDS and forms.ID.fullmatch(value) else self._text(value)
        return self._masked("", "", value, depth)

    def _masked(self, key: Any, path: Any, value: Any, depth: int) -> Any:
        kind = self._masker.kind(path) if isinstance(path, str) else ""
        if kind and kind != "bare name" and (placeholder := self._for_key(kind, value)) is not None:
            return placeholder
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, _HARMLESS):
            return value
        if isinstance(value, Mapping):
            return self.mapping(str(key), value, depth + 1)
        if isinstance(value, (Sequence, AbstractSet)) and not isinstance(value, _BYTES):
            return self._items(key, path, value, depth + 1)
        return self._rendered(value)

    def _for_key(self, kind: str, value: Any) -> str | bytes | None:
        """Return what stands for *value* because of its key; None where the key says nothing about such a value."""
        if value is None or isinstance(value, bool):
            return None
        if isinstance(value, (Mapping, Sequence, AbstractSet)) and not isinstance(value, (str, *_BYTES)):
            secret = isinstance(value, Mapping) and forms.PLACEHOLDERS[kind] in ("[token]", "[masked]")
            return self._masker.placeholder(kind) if secret else None
        text = _decoded(value) if isinstance(value, _BYTES) else str(value)
        if text in _PLACEHOLDERS or not forms.holds(kind, text):
            return None
        known = f"[{text.lower()}]" in _PLACEHOLDERS  # a person called Card: the word stands in what masks others
        if len(text) >= _SHORTEST_SECRET and len(self.secrets) < _MOST_SECRETS and not known:
            self.secrets[text] = forms.PLACEHOLDERS[kind]
        placeholder = self._masker.placeholder(kind)
        return placeholder.encode() if isinstance(value, _BYTES) else placeholder

    def _items(self, key: Any, path: Any, items: Sequence[Any] | AbstractSet[Any], depth: int) -> Any:
        masked = []
        for item in items:
            masked.append(self.value(key, path, item, depth))
            if self._left < 0:
                break
        if len(masked) == len(items) and all(new is old for new, old in zip(masked, items, strict=True)):
            return items
        return tuple(masked) if isinstance(items, tuple) else set(masked) if isinstance(items, AbstractSet) else masked

    def _rendered(self, value: Any) -> Any:
        """Return bytes, or any other object, as it is if its text holds nothing personal; else that text, masked."""
        text = _decoded(value) if isinstance(value, _BYTES) else str(value)
        masked = self._text(text)
        if masked == text:
            return value
        return masked.encode("utf-8", "surrogateescape") if isinstance(value, _BYTES) else masked

    def _text(self, text: str) -> str:
        text = self._masker.mask_text(text)
        for secret, placeholder in self.secrets.items():
            text = _without(text, secret, placeholder)
        return text


def _has_scheme(text: str) -> bool:
    """Return whether *text* may hold Bearer or Basic credentials, or a secret that says so itself."""
    scheme = "earer " in text or "EARER " in text or "asic " in text or "ASIC " in text
    return scheme or "AKIA" in text or "AIza" in text or "xox" in text or "glpat-" in text or "KEY-" in text


def _decoded(value: Any) -> str:
    return bytes(value).decode("utf-8", "surrogateescape")


def _without(text: str, secret: str, placeholder: str) -> str:
    """Return *text* with every *secret* that stands there as whole words, in any case, replaced."""
    lowered, secret = text.lower(), secret.lower()
    if secret not in lowered or len(lowered) != len(text):  # lower() changes the length of a few exotic letters
        return text
    parts: list[str] = []
    done, start = 0, lowered.find(secret)
    while start >= 0:
        end = start + len(secret)
        if not (text[start - 1 : start].isalnum() or text[end : end + 1].isalnum()):
            parts += text[done:start], placeholder
            done = end
        start = lowered.find(secret, end)
    return "".join(parts) + text[done:]


def pseudonym(order_id: str, key: bytes) -> str:
    """Return an id that stands for *order_id* outside the company: ``p-`` and 20 hex digits of HMAC-SHA256 with *key*.

    The same key gives the same pseudonym; without the key, nobody can try out order ids.  Raises ValueError for an
    empty key.
    """
    if not key:
        raise ValueError("expected a key for pseudonyms, got an empty one")
    return "p-" + hmac.new(key, order_id.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:20]


class PseudonymKey:
    """The key of pseudonymous order ids, which no repr, log line or error shows.

    former: keys that were in use before, whose pseudonyms are out in the world and still stand for their orders.
    Raises ConfigurationError for a key of fewer than 16 bytes: who can try out all keys can try out order ids.
    """

    __slots__ = ("_former", "_key")

    def __init__(self, key: bytes, *former: bytes) -> None:
        for one in (key, *former):
            if len(one) < MIN_KEY:
                raise ConfigurationError(
                    f"OTEL_ORDERS_PSEUDONYM_KEY: expected at least {MIN_KEY} bytes, got {len(one)};"
                    " make one with: openssl rand -hex 32"
                )
        self._key = key
        self._former = former

    def pseudonym(self, order_id: str) -> str:
        """Return the id that stands for *order_id* outside the company."""
        return pseudonym(order_id, self._key)

    def stands_for(self, given: str, order_id: str) -> bool:
        """Return whether *given* is a pseudonym of *order_id*, in a time that does not tell how much of it fits."""
        known = given.encode("utf-8", "surrogatepass")
        return any(hmac.compare_digest(pseudonym(order_id, key).encode(), known) for key in (self._key, *self._former))
