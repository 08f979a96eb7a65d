"""Resolve a plan's custom SLOs: fill in gate templates, replace placeholders, and describe all problems.

A gate template in force stays in force until the next step, even if it is changed or deleted meanwhile: the caller keeps
the resolved templates (``status.templates``) and passes them again as ``frozen``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from cutover.api.problems import problem_text
from cutover.api.v1alpha1 import MigrationPlanSpec, ResolvedTemplate
from cutover.api.v1alpha1.gates import BoundSlo, Mode, Parameter, RatioSlo, Slo, TemplateRef
from cutover.api.v1alpha1.templates import GateTemplateSpec, Template, fits
from cutover.domain.slo.custom import CustomSlo
from cutover.domain.slo.promql import PlaceholderError, placeholders, render

#: The arguments of ``_resolve``.
_Arguments = tuple[
    tuple[Slo, ...],
    tuple[tuple[str, str], ...],
    tuple[ResolvedTemplate, ...],
    tuple[ResolvedTemplate, ...],
    tuple[tuple[str, Template | str], ...],
]

_ONE_PLACEHOLDER = re.compile(r"\{\{ *([A-Za-z0-9]+) *\}\}")
_HEROKU, _EKS = "heroku", "eks"


@dataclass(frozen=True, slots=True)
class Resolution:
    """The plan's custom SLOs, resolved.

    Parameters
    ----------
    gates
        The SLOs that can be judged, in the plan's order.
    problems
        Why the other SLOs cannot be judged, each with its field and what to do.
    resolved
        The gate templates in force, for the status.
    """

    gates: tuple[CustomSlo, ...] = ()
    problems: tuple[str, ...] = ()
    resolved: tuple[ResolvedTemplate, ...] = ()


def custom_slos(
    spec: MigrationPlanSpec,
    *,
    plan_name: str,
    namespace: str,
    frozen: tuple[ResolvedTemplate, ...],
    kept: tuple[ResolvedTemplate, ...] = (),
    templates: Mapping[str, Template | str],
) -> Resolution:
    """Resolve a plan's custom SLOs.

    Parameters
    ----------
    spec
        The plan's spec.
    plan_name, namespace
        The plan's metadata.
    frozen
        Gate templates as they were when the step began. They are used if the plan still refers to them in the same way.
    kept
        Gate templates that an observed gate falls back on, because a missing template of such a gate holds nothing.
    templates
        Gate templates as they are now, by ``ClusterGateTemplate/name`` or ``GateTemplate/name``; a text says why a
        template could not be read.
    """
    slos = tuple(slo for slo in spec.gates.slos if slo.ratio or slo.bound or slo.template)
    if not slos:
        return Resolution()
    names = (
        ("service", spec.eks.service.name),
        ("namespace", namespace),
        ("workload", spec.eks.workload_ref.name),
        ("app", spec.heroku.app),
        ("plan", plan_name),
    )
    named = {_key(slo.template) for slo in slos if slo.template is not None}
    used = sorted(key for key in named if key in templates)
    arguments = slos, names, frozen, kept, tuple((key, templates[key]) for key in used)
    place = namespace, plan_name, frozen == kept
    known = _RESOLVED.get(place)
    if known is None or known[0] != arguments:
        _RESOLVED.pop(place, None)
        while len(_RESOLVED) >= _MOST_RESOLVED:
            del _RESOLVED[next(iter(_RESOLVED))]
        known = _RESOLVED[place] = arguments, _resolve(*arguments)
    return known[1]


def changes(frozen: tuple[ResolvedTemplate, ...], resolved: tuple[ResolvedTemplate, ...]) -> tuple[str, ...]:
    """Return, in words for the ledger, which gates have changed because of their templates."""
    before = {template.gate: template for template in frozen}
    said = []
    for now in resolved:
        old = before.get(now.gate)
        if old is None or (old.template, old.definition) == (now.template, now.definition):
            continue  # a new gate is an edit of the plan; a new description changes nothing
        if old.template != now.template:
            said.append(f"{now.gate}: {old.template} → {now.template} generation {now.generation}")
        elif old.generation == now.generation:
            said.append(f"{now.gate}: {now.template} was made anew, generation {now.generation}")
        else:
            said.append(f"{now.gate}: {now.template} generation {old.generation} → {now.generation}")
    return tuple(said)


def _key(reference: TemplateRef) -> str:
    return f"{reference.kind}/{reference.name}"


#: The last resolutions of each plan, with and without frozen templates. At nearly every reconcile the arguments are the same.
#: Earlier ones are not kept: somebody who edits a template every second would fill the memory.
_RESOLVED: dict[tuple[str, str, bool], tuple[_Arguments, Resolution]] = {}
_MOST_RESOLVED = 4096


def _resolve(
    slos: tuple[Slo, ...],
    names: tuple[tuple[str, str], ...],
    frozen: tuple[ResolvedTemplate, ...],
    kept: tuple[ResolvedTemplate, ...],
    templates: tuple[tuple[str, Template | str], ...],
) -> Resolution:
    """Do the work of :func:`custom_slos`."""
    gates: list[CustomSlo] = []
    problems: list[str] = []
    resolved: list[ResolvedTemplate] = []
    for slo in slos:
        where = f"gates.slos[{slo.name}]"
        judged: RatioSlo | BoundSlo | None = slo.ratio or slo.bound
        try:
            if slo.template is not None:
                where += f".template: {_key(slo.template)}"
                origin = _in_force(slo.name, slo.template, frozen) or _next(slo, slo.template, dict(templates), kept)
                judged, values = _filled(origin)
                gates.append(_gate(slo, judged, dict(names) | values))
                resolved.append(origin)
            elif judged is not None:
                gates.append(_gate(slo, judged, dict(names)))
        except _ProblemError as error:
            problems += [f"{where}{'.' if slo.template is None else ': '}{text}" for text in error.args]
    return Resolution(tuple(gates), tuple(problems), tuple(resolved))


class _ProblemError(Exception):
    """A gate cannot be judged; each argument is a field and what to do."""


# ---------------------------------------------------------------------------------------------------- templates


def _in_force(gate: str, reference: TemplateRef, frozen: tuple[ResolvedTemplate, ...]) -> ResolvedTemplate | None:
    """Return the gate's template as it was when the step began, if the plan still refers to it in the same way."""
    for template in frozen:
        if (template.gate, template.template) == (gate, _key(reference)):
            try:
                given, _ = _read(template.definition)
            except (ValueError, TypeError, KeyError):
                return None  # another version of the operator wrote it
            return template if given == _given(reference.parameters) else None
    return None


def _next(
    slo: Slo, reference: TemplateRef, templates: Mapping[str, Template | str], kept: tuple[ResolvedTemplate, ...]
) -> ResolvedTemplate:
    try:
        newest = _newest(slo.name, reference, templates)
        _filled(newest)
    except _ProblemError:
        old = _in_force(slo.name, reference, kept) if slo.mode is Mode.OBSERVE else None
        if old is None:
            raise
        return old
    return newest


def _newest(gate: str, reference: TemplateRef, templates: Mapping[str, Template | str]) -> ResolvedTemplate:
    match templates.get(_key(reference)):
        case Template(generation, spec):
            wire = spec.to_wire()
            definition = {
                "parameters": _given(reference.parameters),
                "spec": wire
                | {
                    # Fields for people, which the model requires: a change of them is no change of the gate.
                    "description": "-",
                    "runbook": "",
                    "parameters": [parameter | {"description": ""} for parameter in wire["parameters"]],
                },
            }
            text = json.dumps(definition, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
            return ResolvedTemplate(gate=gate, template=_key(reference), generation=generation, definition=text)
        case str() as why:
            raise _ProblemError(f"{why}; mend it, or write another one")
        case None:
            where = "the cluster" if reference.kind == "ClusterGateTemplate" else "the plan's namespace"
            raise _ProblemError(f"there is none of that name in {where}; apply it, or write another one")


def _given(parameters: tuple[Parameter, ...]) -> dict[str, str]:
    return {parameter.name: parameter.value for parameter in parameters}


def _read(definition: str) -> tuple[dict[str, str], GateTemplateSpec]:
    data = json.loads(definition)
    return data["parameters"], GateTemplateSpec.from_wire(data["spec"])


def _filled(origin: ResolvedTemplate) -> tuple[RatioSlo | BoundSlo, dict[str, str]]:
    """Return the template's gate with its limits filled in, and the values for its queries."""
    given, spec = _read(origin.definition)
    declared = {parameter.name: parameter for parameter in spec.parameters}
    known = ", ".join(declared) or "nothing: it has no parameters"
    defaults = {name: parameter.default for name, parameter in declared.items() if parameter.default is not None}
    values = defaults | given
    wrong = [
        f"parameters[{name}]: there is none of that name; write {known}" for name in given if name not in declared
    ]
    wrong += [f"parameters: {name} is missing; write a value for it" for name in declared if name not in values]
    wrong += [
        f"parameters[{name}]: {declared[name].type} is wanted; write {_EXAMPLES[declared[name].type]}"
        for name, value in given.items()
        if name in declared and not fits(declared[name].type, value)
    ]
    if wrong:
        raise _ProblemError(*wrong)
    if spec.ratio is not None:
        return _model("ratio", spec.ratio.to_wire(), values), values
    assert spec.bound is not None, "the template has either a ratio or a bound"
    return _model("bound", spec.bound.to_wire(), values), values


_EXAMPLES = {"Number": 'a number in quotes, such as "0.25"', "Duration": "a duration, such as 2m", "String": "a text"}

#: Fields that are texts in a gate template and numbers in a plan.
_NUMBERS = ("max", "min", "timesBaseline", "ratio", "margin")
_DURATIONS = ("for", "scrapeInterval")


def _model(field: str, texts: Mapping[str, Any], values: Mapping[str, str]) -> RatioSlo | BoundSlo:
    wire = _limits(field, texts, values)
    try:
        return RatioSlo.from_wire(wire) if field == "ratio" else BoundSlo.from_wire(wire)
    except ValidationError as error:
        raise _ProblemError(problem_text(error, f"{field}.")) from error


def _limits(field: str, texts: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """Return a gate as a plan has it: placeholders in limits replaced, numbers as numbers."""
    out: dict[str, Any] = {}
    for key, text in texts.items():
        if isinstance(text, dict):
            out[key] = _limits(f"{field}.{key}", text, values)
        elif key in _NUMBERS or key in _DURATIONS:
            filled = _filled_text(f"{field}.{key}", text, values)
            out[key] = _number(f"{field}.{key}", filled) if key in _NUMBERS else filled
        else:
            out[key] = text
    return out


def _filled_text(field: str, text: str, values: Mapping[str, str]) -> str:
    placeholder = _ONE_PLACEHOLDER.fullmatch(text)
    if placeholder is None:
        return text
    if placeholder[1] not in values:
        known = ", ".join(sorted(values)) or "a value: it has no parameters"
        raise _ProblemError(f"{field}: {{{{ {placeholder[1]} }}}} is not known; write one of {known}")
    return values[placeholder[1]]


def _number(field: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _ProblemError(f'{field}: {text!r} is no number; write one such as "0.25"')
    return value


# ------------------------------------------------------------------------------------------------------ queries


def _gate(slo: Slo, judged: RatioSlo | BoundSlo, values: Mapping[str, str]) -> CustomSlo:
    if isinstance(judged, BoundSlo):
        queries = [("bound.query", judged.query, _EKS)]
    else:
        part, query = ("bad", judged.bad) if judged.bad is not None else ("good", judged.good or "")
        texts = ((f"ratio.{part}", query), ("ratio.total", judged.total))
        wrong = [
            f"{field}: it must tell the legs apart; write the label that does, such as"
            ' leg="{{ leg }}" (heroku or eks)'
            for field, text in texts
            if "leg" not in _names(field, text)
        ]
        if wrong:
            raise _ProblemError(*wrong)
        queries = [(field, text, leg) for leg in (_HEROKU, _EKS) for field, text in texts]
    rendered = tuple(_render(field, text, dict(values) | {"leg": leg}) for field, text, leg in queries)
    return CustomSlo(slo.name, slo.mode, judged, rendered)


def _names(field: str, query: str) -> frozenset[str]:
    try:
        return placeholders(query)
    except PlaceholderError as error:
        raise _ProblemError(f"{field}: {error}") from error


def _render(field: str, query: str, values: Mapping[str, str]) -> str:
    try:
        return render(query, values)
    except PlaceholderError as error:
        raise _ProblemError(f"{field}: {error}") from error
