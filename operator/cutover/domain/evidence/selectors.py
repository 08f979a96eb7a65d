"""Parts of PromQL selectors, with their values escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable


def milliseconds(seconds: float) -> str:
    """Return a time as a PromQL duration, rounded up to milliseconds."""
    return f"{math.ceil(seconds * 1000)}ms"


def matcher(label: str, values: Iterable[str]) -> str:
    r"""Return the PromQL matcher for a label with one of some values.

    Each value is escaped for RE2 (as Go's ``regexp.QuoteMeta`` does) and then as a PromQL string, so that no value can
    end the string or match more than itself. ``matcher("pod", ["a.b"])`` is ``pod=~"a\\.b"``.
    """
    pattern = "|".join(_quote_meta(value) for value in sorted(set(values)))
    return f"{label}=~{_quote(pattern)}"


def other_than(label: str, values: Iterable[str]) -> str:
    """Return the PromQL matcher for a label with none of some values; a label that is missing has none."""
    return matcher(label, values).replace("=~", "!~", 1)


def bounds_matcher(bounds: Iterable[float]) -> str:
    """Return the matcher for the ``le`` of some bounds, in the histogram's own unit, and of all requests (``+Inf``).

    Envoy writes a bound as ``3600000``; Prometheus 3 normalises it to ``3.6e+06`` or ``3600000.0``:
    https://prometheus.io/docs/prometheus/latest/migration/#le-and-quantile-label-values
    """
    spellings = {"+Inf"}
    for bound in bounds:
        spellings |= {f"{bound:g}", repr(float(bound))}
        if bound == int(bound):
            spellings.add(str(int(bound)))
    return matcher("le", spellings)


def _quote_meta(value: str) -> str:
    return "".join("\\" + character if character in r"\.+*?()|[]{}^$" else character for character in value)


def _quote(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
