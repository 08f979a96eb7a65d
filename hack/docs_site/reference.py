"""The pages of the reference that are made of the code: fields, settings, metrics, annotations, checks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, ClassVar

import yaml
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

import cutover.domain.commands.annotations as commands
from cutover.api.crd import KINDS, Kind, schema
from cutover.api.v1alpha1 import GROUP, VERSION
from cutover.domain.holds import HoldReason
from cutover.domain.preflight.registry import CHECKS
from cutover.drain.exposition import Exposition
from cutover.drain.frames import Record
from cutover.drain.main import DrainSettings
from cutover.metrics import OperatorCollector
from cutover.settings import Settings

Schema = Mapping[str, Any]
#: Folder of the pages, below the docs.
FOLDER = "reference"


def pages() -> dict[str, str]:
    """Return the text of each page in Markdown, by its path below the docs."""
    made = {f"fields-{kind.name.lower()}.md": _fields(kind) for kind in KINDS}
    made |= {"settings.md": _settings(), "metrics.md": _metrics(), "annotations.md": _annotations()}
    made["checks.md"] = _checks()
    return {f"{FOLDER}/{name}": text for name, text in made.items()}


# -------------------------------------------------------------------------------------------------------------- fields


def _fields(kind: Kind) -> str:
    whole = schema(kind)
    scope = "in a namespace" if kind.namespaced else "of the cluster"
    lines = [
        f"# Fields of {kind.name}",
        "",
        (
            f"`apiVersion: {GROUP}/{VERSION}`, `kind: {kind.name}`, {scope}; short name `{kind.short_name}`. Made from the schema"
            f" that the API server checks; `kubectl explain {kind.short_name}.spec` has the same words."
        ),
    ]
    for part in ("spec", "status"):
        if part not in whole["properties"]:
            continue
        found = whole["properties"][part]
        plain = {name: one for name, one in found["properties"].items() if not _inner(one)}
        lines += ["", f"## {part}", "", *_rules(found), *_table(part, {**found, "properties": plain})]
        for name, one in found["properties"].items():
            if inner := _inner(one):
                path = f"{part}.{name}" + ("[]" if one.get("type") == "array" else "")
                lines += [
                    "",
                    f"### {path}",
                    "",
                    *_said(one),
                    *_rules(inner),
                    *_table(path, inner),
                ]
    return "\n".join(lines) + "\n"


def _inner(node: Schema) -> Schema | None:
    """Return the object that a field is, or has several of."""
    if node.get("properties"):
        return node
    items = node.get("items")
    return _inner(items) if isinstance(items, Mapping) else None


def _said(node: Schema) -> list[str]:
    return [_cell(node["description"]), ""] if "description" in node else []


def _rules(node: Schema) -> list[str]:
    rules = node.get("x-kubernetes-validations", ())
    if not rules:
        return []
    return [
        "The API server refuses what breaks one of these rules:",
        "",
        *(f"- {_cell(one['message'])}" for one in rules),
        "",
    ]


def _table(path: str, node: Schema) -> list[str]:
    # Names are as seen from the heading.
    rows = [row.replace(f"| `{path}.", "| `", 1) for row in _rows(path, node)]
    return ["| field | type | default | what it is |", "| --- | --- | --- | --- |", *rows] if rows else []


def _rows(path: str, node: Schema) -> Iterator[str]:
    needed = node.get("required", ())
    for name, one in node.get("properties", {}).items():
        default = "needed" if name in needed else _default(one)
        yield f"| `{path}.{name}` | {_type(one)} | {default} | {_cell(_description(one))} |"
        if inner := _inner(one):
            yield from _rows(f"{path}.{name}" + ("[]" if one.get("type") == "array" else ""), inner)


def _description(node: Schema) -> str:
    said = str(node.get("description", ""))
    rules = [one["message"] for one in node.get("x-kubernetes-validations", ())]
    return " ".join([said, *(f"Rule: {rule}." for rule in rules)]).strip()


def _type(node: Schema) -> str:
    kind = str(node.get("type", "any"))
    if "enum" in node:
        return " \\| ".join(f"`{one}`" for one in node["enum"])
    if kind == "array":
        return f"list of {_type(node.get('items', {}))}"
    if node.get("x-kubernetes-int-or-string"):
        kind = "integer or string"
    bounds = [f"{sign} {node[key]}" for key, sign in (("minimum", "≥"), ("maximum", "≤")) if key in node]
    return ", ".join([kind, *bounds]) if kind in ("integer", "number") else kind


def _default(node: Schema) -> str:
    if "default" not in node or node["default"] in ({}, []):
        return ""
    value = node["default"]
    # As it is written in a plan.
    text = (
        value
        if isinstance(value, str)
        else yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
    )
    return f"`{_cell(text.removesuffix(chr(10) + '...' + chr(10)))}`"


def _cell(text: str) -> str:
    """Return text for a cell of a table, and without HTML."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;").strip()


# ------------------------------------------------------------------------------------------------------------ settings


def _settings() -> str:
    return (
        "\n".join(
            [
                "# Settings",
                "",
                (
                    "Environment variables, as the code has them. [Running the operator](../operating.md#settings) says which value of"
                    " the chart sets each, and [the drain](../drain.md#settings) what its own are for."
                ),
                "",
                "## Of the operator",
                "",
                *_variables(Settings),
                "",
                "## Of the drain",
                "",
                *_variables(DrainSettings),
            ]
        )
        + "\n"
    )


def _variables(model: type[BaseSettings]) -> list[str]:
    prefix = model.model_config["env_prefix"]
    rows = ["| variable | default | what it is |", "| --- | --- | --- |"]
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        match default:
            case _ if default is PydanticUndefined:
                said = "needed"
            case None | () | "":
                said = "none"
            case Enum():
                said = f"`{default.value}`"
            case _:
                said = f"`{default}`"
        rows.append(f"| `{prefix}{name.upper()}` | {said} | {_cell(field.description or '')} |")
    return rows


# ------------------------------------------------------------------------------------------------------------- metrics


class _Requests:
    """No requests to the API server: the names of metrics do not depend on them."""

    requests: ClassVar[Mapping[str, int]] = {}
    errors: ClassVar[Mapping[str, int]] = {}


class _Queries:
    """No queries to Prometheus."""

    queries = errors = refused = rounds_skipped = rounds_late = late_samples = 0
    last_success = lateness = 0.0


def _metrics() -> str:
    own = [metric for metric in REGISTRY.collect() if metric.name.startswith("cutover_")]
    collected = OperatorCollector(lambda: (), _Requests(), _Queries(), _Queries(), dict).collect()
    registry = CollectorRegistry()
    registry.register(Exposition(_record()))
    return (
        "\n".join(
            [
                "# Metrics",
                "",
                (
                    "As the processes export them. [Running the operator](../operating.md#metrics) has the labels and what is worth an"
                    " alert; [dashboards](../dashboards.md) show them."
                ),
                "",
                "## Of the operator",
                "",
                *_exported([*own, *collected]),
                "",
                "## Of the drain",
                "",
                (
                    "Samples of dynos, Postgres and Redis (`heroku_dyno_…`, `heroku_postgres_…`, `heroku_redis_…`) are in"
                    " [its own page](../drain.md#what-is-recorded)."
                ),
                "",
                *_exported(registry.collect()),
            ]
        )
        + "\n"
    )


def _record() -> Record:
    record = Record(lambda: 0.0, lambda: 0.0)
    record.of("app")
    return record


def _exported(found: Iterable[Metric]) -> list[str]:
    rows = ["| metric | type | what it is |", "| --- | --- | --- |"]
    for metric in sorted(found, key=lambda one: one.name):
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        rows.append(f"| `{name}` | {metric.type} | {_cell(metric.documentation)} |")
    return rows


# --------------------------------------------------------------------------------------------- annotations and checks


def _annotations() -> str:
    examples = {
        commands.ROLLBACK_ANNOTATION: commands.rollback(1),
        commands.FORWARD_ANNOTATION: commands.forward(1),
        commands.APPROVE_ANNOTATION: commands.approve(1, 25),
        commands.PROCEED_ANNOTATION: commands.proceed(1, 25),
        commands.SKIP_ANNOTATION: commands.skip_hold(1, 25, commands.Skippable.OUTSIDE_WINDOW),
    }
    words = {
        commands.ROLLBACK_ANNOTATION: "roll back now, for one attempt",
        commands.FORWARD_ANNOTATION: "send all traffic to EKS while Heroku is down, for one attempt",
        commands.APPROVE_ANNOTATION: "let a step with `approval: Manual` begin",
        commands.SKIP_ANNOTATION: "let a step begin in spite of a hold",
        commands.PROCEED_ANNOTATION: "let a step begin in place of evidence that its traffic does not bring",
    }
    rows = [
        f"| `{name}` | `{commands.assignment(examples[name]).partition('=')[2]}` | {words[name]} |"
        for name in commands.ANNOTATIONS
    ]
    return (
        "\n".join(
            [
                "# Annotations",
                "",
                "Operator commands to one plan. [What each does](../plan-edits.md#annotations), and who may.",
                "",
                "| annotation | example | what it asks for |",
                "| --- | --- | --- |",
                *rows,
                "",
                f"Holds that `{commands.SKIP_ANNOTATION}` may skip: "
                + ", ".join(f"`{one}`" for one in commands.Skippable)
                + ".",
            ]
        )
        + "\n"
    )


def _from_here(text: str) -> str:
    """Return text of a page of the docs with links as they are from the folder of the reference."""
    return re.sub(r"\]\((?=[\w-]+\.md)", "](../", text)


def _checks() -> str:
    rows = [
        f"| `{check.name}` | {check.stage.name.replace('_', ' ').lower()} | {_from_here(_cell(check.passes_when))} |"
        for check in CHECKS
    ]
    return (
        "\n".join(
            [
                "# Preflight checks and reasons to hold",
                "",
                "## Checks",
                "",
                (
                    "What is looked at before anything moves. [Audits](../audits.md) only warn; every other check that fails"
                    f" [holds the plan](../holds.md#{HoldReason.PREFLIGHT_FAILED.lower()})."
                ),
                "",
                "| check | when | passes when |",
                "| --- | --- | --- |",
                *rows,
                "",
                "## Reasons to hold",
                "",
                "Each with what to do about it:",
                "",
                *(f"- [`{reason}`](../holds.md#{reason.lower()})" for reason in HoldReason),
            ]
        )
        + "\n"
    )
