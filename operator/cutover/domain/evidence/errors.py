"""Which answers are errors: one definition for gates, probes and dashboard queries."""

from __future__ import annotations

from collections.abc import Mapping

#: Answers of Heroku's router to a request whose TLS name does not fit its Host. Users see them as failures.
ROUTING_FAULTS: Mapping[str, str] = {"421": "misdirected request", "495": "certificate error"}
#: The error codes as a PromQL matcher, for both legs. On EKS the app may answer 421 or 495 itself, which a query counts as
#: an error and a gate does not.
ERROR_CODES = "|".join(("5..", *ROUTING_FAULTS))


def is_error(code: str, *, heroku: bool) -> bool:
    """Tell whether an HTTP status counts as an error of the leg that answered."""
    return code.startswith("5") or (heroku and code in ROUTING_FAULTS)
