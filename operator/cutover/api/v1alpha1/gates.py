"""Gates: what is judged on the two legs, and what is tolerated; see docs/gates.md."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any

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


def _tolerate(ratio: float, margin: float) -> Any:
    """Return the field for the most that is tolerated, with its default."""
    return Field(
        default=ToleranceSpec(ratio=ratio, margin=margin), description="Evidence that EKS is worse than this is harm."
    )


def _advance(ratio: float, margin: float) -> Any:
    """Return the field for what is good enough for the next step, with its default."""
    return Field(
        default=ToleranceSpec(ratio=ratio, margin=margin),
        description="Evidence that EKS is no worse than this lets the weight rise.",
    )


class ErrorsSlo(Model):
    """The fraction of requests that fail."""

    tolerate: ToleranceSpec = _tolerate(1.25, 0.001)
    advance: ToleranceSpec = _advance(1.5, 0.005)


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


class RefusedTolerances(Model):
    """The fraction of requests that are refused: 4xx, without 429."""

    tolerate: ToleranceSpec = _tolerate(1.1, 0.0025)
    advance: ToleranceSpec = _advance(1.25, 0.01)


class RedirectedTolerances(Model):
    """The fraction of requests that are redirected: 3xx, without 304."""

    tolerate: ToleranceSpec = _tolerate(1.1, 0.005)
    advance: ToleranceSpec = _advance(1.25, 0.01)


#: HTTP status of a refused or redirected answer.
AnswerCode = Annotated[
    int,
    Rule(
        "write a code of redirected or refused answers, such as 404: from 300 to 499, without 304 and 429",
        "self >= 300 && self <= 499 && !(self in [304, 429])",
        lambda code: 300 <= code <= 499 and code not in (304, 429),
    ),
]


AnswerCodes = Annotated[
    tuple[AnswerCode, ...],
    Field(min_length=1, max_length=16),
    once("write each code once"),
]


class AnswersSlo(Model):
    """The mix of answers: both legs get the same mix of requests, so it has to be the same on both."""

    RULES = (
        Rule(
            "only and except exclude each other; write the codes that count, or those that do not",
            "!has(self.only) || !has(self.except)",
            lambda self: not (self.only and self.except_),
        ),
    )

    refused: RefusedTolerances = Field(default=RefusedTolerances(), description="Tolerances of refused answers.")
    redirected: RedirectedTolerances = Field(
        default=RedirectedTolerances(), description="Tolerances of redirected answers."
    )
    only: AnswerCodes | None = Field(
        default=None, description="Codes that alone count as refused or redirected; by default, all do."
    )
    except_: AnswerCodes | None = Field(
        alias="except",
        default=None,
        description="Codes that do not count as refused or redirected, such as 404. Nor are they good answers.",
    )

    @property
    def codes(self) -> str:
        """Which codes count, in words; ``""`` if all do."""
        if self.only:
            return f"only {', '.join(map(str, sorted(self.only)))}"
        return f"without {', '.join(map(str, sorted(self.except_)))}" if self.except_ else ""


#: Most matchers of a query with a regular expression, and the largest count of a repetition in one. Prometheus compiles each
#: pattern before it looks at a sample, which no time limit ends.
MOST_PATTERNS, MOST_REPETITIONS = 20, 99
_LONG_REPETITION = r"\{[0-9,]*[0-9]{3}[0-9,]*\}"

#: PromQL, with placeholders such as ``{{ leg }}`` (see :mod:`cutover.domain.slo.promql`).
Query = Annotated[
    str,
    Field(min_length=1, max_length=1024),
    Rule(
        f"at most {MOST_PATTERNS} matchers may have a regular expression (=~ or !~); write fewer, or join patterns by |",
        f"self.split('=~').size() + self.split('!~').size() - 2 <= {MOST_PATTERNS}",
        lambda query: query.count("=~") + query.count("!~") <= MOST_PATTERNS,
    ),
    Rule(
        f"a repetition such as {{900}} may count to {MOST_REPETITIONS} at most; write a smaller number, or + or *",
        f"!self.matches({json.dumps(_LONG_REPETITION)})",
        lambda query: re.search(_LONG_REPETITION, query) is None,
    ),
]
ScrapeInterval = Annotated[Duration, within("1s", "5m", "30s")]


class RatioQueries(Model):
    """The queries of a ratio, in a plan and in a gate template."""

    RULES = (
        Rule(
            "exactly one of bad and good must be set; write the query that counts the events that went wrong, or the one"
            " that counts those that went well",
            "has(self.bad) != has(self.good)",
            lambda self: (self.bad is None) != (self.good is None),
        ),
    )

    bad: Query | None = Field(
        default=None, description="Counter of the leg's events that went wrong, with {{ leg }} in it."
    )
    good: Query | None = Field(
        default=None, description="Counter of the leg's events that went well, in place of bad; with {{ leg }} in it."
    )
    total: Query = Field(description="Counter of all the leg's events, with {{ leg }} in it.")


class RatioSlo(RatioQueries):
    """The fraction of the team's events that go wrong on each leg, from counters in Prometheus."""

    tolerate: ToleranceSpec = _tolerate(1.25, 0.001)
    advance: ToleranceSpec = _advance(1.5, 0.005)
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


_KINDS = ("errors", "latency", "answers", "ratio", "bound", "template")
#: Names of the mesh's metrics, which no custom SLO may have.
_METRICS = ("errors", "slow", "refused", "redirected", "alive")


class Slo(Model):
    """One SLO that is judged; exactly one of errors, latency, answers, ratio, bound and template is set."""

    RULES = (
        Rule(
            "exactly one of errors, latency, answers, ratio, bound and template must be set; write errors: {}, latency: {} or"
            " answers: {} for the defaults, and another entry of slos for each other",
            f"[{', '.join(f'has(self.{kind})' for kind in _KINDS)}].filter(set, set).size() == 1",
            lambda self: sum(getattr(self, kind) is not None for kind in _KINDS) == 1,
        ),
        Rule(
            f"name: {', '.join(_METRICS[:-1])} and {_METRICS[-1]} are names of the mesh's metrics; write another one",
            f"!(self.name in {list(_METRICS)}) || has(self.errors) || has(self.latency) || has(self.answers)",
            lambda self: (
                self.name not in _METRICS or any(slo is not None for slo in (self.errors, self.latency, self.answers))
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
    answers: AnswersSlo | None = Field(
        default=None,
        description="Judge the fractions of requests that are refused or redirected; a plan without it is judged by its defaults.",
    )
    ratio: RatioSlo | None = Field(default=None, description="Custom SLO: compare the legs by the team's counters.")
    bound: BoundSlo | None = Field(
        default=None, description="Custom SLO: keep a value of the team's metrics inside a bound."
    )
    template: TemplateRef | None = Field(
        default=None, description="Custom SLO from a gate template, which many plans share."
    )

    @property
    def custom(self) -> bool:
        """Whether it is judged by queries of the team's, not by the mesh's metrics."""
        return self.ratio is not None or self.bound is not None or self.template is not None


DEFAULT_ANSWERS = Slo(name="answers", answers=AnswersSlo())
DEFAULT_SLOS = (Slo(name="errors", errors=ErrorsSlo()), Slo(name="latency", latency=LatencySlo()), DEFAULT_ANSWERS)


class InsufficientTraffic(StrEnum):
    """What decides on a step with too few requests for evidence."""

    HOLD = "Hold"
    ASK_PEOPLE = "AskPeople"
    ACCEPT_PROBES = "AcceptProbes"


class Gates(Model):
    """How the two legs are compared; see docs/gates.md."""

    false_rollback_rate: Annotated[float, between(0.0001, 0.2, "a probability, such as 0.01")] = Field(
        default=0.01,
        description="Largest chance that a healthy service is rolled back by its metrics, in all steps of an attempt below 100 % together.",
    )
    block: Annotated[Duration, within("1s", "60s", "15s")] | None = Field(
        default=None,
        description="Length of an observation interval; by default the shortest multiple of the gateways' scrape interval that"
        " has 5 s. A block shorter than a scrape interval is lengthened; the condition BlockLengthened tells it.",
    )
    warm_up: Annotated[Duration, within("0s", "1h", "30s")] = Field(
        default=timedelta(seconds=30),
        description="Warm-up at the start of a step, in which only a leg that does not answer is detected.",
    )
    insufficient_traffic: InsufficientTraffic = Field(
        default=InsufficientTraffic.HOLD,
        description="What happens when a step has too few requests for evidence within ten minutes. Hold: it waits for more."
        " AskPeople: a person may let the next step begin with the annotation cutover.dev/proceed. AcceptProbes: the next step"
        " begins when the operator's pairs of probes (traffic.probe.rate) prove EKS good enough. Both only as long as nothing"
        " speaks against EKS.",
    )
    slos: Annotated[tuple[Slo, ...], once("slos: each name may come once; write another name", key="name")] = Field(
        default=DEFAULT_SLOS, min_length=1, max_length=MOST_GATES, description="SLOs that are judged."
    )
    prometheus: ShortName | None = Field(
        default=None,
        description="Prometheus server with this plan's metrics, by its name in the operator's settings; by default the default server.",
    )
