"""Gate templates: gates with parameters that many plans share; see docs/gate-library.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from cutover.api.durations import DURATION_PATTERN
from cutover.api.model import Model
from cutover.api.problems import problem_text
from cutover.api.rules import Rule, matching, once
from cutover.api.v1alpha1.gates import ParameterName, Query, RatioQueries

#: Placeholders that every query may use; parameters must have other names.
BUILT_IN_NAMES = ("leg", "service", "namespace", "workload", "app", "plan")

#: Plural names of both kinds in the API.
GATE_TEMPLATES, CLUSTER_GATE_TEMPLATES = "gatetemplates", "clustergatetemplates"

NUMBER_PATTERN = r"^-?([0-9]+(\.[0-9]+)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
_PLACEHOLDER = r"\{\{ *[a-z][A-Za-z0-9]* *\}\}"


def _or_placeholder(pattern: str) -> str:
    return f"^({_PLACEHOLDER}|{pattern.removeprefix('^').removesuffix('$')})$"


#: A number or a duration as text, or one placeholder for it.
NumberText = Annotated[
    str,
    Field(min_length=1, max_length=80),
    matching(
        _or_placeholder(NUMBER_PATTERN), 'write a number in quotes, such as "0.25", or one placeholder: "{{ max }}"'
    ),
]
DurationText = Annotated[
    str,
    Field(min_length=1, max_length=80),
    matching(_or_placeholder(DURATION_PATTERN), 'write a duration, such as 2m, or one placeholder: "{{ for }}"'),
]


class ToleranceTemplate(Model):
    """EKS may be as bad as ``ratio`` times Heroku plus ``margin``."""

    ratio: NumberText = Field(description="Factor on Heroku's fraction.")
    margin: NumberText = Field(description="A fraction of events: 0.001 is 0.1 %.")


class RatioTemplate(RatioQueries):
    """The fraction of events that go wrong on each leg; as in a plan, with numbers as texts."""

    tolerate: ToleranceTemplate | None = Field(
        default=None, description="Evidence that EKS is worse than this is harm."
    )
    advance: ToleranceTemplate | None = Field(
        default=None, description="Evidence that EKS is no worse than this lets the weight rise."
    )
    scrape_interval: DurationText | None = Field(
        default=None, description="How often Prometheus scrapes these counters."
    )


class BoundTemplate(Model):
    """A value that must stay inside a bound; as in a plan, with numbers as texts."""

    RULES = (
        Rule(
            'one of max, min and timesBaseline must be set; write the largest value that is tolerated, such as max: "0.25"',
            "has(self.max) || has(self.min) || has(self.timesBaseline)",
            lambda self: (self.max, self.min, self.times_baseline) != (None, None, None),
        ),
    )

    query: Query = Field(description="PromQL whose answer is one value.")
    max: NumberText | None = Field(default=None, description="Largest value that is tolerated.")
    min: NumberText | None = Field(default=None, description="Smallest value that is tolerated.")
    times_baseline: NumberText | None = Field(
        default=None, description="Largest tolerated value, as a multiple of the query's value before the migration."
    )
    for_: DurationText | None = Field(
        alias="for", default=None, description="Time for which the value must be outside without a break to fail."
    )
    scrape_interval: DurationText | None = Field(
        default=None, description="How often Prometheus scrapes what the query reads."
    )


class ParameterType(StrEnum):
    """Type of a parameter's value."""

    STRING = "String"
    NUMBER = "Number"
    DURATION = "Duration"


_NUMBER_TEXT = matching(NUMBER_PATTERN, "")
_DURATION_TEXT = matching(DURATION_PATTERN, "")


def _fits(rule: Rule, value: str) -> bool:
    return rule.holds is not None and bool(value) and rule.holds(value)


def fits(kind: ParameterType, value: str) -> bool:
    """Return whether a text is a value of the type."""
    match kind:
        case ParameterType.STRING:
            return True
        case ParameterType.NUMBER:
            return _fits(_NUMBER_TEXT, value)
        case ParameterType.DURATION:
            return _fits(_DURATION_TEXT, value)


class ParameterSpec(Model):
    """A parameter, for which a plan gives a value."""

    RULES = (
        Rule(
            'default: must be of the parameter\'s type; write a number in quotes, such as "0.25", for Number, and a duration'
            " such as 2m for Duration",
            "!has(self.default) || self.type == 'String'"
            f" || (self.type == 'Number' && {_NUMBER_TEXT.cel.replace('self', 'self.default', 1)})"
            f" || (self.type == 'Duration' && {_DURATION_TEXT.cel.replace('self', 'self.default', 1)}"
            " && size(self.default) > 0)",
            lambda self: self.default is None or fits(self.type, self.default),
            at=".default",
        ),
    )

    name: ParameterName = Field(description="Name of the placeholder.")
    type: ParameterType = Field(
        default=ParameterType.STRING,
        description="String: for values of labels. Number and Duration: also for other parts of a query, and for limits.",
    )
    default: str | None = Field(
        default=None,
        max_length=256,
        description="Value if a plan gives none; without a default, a plan must give one.",
    )
    description: str = Field(default="", max_length=512, description="Meaning of the parameter, for people.")


class GateTemplateSpec(Model):
    """A gate with parameters."""

    RULES = (
        Rule(
            "exactly one of ratio and bound must be set; write the one that this template is",
            "has(self.ratio) != has(self.bound)",
            lambda self: (self.ratio is None) != (self.bound is None),
        ),
    )

    description: str = Field(
        min_length=1, max_length=1024, description="What the gate finds, and why nothing else shows it."
    )
    runbook: str = Field(default="", max_length=2048, description="What to do when the gate fails.")
    parameters: Annotated[
        tuple[ParameterSpec, ...],
        once("parameters: each name may come once; write another name", key="name"),
        Rule(
            f"parameters: {', '.join(BUILT_IN_NAMES)} are placeholders already; write another name",
            f"!self.exists(parameter, parameter.name in [{', '.join(repr(name) for name in BUILT_IN_NAMES)}])",
            lambda parameters: not any(parameter.name in BUILT_IN_NAMES for parameter in parameters),
        ),
    ] = Field(default=(), max_length=16, description="Parameters, for which a plan gives values.")
    ratio: RatioTemplate | None = Field(default=None, description="Compare the legs by counters.")
    bound: BoundTemplate | None = Field(default=None, description="Keep a value inside a bound.")


class GateTemplate(Model):
    """A gate with parameters, for the plans of its namespace."""

    api_version: Literal["cutover.dev/v1alpha1"]
    kind: Literal["GateTemplate"]
    metadata: dict[str, Any] = Field(default_factory=dict)
    spec: GateTemplateSpec


class ClusterGateTemplate(Model):
    """A gate with parameters, for the plans of all namespaces."""

    api_version: Literal["cutover.dev/v1alpha1"]
    kind: Literal["ClusterGateTemplate"]
    metadata: dict[str, Any] = Field(default_factory=dict)
    spec: GateTemplateSpec


@dataclass(frozen=True, slots=True)
class Template:
    """A gate template of either kind, as the API server has it.

    Parameters
    ----------
    generation
        Generation of the object; 0 if it has none.
    spec
        Spec of the template.
    """

    generation: int
    spec: GateTemplateSpec


def from_object(body: Mapping[str, Any]) -> Template | str:
    """Read a gate template from a watch or a list, with or without its kind.

    Returns
    -------
    Template or str
        The template, or why it cannot be used, in words for people.
    """
    try:
        spec = GateTemplateSpec.from_wire(body.get("spec") or {})
    except ValidationError as error:
        return f"it is not valid: {problem_text(error)}"
    return Template(int((body.get("metadata") or {}).get("generation") or 0), spec)
