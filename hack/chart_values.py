"""The chart's `values.schema.json`, by which Helm refuses wrong values: ``python -m chart_values [--check]``.

`values.yaml` says which keys there are and of which type. What a value may be is the operator's to say: values that become
settings have the settings' own rules. The few that become Kubernetes' fields are listed here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter

from cutover.drain.main import DrainSettings
from cutover.drain.otlp_names import OtlpNames
from cutover.settings import NamedPrometheus, PrometheusServer, Receiver, Settings

_CHART = Path(__file__).resolve().parents[1] / "charts" / "cutover"
SCHEMA, VALUES = _CHART / "values.schema.json", _CHART / "values.yaml"

Schema = dict[str, Any]

#: Values that become settings, by the setting's name.
SETTINGS = {
    "prometheus.url": "prometheus_url",
    "prometheus.settle": "settle",
    "reports": "reports",
    "reportsVolume.url": "reports_url",
    "gatewayUrls": "gateway_urls",
    "gatewayNamespaces": "gateway_namespaces",
    "clusterDomain": "cluster_domain",
    "drain.namespace": "drain_namespace",
    "namespaces": "namespaces",
    "selector": "selector",
    "logLevel": "log_level",
}
#: The same for the drain.
DRAIN_SETTINGS = {"drain.lastScrapeSeconds": "last_scrape_seconds"}
#: Values that become files of the settings: a list of entries, or one entry that may be missing.
FILES: Mapping[str, type[BaseModel]] = {
    "prometheus.default": PrometheusServer,
    "prometheus.sources": NamedPrometheus,
    "notifications.receivers": Receiver,
    "drain.otlp": OtlpNames,
}
_NAMES: Schema = {"type": "array", "items": {"type": "string", "minLength": 1}}
_TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_NAMESPACE: Schema = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
_OBJECT_NAME: Schema = {"type": "string", "pattern": "^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$"}
_OBJECT_NAMES: Schema = {"type": "array", "items": _OBJECT_NAME}
_OBJECTS: Schema = {"type": "array", "items": {"type": "object"}}
#: Values that become fields of Kubernetes' objects, where their default does not say enough.
KUBERNETES: Mapping[str, Schema] = {
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "imagePullSecrets": _OBJECTS,
    "replicas": {"type": "integer", "minimum": 0, "maximum": 10},
    "heroku.keys": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "namespaces": {"type": "string", "pattern": "^[a-z0-9*?-]{1,63}$"},
                "file": {"type": "string", "pattern": "^/"},
            },
            "required": ["namespaces", "file"],
            "additionalProperties": False,
        },
    },
    "heroku.secrets": _NAMES,
    "heroku.planSecrets": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "namespace": _NAMESPACE,
                "name": _OBJECT_NAME,
            },
            "required": ["namespace", "name"],
            "additionalProperties": False,
        },
    },
    "reportsVolume.claim": {"type": "string", "pattern": "^([a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?)?$"},
    "heroku.configSources": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"namespace": _NAMESPACE, "secrets": _OBJECT_NAMES, "configMaps": _OBJECT_NAMES},
            "required": ["namespace"],
            "additionalProperties": False,
        },
    },
    "prometheus.secrets": _NAMES,
    "notifications.secrets": _NAMES,
    "approvals.accounts": _NAMES,
    "alerts.runbooks": {"type": "string", "pattern": "^(https?://.+)?$"},
    "drain.replicas": {"type": "integer", "minimum": 0, "maximum": 10},
    "drain.from": _OBJECTS,
    "drain.resources": {"type": "object"},
    "networkPolicy.metricsFrom": _OBJECTS,
    "networkPolicy.egress": _OBJECTS,
    "tolerations": _OBJECTS,
    "topologySpreadConstraints": _OBJECTS,
    "resources": {"type": "object"},
    "affinity": {"type": "object"},
    **dict.fromkeys(
        (
            *("alerts.labels", "alerts.ruleLabels", "serviceMonitor.labels"),
            *("dashboards.labels", "dashboards.annotations"),
            *("serviceAccount.annotations", "podAnnotations", "nodeSelector"),
        ),
        _TEXTS,
    ),
}
#: Keys of pydantic's that mean nothing to Helm, or that no default of the chart's needs.
_LEFT_OUT = frozenset({"title", "default", "discriminator", "format"})


def schema() -> Schema:
    """Return the schema of the chart's values."""
    values = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    found = _of_value(values, "")
    # Helm adds it where the chart is part of another one.
    found["properties"]["global"] = {"type": "object"}
    return {"$schema": "http://json-schema.org/draft-07/schema#", **found}


def render() -> str:
    """Return the text of the file."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _of_value(value: Any, path: str) -> Schema:
    if path in SETTINGS:
        return _of_setting(Settings, SETTINGS[path], value)
    if path in DRAIN_SETTINGS:
        return _of_setting(DrainSettings, DRAIN_SETTINGS[path], value)
    if path in FILES:
        return _of_file(FILES[path], value)
    if path in KUBERNETES:
        return KUBERNETES[path]
    match value:
        case bool():
            return {"type": "boolean"}
        case str():
            return {"type": "string"}
        case dict() if value:
            inner = {key: _of_value(one, f"{path}.{key}".removeprefix(".")) for key, one in value.items()}
            return {"type": "object", "properties": inner, "additionalProperties": False}
        case _:
            raise ValueError(f"{path}: a default of {value!r} does not say what it may be; say it in {__file__}")


def _of_setting(model: type[BaseModel], name: str, default: Any) -> Schema:
    field = model.model_fields[name]
    found = _plain(TypeAdapter(field.rebuild_annotation()).json_schema())
    options = [one for one in found.get("anyOf", [found]) if "contentSchema" not in one and one.get("type") != "null"]
    (only,) = options
    if default == "" and "pattern" in only:  # not set
        only["pattern"] = f"^$|{only['pattern']}"
    return {"description": field.description, **only}


def _of_file(model: type[BaseModel], default: Any) -> Schema:
    entry = _plain(model.model_json_schema())
    if default == []:
        return {"type": "array", "items": entry}
    return {"anyOf": [{"type": "object", "maxProperties": 0}, entry]}


def _plain(node: Any, definitions: Schema | None = None) -> Any:
    """Return a schema of pydantic's without references, titles and defaults."""
    if isinstance(node, list):
        return [_plain(one, definitions) for one in node]
    if not isinstance(node, dict):
        return node
    definitions = node.get("$defs", definitions) or {}
    if reference := node.get("$ref"):
        node = definitions[reference.removeprefix("#/$defs/")] | {k: v for k, v in node.items() if k != "$ref"}
    out: Schema = {}
    for key, value in node.items():
        match key:
            case "$defs":
                continue
            case "properties":
                out[key] = {name: _plain(child, definitions) for name, child in value.items()}
            case "patternProperties":
                out |= {key: _plain(value, definitions), "additionalProperties": False}
            case "ge" | "le":  # beside a union: they bind the number in it
                out[{"ge": "minimum", "le": "maximum"}[key]] = value
            case "description":
                out[key] = " ".join(value.split()).replace("``", "`")
            case _:
                if key not in _LEFT_OUT:
                    out[key] = _plain(value, definitions)
    return out


def main(arguments: list[str] | None = None) -> int:
    """Write the file, or with ``--check`` tell whether it is up to date."""
    parser = argparse.ArgumentParser(
        prog="python -m chart_values", description="Generate the schema of the chart's values."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the file is out of date")
    text = render()
    if SCHEMA.exists() and SCHEMA.read_text(encoding="utf-8") == text:
        return 0
    if parser.parse_args(arguments).check:
        print("charts/cutover/values.schema.json is out of date: make crds")
        return 1
    SCHEMA.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
