"""The Heroku side of the split."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from cutover.api.model import DNS_NAME, Model
from cutover.api.rules import Rule, matching


class SecretKeyRef(Model):
    """A key of a Secret in the plan's namespace."""

    name: str = Field(min_length=1, max_length=253, description="Name of the Secret.")
    key: str = Field(min_length=1, max_length=253, description="Key in the Secret's data.")


#: Names to which a plan must not send the gateways' proxies: endings that are never public (RFC 6761, 6762 and 8375,
#: ICANN's ``.internal``), names with a label ``svc``, as of Services, and IPv4 addresses.
_NOT_PUBLIC = (
    r"(^|\.)svc(\.|$)|\.[0-9][-a-z0-9]*$"
    r"|\.(arpa|corp|home|internal|intranet|invalid|lan|local|localdomain|localhost|pod|private|test)$"
)

#: Names that lead to Heroku's routers for certain.
_AT_HEROKU = r"\.heroku(app|dns|space|ssl)\.com$"


class HostHeader(StrEnum):
    """The name by which requests reach the app on Heroku."""

    APP = "App"
    PUBLIC = "Public"


class HerokuLeg(Model):
    """The Heroku side of the split."""

    RULES = (
        Rule(
            "hostname: with hostHeader Public it must be an address of Heroku's own, as by another one requests for the"
            " public name could come back to the gateway for ever; write the domain's DNS target (heroku domains), such as"
            " quiet-moon-1234.herokudns.com",
            f"self.hostHeader != 'Public' || self.hostname.matches({json.dumps(_AT_HEROKU)})",
            lambda self: self.host_header is not HostHeader.PUBLIC or re.search(_AT_HEROKU, self.hostname) is not None,
            at=".hostname",
        ),
    )

    app: Annotated[
        str,
        Field(min_length=3, max_length=30),
        matching(
            r"^[a-z][a-z0-9-]{1,28}[a-z0-9]$",
            "write the app's name as Heroku has it: 3 to 30 lower-case letters, digits and '-', such as acme-pdf",
        ),
    ] = Field(description="Name of the Heroku app.")
    hostname: Annotated[
        str,
        Field(min_length=3, max_length=238),  # together with the prefix of the leg's name within the limit of DNS
        matching(DNS_NAME, "write a DNS name without scheme, port or path, such as acme-pdf-1a2b3c.herokuapp.com"),
        Rule(
            "write a public name, not an address or a name of a cluster, a machine or a private network; such as"
            " acme-pdf-1a2b3c.herokuapp.com",
            f"!self.matches({json.dumps(_NOT_PUBLIC)})",
            lambda hostname: re.search(_NOT_PUBLIC, hostname) is None,
        ),
    ] = Field(
        description="Address of the app at Heroku's router: the *.herokuapp.com name or, with hostHeader Public, the DNS"
        " target of the custom domain (heroku domains)."
    )
    host_header: HostHeader = Field(
        default=HostHeader.APP,
        description="Host header and SNI of requests to Heroku. App: hostname, with the public name in X-Forwarded-Host."
        " Public: the name that users ask for, for apps that look at it; it has to be a custom domain of the app, with a"
        " certificate.",
    )
    api_key_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Secret that holds a read-only key for Heroku's Platform API."
    )
