"""What Grafana's Infinity plugin makes of a ledger's answer: the rows that a query asks for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jsonata import Jsonata

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

INFINITY = "yesoreyeram-infinity-datasource"


def told(target: dict[str, Any], ledger: httpx.Client, chosen: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows of the answer to *target*, by heading.  chosen: values of the dashboard's variables."""
    path = re.sub(r"\$\{(\w+):percentencode\}", lambda found: quote(chosen[found[1]], safe=""), target["url"])
    answer = ledger.get(path).raise_for_status().json()
    found = Jsonata(target["root_selector"]).evaluate(answer)
    listed = [] if found is None else found if isinstance(found, list) else [found]
    headings = {column["selector"]: column["text"] for column in target["columns"]}
    return [{headings[name]: value for name, value in row.items()} for row in listed]
