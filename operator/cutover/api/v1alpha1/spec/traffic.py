"""The traffic provider that splits requests between the legs, and what is asked through it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from cutover.api.hosts import cel_covers, covers, is_wildcard
from cutover.api.model import Model
from cutover.api.rules import Rule
from cutover.api.v1alpha1.spec.istio import IstioSettings
from cutover.api.v1alpha1.spec.probes import ProbeSettings
from cutover.api.v1alpha1.spec.users import Affinity, Preview


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
