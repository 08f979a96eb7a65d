"""Gates: what is judged on the two legs, and what is tolerated; see docs/gates.md."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from cutover.api.model import Duration, Model, ObjectName, ShortName
from cutover.api.rules import Rule, between, matching, once, within

#: Most gates of a plan, because the queries of each may be in every ledger entry.
MOST_GATES = 12


class ToleranceSpec(Model):
    """EKS may be as bad as ``ratio`` times Heroku plus ``margin``."""

    ratio: float = Field(ge=1.0, le=10.0, description="Factor on Heroku's fraction.")
    margin: Annotated[float, between(1e-6, 0.5, "a fraction of requests, such as 0.001 for 0.1 %")] = Field(
        description="A fraction of requests: 0.001 is 0.1 %."
    )


class ErrorsSlo(Model):
    """The fraction of requests that fail."""

    tolerate: ToleranceSpec = Field(
        default=ToleranceSpec(ratio=1.25, margin=0.001), description="Evidence that EKS is worse than this is harm."
    )
    advance: ToleranceSpec = Field(
        default=ToleranceSpec(ratio=1.5, margin=0.005),
        description="Evidence that EKS is no worse than this lets the weight rise.",
    )


#: Upper bounds of Istio's latency histogram, in milliseconds. Only these can be judged exactly.
HISTOGRAM_BOUNDS_MS = (
    0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
)  # fmt: skip

_BOUNDS_TEXT = ", ".join(f"{bound:.7g}" for bound in HISTOGRAM_BOUNDS_MS)
BoundMs = Annotated[
    float,
    Rule(
        f"only bounds of the mesh's latency histogram can be judged exactly; write one of {_BOUNDS_TEXT}",
        f"self in [{', '.join(str(float(bound)) for bound in HISTOGRAM_BOUNDS_MS)}]",
        lambda value: value in HISTOGRAM_BOUNDS_MS,
    ),
]


class LatencySlo(Model):
    """The fractions of requests slower than one or two bounds of the mesh's histogram."""

    RULES = (
        Rule(
            "verySlowMs: must be greater than slowMs; write a higher bound, or leave one of the two to the baseline",
            "!has(self.slowMs) || !has(self.verySlowMs) || self.slowMs < self.verySlowMs",
            lambda self: self.slow_ms is None or self.very_slow_ms is None or self.slow_ms < self.very_slow_ms,
            at=".verySlowMs",
        ),
    )

    slow_ms: BoundMs | None = Field(
        default=None, description="X1 in milliseconds, a histogram bound; chosen from the baseline by default."
    )
    very_slow_ms: BoundMs | None = Field(
        default=None, description="X2 in milliseconds, a histogram bound; chosen from the baseline by default."
    )


#: PromQL, with placeholders such as ``{{ leg }}`` (see :mod:`cutover.domain.slo.promql`).
Query = Annotated[str, Field(min_length=1, max_length=1024)]
ScrapeInterval = Annotated[Duration, within("1s", "5m", "30s")]


#: Rule of a ratio, in a plan and in a gate template.
BAD_OR_GOOD = Rule(
    "exactly one of bad and good must be set; write the query that counts the events that went wrong, or the one that"
    " counts those that went well",
    "has(self.bad) != has(self.good)",
    lambda self: (self.bad is None) != (self.good is None),
)


class RatioSlo(Model):
    """The fraction of the team's events that go wrong on each leg, from counters in Prometheus."""

    RULES = (BAD_OR_GOOD,)

    bad: Query | None = Field(
        default=None, description="Counter of the leg's events that went wrong, with {{ leg }} in it."
    )
    good: Query | None = Field(
        default=None, description="Counter of the leg's events that went well, in place of bad; with {{ leg }} in it."
    )
    total: Query = Field(description="Counter of all the leg's events, with {{ leg }} in it.")
    tolerate: ToleranceSpec = Field(
        default=ToleranceSpec(ratio=1.25, margin=0.001), description="Evidence that EKS is worse than this is harm."
    )
    advance: ToleranceSpec = Field(
        default=ToleranceSpec(ratio=1.5, margin=0.005),
        description="Evidence that EKS is no worse than this lets the weight rise.",
    )
    scrape_interval: ScrapeInterval = Field(
        default=timedelta(seconds=30), description="How often Prometheus scrapes these counters."
    )


class BoundSlo(Model):
    """A value of EKS, or of a shared system such as a database, that must stay inside a bound."""

    RULES = (
        Rule(
            "one of max, min and timesBaseline must be set; write the largest value that is tolerated, such as max: 0.25",
            "has(self.max) || has(self.min) || has(self.timesBaseline)",
            lambda self: (self.max, self.min, self.times_baseline) != (None, None, None),
        ),
        Rule(
            "min: must be less than max; write a smaller min or a larger max",
            "!has(self.max) || !has(self.min) || self.min < self.max",
            lambda self: self.max is None or self.min is None or self.min < self.max,
            at=".min",
        ),
    )

    query: Query = Field(description="PromQL whose answer is one value.")
    max: float | None = Field(default=None, description="Largest value that is tolerated.")
    min: float | None = Field(default=None, description="Smallest value that is tolerated.")
    times_baseline: float | None = Field(
        default=None,
        ge=1.0,
        le=1000.0,
        description="Largest tolerated value, as a multiple of the query's value before the migration (95th percentile of the last day).",
    )
    for_: Annotated[Duration, within("0s", "1h", "2m")] = Field(
        alias="for",
        default=timedelta(minutes=2),
        description="Time for which the value must be outside without a break to fail.",
    )
    scrape_interval: ScrapeInterval = Field(
        default=timedelta(seconds=30), description="How often Prometheus scrapes what the query reads."
    )


#: Name of a parameter of a gate template.
ParameterName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    matching(r"^[a-z][A-Za-z0-9]*$", "write letters and digits, beginning with a lower-case one, such as container"),
]


class TemplateKind(StrEnum):
    """Kinds of gate templates."""

    GATE_TEMPLATE = "GateTemplate"
    CLUSTER_GATE_TEMPLATE = "ClusterGateTemplate"


class Parameter(Model):
    """A value for a parameter of a gate template."""

    name: ParameterName = Field(description="Name of the parameter.")
    value: str = Field(max_length=256, description="Value of the parameter, as text.")


class TemplateRef(Model):
    """A reference to a gate template, with values for its parameters."""

    kind: TemplateKind = Field(
        default=TemplateKind.CLUSTER_GATE_TEMPLATE,
        description="GateTemplate: a template in the plan's namespace. ClusterGateTemplate: a template for all namespaces.",
    )
    name: ObjectName = Field(description="Name of the template.")
    parameters: Annotated[
        tuple[Parameter, ...], once("parameters: each name may come once; write another name", key="name")
    ] = Field(default=(), max_length=16, description="Values for the template's parameters.")


class Mode(StrEnum):
    """Whether a gate's verdict decides."""

    ENFORCE = "Enforce"
    OBSERVE = "Observe"


_KINDS = ("errors", "latency", "ratio", "bound", "template")


class Slo(Model):
    """One SLO that is judged; exactly one of errors, latency, ratio, bound and template is set."""

    RULES = (
        Rule(
            "exactly one of errors, latency, ratio, bound and template must be set; write errors: {} or latency: {} for the"
            " defaults, and another entry of slos for each other",
            f"[{', '.join(f'has(self.{kind})' for kind in _KINDS)}].filter(set, set).size() == 1",
            lambda self: sum(getattr(self, kind) is not None for kind in _KINDS) == 1,
        ),
        Rule(
            "name: errors, slow and alive are names of the mesh's metrics; write another one",
            "!(self.name in ['errors', 'slow', 'alive']) || has(self.errors) || has(self.latency)",
            lambda self: (
                self.name not in ("errors", "slow", "alive")
                or bool(self.errors is not None or self.latency is not None)
            ),
            at=".name",
        ),
    )

    name: ShortName = Field(description="Name of the SLO, unique in the plan.")
    mode: Mode = Field(
        default=Mode.ENFORCE,
        description="Enforce: the verdict decides. Observe: the SLO is judged, shown and recorded, but moves nothing.",
    )
    errors: ErrorsSlo | None = Field(default=None, description="Judge the fraction of requests that fail.")
    latency: LatencySlo | None = Field(default=None, description="Judge the fractions of requests that are slow.")
    ratio: RatioSlo | None = Field(default=None, description="Custom SLO: compare the legs by the team's counters.")
    bound: BoundSlo | None = Field(
        default=None, description="Custom SLO: keep a value of the team's metrics inside a bound."
    )
    template: TemplateRef | None = Field(
        default=None, description="Custom SLO from a gate template, which many plans share."
    )


DEFAULT_SLOS = (Slo(name="errors", errors=ErrorsSlo()), Slo(name="latency", latency=LatencySlo()))


class Gates(Model):
    """How the two legs are compared; see docs/gates.md."""

    false_rollback_rate: Annotated[float, between(0.0001, 0.2, "a probability, such as 0.01")] = Field(
        default=0.01, description="Largest chance that a healthy service is rolled back during the whole cutover."
    )
    block: Annotated[Duration, within("1s", "60s", "15s")] = Field(
        default=timedelta(seconds=15),
        description="Length of an observation interval; at least the gateway's scrape interval.",
    )
    warm_up: Annotated[Duration, within("0s", "1h", "30s")] = Field(
        default=timedelta(seconds=30),
        description="Time at the start of a step in which only a dead leg is looked for.",
    )
    slos: Annotated[tuple[Slo, ...], once("slos: each name may come once; write another name", key="name")] = Field(
        default=DEFAULT_SLOS, min_length=1, max_length=MOST_GATES, description="SLOs that are judged."
    )
    prometheus: ShortName | None = Field(
        default=None,
        description="Prometheus server with this plan's metrics, by its name in the operator's settings; by default the default server.",
    )
