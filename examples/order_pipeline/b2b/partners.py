"""Who the partners are: their keys, quotas and webhooks, from the environment.  Keeps only digests of the keys."""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated, Self

import msgspec


class Partner(msgspec.Struct, frozen=True):
    """daily_quota: how many orders the partner may send in a day (UTC)."""

    partner_id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{1,64}$")]
    daily_quota: Annotated[int, msgspec.Meta(ge=0)]


class Contract(Partner, frozen=True):
    """A partner and its key, as the environment names them.  webhook: the URL that is told what becomes of orders."""

    key: Annotated[str, msgspec.Meta(min_length=16)]
    webhook: str | None = None


class Partners:
    """Finds the partner that a key belongs to."""

    def __init__(self, contracts: list[Contract]) -> None:
        self._by_digest = {_digest(known.key): Partner(known.partner_id, known.daily_quota) for known in contracts}
        self._webhooks = {known.partner_id: known.webhook for known in contracts}

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a list of contracts, where only webhook may be left out.  Raises msgspec.DecodeError."""
        return cls(msgspec.json.decode(text, type=list[Contract]))

    def find(self, key: str) -> Partner | None:
        """Return the partner, or None; takes as long for a wrong key as for a right one."""
        given, found = _digest(key), None
        for digest, partner in self._by_digest.items():
            if hmac.compare_digest(given, digest):
                found = partner
        return found

    def webhook(self, partner_id: str) -> str | None:
        """Return the URL that the partner wants to be told at, None for none."""
        return self._webhooks.get(partner_id)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
