"""The settings of the traffic provider for Istio."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from cutover.api.durations import format_duration
from cutover.api.hosts import HOST
from cutover.api.model import GATEWAY_NAME, Duration, Model, ObjectName
from cutover.api.rules import Rule, once, within


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
