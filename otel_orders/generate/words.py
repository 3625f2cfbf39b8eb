"""Parts of what alerts say: numbers that a template asks Prometheus for when it fires.  Pure."""

from __future__ import annotations

from typing import Final

LENGTH: Final = "humanizeDuration"
COUNT: Final = "humanize"
RATE: Final = 'printf "%.2f"'
"""Of something a second: what `humanize` makes of 0.17, "170m", nobody reads right at night."""
SHARE: Final = "humanizePercentage"


def asked(query: str, *labels: str, shown: str) -> str:
    """Return a template's part: the value of *query*, or nothing where there is none.

    query: each `%q` in it stands for a label of the alert, in their order.  shown: the template's function.
    """
    values = " ".join(f"$labels.{label}" for label in labels)
    written = query.replace('"', '\\"')
    return f'{{{{ with printf "{written}" {values} | query }}}}{{{{ . | first | value | {shown} }}}}{{{{ end }}}}'


def either(query: str, *labels: str, shown: str, before: str = "", after: str = "") -> str:
    """Return the same with words around it, which are left out together with it."""
    part = asked(query, *labels, shown=shown)
    start, value, end = part.partition("{{ . |")
    return f"{start}{before}{value}{end}".replace("{{ end }}", f"{after}{{{{ end }}}}")


def said(name: str) -> str:
    """Return a name of the lifecycle as a template says it literally."""
    return name.replace("{{", '{{ "{{" }}')
