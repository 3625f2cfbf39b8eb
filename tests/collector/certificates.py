"""Certificates for tests: an authority, and what it issues for 127.0.0.1."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")


class Issued(NamedTuple):
    """The files of a certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """Signs what it issues; its own certificate is *cert*."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.cert, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        _openssl(*_NEW_KEY, "-subj", f"/CN={name}", "-keyout", str(self._key), "-out", str(self.cert))

    def issue(self, name: str) -> Issued:
        """Return a new certificate of *name*, good for a server on 127.0.0.1 and for a client."""
        made = Issued(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        signed = ("-CA", str(self.cert), "-CAkey", str(self._key), "-addext", "subjectAltName=IP:127.0.0.1")
        leaf = ("-addext", "basicConstraints=critical,CA:FALSE")
        _openssl(*_NEW_KEY, *signed, *leaf, "-subj", f"/CN={name}", "-keyout", str(made.key), "-out", str(made.cert))
        return made


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", "req", "-x509", *arguments], check=True, capture_output=True)
