"""Which answers are errors: one definition for the gates, the probes, and the queries by which people look."""

from __future__ import annotations

from collections.abc import Mapping

#: Answers of Heroku's router about the request's own way, which users see as failures: the TLS name does not fit the Host.
ROUTING_FAULTS: Mapping[str, str] = {"421": "misdirected request", "495": "certificate error"}
#: The same in a matcher of PromQL, for both legs. On EKS the app itself may answer 421 or 495: a query counts that, a gate
#: does not.
ERROR_CODES = "|".join(("5..", *ROUTING_FAULTS))


def is_error(code: str, *, heroku: bool) -> bool:
    """Tell whether an HTTP status counts as an error of the leg that answered."""
    return code.startswith("5") or (heroku and code in ROUTING_FAULTS)
