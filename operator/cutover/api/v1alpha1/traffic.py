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
    r"|\.(arpa|corp|home|internal|intranet|invalid|lan|local|localdomain|localhost|private|test)$"
)


class HerokuLeg(Model):
    """The Heroku side of the split."""

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
    ] = Field(description="Host name of the app at Heroku's router; prefer the *.herokuapp.com name.")
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

    name: ObjectName = Field(description="Name of the VirtualService, in the plan's namespace.")


Hosts = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=253)], ...],
    Rule(
        "hosts: a wildcard is not supported, as it may include hosts of other services; write each host by its name",
        "!self.exists(host, host.contains('*'))",
        lambda hosts: not any("*" in host for host in hosts),
    ),
    Rule(
        "hosts: write DNS names in lower case without scheme, port or path, such as pdf.example.com",
        f"self.all(host, host.contains('*') || host.matches({json.dumps(DNS_NAME)}))",
        lambda hosts: all("*" in host or re.fullmatch(DNS_NAME, host) for host in hosts),
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
    )

    hosts: Hosts = Field(
        min_length=1, max_length=16, description="Public host names whose requests are split, without wildcards."
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
    timeout: Annotated[Duration, within("1s", "1h", "30s")] = Field(
        default=timedelta(seconds=30),
        description="Time-out of a request on either leg; that of Heroku's router is 30s.",
    )
    probe_path: Annotated[
        str,
        Field(min_length=1, max_length=256),
        matching(
            r"^/([-A-Za-z0-9._~!$&'()*+,;=:@%][-A-Za-z0-9._~!$&'()*+,;=:@%/]*)?$",
            "write a path that begins with '/', but not '//', without a query, such as /healthz",
        ),
    ] = Field(
        default="/",
        description="Path of the operator's probes of the Heroku leg through the gateway, which prove that a rollback is"
        " possible; choose a cheap path.",
    )

    def qualified_gateways(self, namespace: str) -> tuple[str, ...]:
        """Return the gateways as ``namespace/name``, for a plan of a namespace."""
        return tuple(name if "/" in name else f"{namespace}/{name}" for name in self.gateways)

    @property
    def recorded(self) -> Mapping[str, str]:
        """Settings whose edits are recorded in the ledger, by the name in the ledger."""
        return {
            "gateways": ", ".join(self.gateways),
            "timeout": format_duration(self.timeout),
            "probePath": self.probe_path,
        }


class Traffic(Model):
    """The traffic provider; exactly one is set."""

    # Only a provider's adapter, dialect and checks read its settings. All other code uses what all providers have.

    RULES = (
        Rule(
            "traffic: exactly one provider must be set; write istio: {hosts: [...], gateways: [...]}",
            "[has(self.istio)].exists_one(set, set)",
            lambda self: self.istio is not None,
        ),
    )

    # The rule above keeps it from being None, so its type does not include None while it is the only provider.
    istio: IstioSettings = None  # type: ignore[assignment]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Public host names whose requests are split."""
        return self.istio.hosts

    @property
    def recorded(self) -> Mapping[str, str]:
        """The provider's settings whose edits are recorded in the ledger, by the name in the ledger."""
        return self.istio.recorded
