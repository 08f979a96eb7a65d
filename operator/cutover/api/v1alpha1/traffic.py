"""Both legs of a migration, and the provider that splits requests between them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from cutover.api.durations import format_duration
from cutover.api.hosts import HOST, cel_covers, covers, is_wildcard
from cutover.api.model import DNS_NAME, GATEWAY_NAME, Duration, Model, ObjectName
from cutover.api.rules import Rule, matching, once, within


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


class ServiceRef(Model):
    """A Service in the plan's namespace, and one of its ports."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=63),
        matching(
            r"^[a-z]([-a-z0-9]*[a-z0-9])?$", "write the name of a Service of the plan's namespace, without a dot"
        ),
    ] = Field(description="Name of the Service.")
    port: int = Field(ge=1, le=65535, description="Port of the Service, by number.")


class WorkloadRef(Model):
    """The workload behind the Service, in the plan's namespace."""

    api_version: Literal["apps/v1"] = Field(default="apps/v1", description="API group and version of the workload.")
    kind: Literal["Deployment"] = Field(default="Deployment", description="Kind of the workload.")
    name: ObjectName = Field(description="Name of the workload.")


class EksLeg(Model):
    """The EKS side of the split."""

    service: ServiceRef = Field(description="Service that receives the requests, with its HTTP port.")
    workload_ref: WorkloadRef = Field(description="Workload behind the Service, in the plan's namespace.")


class Ownership(StrEnum):
    """Which VirtualService has the weights, and who owns it."""

    GENERATE = "Generate"
    DELEGATE = "Delegate"
    ADOPT = "Adopt"


class VirtualServiceRef(Model):
    """The VirtualService that ``Delegate`` and ``Adopt`` work on."""

    name: ObjectName = Field(description="Name of the VirtualService.")
    namespace: ObjectName | None = Field(
        default=None,
        description="Its namespace, if it is not the plan's; only with ownership Delegate, and that of one of the gateways.",
    )


Hosts = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=253)], ...],
    Rule(
        "hosts: * is not supported, as it includes hosts of other services; write each host by its name, or a wildcard of"
        " your own such as *.shop.example.com",
        "!('*' in self)",
        lambda hosts: "*" not in hosts,
    ),
    Rule(
        "hosts: write DNS names in lower case without scheme, port or path, such as pdf.example.com; a wildcard stands for"
        " whole labels before a name, as in *.shop.example.com",
        f"self.all(host, host == '*' || host.matches({json.dumps(HOST)}))",
        lambda hosts: all(host == "*" or re.fullmatch(HOST, host) for host in hosts),
    ),
    once("hosts: write each host once"),
]

Gateways = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=317)], ...],
    Rule(
        "gateways: mesh is not supported, as traffic inside the mesh cannot be compared yet; write ingress gateways only,"
        " such as istio-ingress/public",
        "!('mesh' in self)",
        lambda gateways: "mesh" not in gateways,
    ),
    Rule(
        "gateways: write namespace/name, or name for a Gateway of the plan's namespace, such as istio-ingress/public",
        f"self.all(gateway, gateway.matches({json.dumps(GATEWAY_NAME)}))",
        lambda gateways: all(re.fullmatch(GATEWAY_NAME, gateway) for gateway in gateways),
    ),
    once("gateways: write each gateway once"),
]


#: A path without a query. With two slashes it would be a URL of another host.
_PATH = r"^/([-A-Za-z0-9._~!$&'()*+,;=:@%][-A-Za-z0-9._~!$&'()*+,;=:@%/]*)?$"


class IstioSettings(Model):
    """How the host's traffic is split in Istio."""

    RULES = (
        Rule(
            "virtualServiceRef: needed with ownership Adopt or Delegate; write the name of the VirtualService to work on,"
            " or ownership: Generate",
            "self.ownership == 'Generate' || has(self.virtualServiceRef)",
            lambda self: self.ownership is Ownership.GENERATE or self.virtual_service_ref is not None,
            at=".virtualServiceRef",
        ),
        Rule(
            "virtualServiceRef: must not be set with ownership Generate, which needs none; leave it out, or write"
            " ownership: Adopt or Delegate",
            "self.ownership != 'Generate' || !has(self.virtualServiceRef)",
            lambda self: self.ownership is not Ownership.GENERATE or self.virtual_service_ref is None,
            at=".virtualServiceRef",
        ),
        # The operator reads what is there and says what to change, so that not every namespace may be looked into.
        Rule(
            "virtualServiceRef.namespace: only with ownership Delegate, and where one of the gateways is; leave it out for a"
            " VirtualService in the plan's namespace",
            "!has(self.virtualServiceRef) || !has(self.virtualServiceRef.__namespace__) || (self.ownership == 'Delegate' &&"
            " self.gateways.exists(gateway, gateway.startsWith(self.virtualServiceRef.__namespace__ + '/')))",
            lambda self: (
                self.virtual_service_ref is None
                or self.virtual_service_ref.namespace is None
                or (
                    self.ownership is Ownership.DELEGATE
                    and any(gateway.startswith(f"{self.virtual_service_ref.namespace}/") for gateway in self.gateways)
                )
            ),
            at=".virtualServiceRef",
        ),
    )

    hosts: Hosts = Field(
        min_length=1,
        max_length=16,
        description="Public host names whose requests are split; *.shop.example.com for all names below one.",
    )
    gateways: Gateways = Field(
        min_length=1,
        max_length=8,
        description="Gateways as namespace/name, or as name for a Gateway in the plan's namespace.",
    )
    ownership: Ownership = Field(
        default=Ownership.GENERATE,
        description="Generate: the operator writes the VirtualService. Delegate: the team's VirtualService in"
        " virtualServiceRef delegates to the operator's. Adopt: the operator takes over the team's VirtualService.",
    )
    virtual_service_ref: VirtualServiceRef | None = Field(
        default=None, description="The team's VirtualService; needed with ownership Delegate or Adopt."
    )
    first_byte_timeout: Annotated[Duration, within("1s", "1h", "30s")] = Field(
        default=timedelta(seconds=30),
        description="How long either leg may take until its answer begins; that of Heroku's router is 30s (H12). With"
        " ownership Adopt the team's routes keep their own.",
    )
    timeout: Annotated[Duration, within("1s", "1d", "5m or 1h")] | None = Field(
        default=None,
        description="How long a whole answer may take; longer ones are cut. Heroku has no such limit, and by default there"
        " is none. With ownership Adopt the team's routes keep their own.",
    )

    leg_header: bool = Field(
        default=True,
        description="Whether answers tell users which leg they came from, in the header x-cutover-leg.",
    )

    def qualified_gateways(self, namespace: str) -> tuple[str, ...]:
        """Return the gateways as ``namespace/name``, for a plan of a namespace."""
        return tuple(name if "/" in name else f"{namespace}/{name}" for name in self.gateways)

    @property
    def recorded(self) -> Mapping[str, str]:
        """Settings whose edits are recorded in the ledger, by the name in the ledger."""
        return {
            "gateways": ", ".join(self.gateways),
            "firstByteTimeout": format_duration(self.first_byte_timeout),
            "timeout": format_duration(self.timeout) if self.timeout is not None else "none",
            "legHeader": str(self.leg_header).lower(),
        }

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Fields that have no effect beside the others, each with what that means."""
        if self.timeout is None or self.ownership is not Ownership.ADOPT:
            return ()
        return (
            "traffic.istio.timeout: with ownership Adopt the team's routes keep their own time-outs; write it there",
        )


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


#: Names of request headers by which a preview cannot be asked for: those of the operator's own, and those that say what a
#: request is or how it is sent.
_NO_PREVIEW_HEADER = r"^(x-cutover-.*|x-forwarded-.*|host|cookie|connection|te|transfer-encoding|upgrade|content-.*)$"

# A name of a cookie without characters that mean something in a regular expression.
CookieName = Annotated[
    str,
    Field(min_length=1, max_length=64),
    matching(r"^[A-Za-z0-9_-]+$", "write letters, digits, '-' and '_', such as try-eks"),
]


class PreviewHeader(Model):
    """A request header that asks for EKS."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=64),
        matching(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "write the header's name in lower case, such as x-try-eks"),
        Rule(
            "write a header of your own, such as x-try-eks; a cookie has a field of its own",
            f"!self.matches({json.dumps(_NO_PREVIEW_HEADER)})",
            lambda name: re.fullmatch(_NO_PREVIEW_HEADER, name) is None,
        ),
    ] = Field(description="Name of the header, in lower case.")
    value: Annotated[
        str,
        Field(min_length=1, max_length=128),
        matching(r"^[!-~]([ -~]*[!-~])?$", 'write printable ASCII characters, such as "1"'),
    ] = Field(description="The whole value of the header.")


class PreviewCookie(Model):
    """A cookie that asks for EKS."""

    name: CookieName = Field(description="Name of the cookie.")
    value: Annotated[
        str,
        Field(min_length=1, max_length=128),
        matching(r"^[A-Za-z0-9_.~-]+$", "write letters, digits, '-', '_', '.' and '~', such as \"1\""),
    ] = Field(description="The whole value of the cookie.")


class Preview(Model):
    """Requests that go to EKS at any weight, from the takeover on."""

    RULES = (
        Rule(
            'preview: exactly one of header and cookie must be set; write header: {name: x-try-eks, value: "1"}',
            "[has(self.header), has(self.cookie)].exists_one(set, set)",
            lambda self: (self.header is None) is not (self.cookie is None),
        ),
    )

    header: PreviewHeader | None = Field(default=None, description="Requests with this header go to EKS.")
    cookie: PreviewCookie | None = Field(default=None, description="Requests with this cookie go to EKS.")

    @property
    def described(self) -> str:
        """What asks for EKS, as the ledger has it. The value may be what keeps others out, and is not in it."""
        return (
            f"header {self.header.name}" if self.header is not None else f"cookie {self.cookie and self.cookie.name}"
        )


class AffinityCookie(Model):
    """The cookie by which a user stays on a leg."""

    name: CookieName = Field(default="cutover", description="Name of the cookie; none of the app's own.")
    max_age: Annotated[Duration, within("1m", "90d", "12h or 7d")] = Field(
        default=timedelta(days=7),
        description="How long a browser keeps it from the first answer. A user whose cookie has ended is drawn anew.",
    )


class Affinity(Model):
    """Users, not requests, are split."""

    cookie: AffinityCookie = Field(
        description="The cookie, which the gateway sets. Write cookie: {} for its defaults."
    )

    @property
    def described(self) -> str:
        """The cookie, as the ledger has it."""
        return f"cookie {self.cookie.name} for {format_duration(self.cookie.max_age)}"


class Traffic(Model):
    """The traffic provider, of which exactly one is set, and what is asked through it."""

    # Only a provider's adapter, dialect and checks read its settings. All other code uses what all providers have.

    RULES = (
        Rule(
            "traffic: exactly one provider must be set; write istio: {hosts: [...], gateways: [...]}",
            "[has(self.istio)].exists_one(set, set)",
            lambda self: self.istio is not None,
        ),
        Rule(
            "probe.host: needed where all hosts are wildcards, as a request has one whole name; write one that the app on"
            " both legs answers for, such as that of a tenant for tests",
            "!has(self.istio) || self.istio.hosts.exists(host, !host.startsWith('*')) || has(self.probe.host)",
            lambda self: self.probe.host is not None or not all(map(is_wildcard, self.hosts)),
            at=".probe.host",
        ),
        Rule(
            "probe.host: it is none of the hosts, so its requests would not reach the plan's route; write one of the hosts,"
            " or a name that one of their wildcards includes",
            "!has(self.istio) || !has(self.probe.host)"
            f" || self.istio.hosts.exists(host, {cel_covers('host', 'self.probe.host')})",
            lambda self: self.probe.host is None or any(covers(host, self.probe.host) for host in self.hosts),
            at=".probe.host",
        ),
        Rule(
            "affinity.cookie.name: must not be the name of preview.cookie; write another one",
            "!has(self.affinity) || !has(self.preview) || !has(self.preview.cookie)"
            " || self.affinity.cookie.name != self.preview.cookie.name",
            lambda self: (
                self.affinity is None
                or self.preview is None
                or self.preview.cookie is None
                or self.affinity.cookie.name != self.preview.cookie.name
            ),
            at=".affinity.cookie.name",
        ),
    )

    # The rule above keeps it from being None, so its type does not include None while it is the only provider.
    istio: IstioSettings = None  # type: ignore[assignment]
    probe: ProbeSettings = Field(default=ProbeSettings(), description="The operator's own requests to both legs.")
    preview: Preview | None = Field(
        default=None,
        description="Requests of testers: they go to EKS at any weight, from the takeover on, and are neither counted nor"
        " judged. It is no protection: anybody who knows the header or cookie can use it.",
    )
    affinity: Affinity | None = Field(
        default=None,
        description="Users with a cookie stay on their leg until a step moves them, instead of a draw for each request.",
    )

    @property
    def hosts(self) -> tuple[str, ...]:
        """Public host names whose requests are split; some may be wildcards."""
        return self.istio.hosts

    @property
    def asked_host(self) -> str:
        """The host that the operator asks the legs for: a whole name."""
        return self.probe.host or next(host for host in self.hosts if not is_wildcard(host))

    @property
    def recorded(self) -> Mapping[str, str]:
        """Settings whose edits are recorded in the ledger, by the name in the ledger."""
        return {
            **self.istio.recorded,
            **self.probe.recorded,
            "preview": self.preview.described if self.preview is not None else "none",
            "affinity": self.affinity.described if self.affinity is not None else "none",
        }

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Fields of the provider that have no effect beside the others, each with what that means."""
        return self.istio.without_effect
