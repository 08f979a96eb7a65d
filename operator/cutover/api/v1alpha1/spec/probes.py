"""What the operator asks both legs, beside the users' requests."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from cutover.api.model import DNS_NAME, Model
from cutover.api.rules import Rule, matching, once

#: A path without a query. With two slashes it would be a URL of another host.
_PATH = r"^/([-A-Za-z0-9._~!$&'()*+,;=:@%][-A-Za-z0-9._~!$&'()*+,;=:@%/]*)?$"

ProbePaths = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=256)], ...],
    Rule(
        "paths: write paths that begin with '/', but not '//', without a query, such as /healthz",
        f"self.all(path, path.matches({json.dumps(_PATH)}))",
        lambda paths: all(re.fullmatch(_PATH, path) for path in paths),
    ),
    once("paths: write each path once"),
]

#: Request headers that are not a plan's to choose: what the way of the request makes, the operator's own, and credentials.
_NOT_TO_CHOOSE = (
    r"^(authorization|proxy-authorization|cookie|host|connection|content-length|content-encoding|transfer-encoding|te"
    r"|trailer|upgrade|expect|keep-alive|accept-encoding|(x-cutover|x-envoy|x-forwarded|x-istio|proxy)-.*)$"
)


class ProbeHeader(Model):
    """A header of the operator's own requests."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=64),
        matching(r"^[A-Za-z][-A-Za-z0-9]*$", "write the name of a header, such as Accept-Language"),
        Rule(
            "write another header: proxies on the way set this one, or it carries credentials, which must not be in"
            " a plan, as everybody may read it",
            f"!self.lowerAscii().matches({json.dumps(_NOT_TO_CHOOSE)})",
            lambda name: re.search(_NOT_TO_CHOOSE, name.lower()) is None,
        ),
    ] = Field(description="Name of the header.")
    value: Annotated[
        str,
        Field(min_length=1, max_length=256),
        matching(r"^[!-~]([ -~]*[!-~])?$", "write printable ASCII without a space at its ends, such as de"),
    ] = Field(description="Its value. No secret: everybody who may read the plan may read it.")


ProbeHeaders = Annotated[
    tuple[ProbeHeader, ...],
    Rule(
        "headers: write each header once",
        "self.all(a, self.exists_one(b, a.name.lowerAscii() == b.name.lowerAscii()))",
        lambda headers: len({header.name.lower() for header in headers}) == len(headers),
    ),
]


class ProbeSettings(Model):
    """What the operator asks both legs through the gateway, beside the users' requests."""

    paths: ProbePaths = Field(
        default=("/",),
        min_length=1,
        max_length=8,
        description="Paths that the operator asks with GET, one after the other. They must be cheap, change nothing and"
        " be answered alike by both legs; choose some that need what the users need, such as the database.",
    )
    headers: ProbeHeaders = Field(
        default=(),
        max_length=8,
        description="Headers of all these requests, such as Accept-Language. No credentials: everybody who may read the"
        " plan may read them.",
    )
    host: (
        Annotated[
            str,
            Field(min_length=3, max_length=253),
            matching(DNS_NAME, "write a DNS name without scheme, port, path or wildcard, such as pdf.example.com"),
        ]
        | None
    ) = Field(
        default=None,
        description="Host that the operator asks for: one of the provider's, or a name that one of its wildcards includes."
        " By default the first that is no wildcard.",
    )
    rate: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="Pairs of probes a second, one to each leg, at every weight. 0: only where they are needed, which is"
        " before the first step, at 100 %, and while Heroku does not answer.",
    )

    @property
    def recorded(self) -> Mapping[str, str]:
        """Settings whose edits are recorded in the ledger, by the name in the ledger."""
        headers = ", ".join(f"{header.name}: {header.value}" for header in self.headers)
        return {
            "probe.host": self.host or "default",
            "probe.paths": ", ".join(self.paths),
            "probe.headers": headers or "none",
            "probe.rate": f"{self.rate:g}",
        }
