"""The CustomResourceDefinitions, generated from the models: ``python -m cutover.api.crd [--check]``.

Pydantic writes JSON Schema; the API server accepts only structural OpenAPI schemas. So references are inlined, unions with
null become optional fields, ``const`` becomes ``enum``, and rules that OpenAPI cannot express become ``x-kubernetes-`` keys
(see :class:`cutover.api.rules.Rule`).
"""

from __future__ import annotations

import argparse
import difflib
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from cutover.api.durations import format_duration
from cutover.api.model import Model
from cutover.api.v1alpha1 import GROUP, PLURAL, VERSION, MigrationPlan
from cutover.api.v1alpha1.templates import CLUSTER_GATE_TEMPLATES, GATE_TEMPLATES, ClusterGateTemplate, GateTemplate

Schema = dict[str, Any]

_ROOT = Path(__file__).resolve().parents[3]

#: For kubectl, and for Helm, which takes files only from a chart. They are no chart's `crds/`: Helm never upgrades those, and
#: Helm 4 applies them anew with each installation, so that a second release could take fields away from the first.
FOLDERS = (_ROOT / "crds", _ROOT / "charts" / "cutover-crds" / "files")

_HEADER = "# Generated from operator/cutover/api/ by `make crds`. Do not edit.\n"

_AGE = ("Age", ".metadata.creationTimestamp", "date", 0)
#: What ``kubectl get mplan`` shows: name, JSONPath, type, priority (1 is for ``-o wide``).
COLUMNS = (
    ("Phase", ".status.phase", "string", 0),
    ("Step", ".status.step", "string", 0),
    ("EKS", ".status.eks", "string", 0),
    ("Seen", ".status.share.observed", "number", 0),
    ("Proof", ".status.gate", "string", 0),
    ("Held", ".status.held.reason", "string", 0),
    ("Since", ".status.held.since", "date", 0),
    ("Trouble", ".status.trouble", "integer", 1),
    ("Reason", ".status.reason", "string", 1),
    ("Message", ".status.message", "string", 1),
    _AGE,
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A custom resource of this API group, as its CRD defines it.

    Parameters
    ----------
    model
        Model of the whole object. Its name is the kind; with a status it has a status subresource.
    plural, short_name
        Names for ``kubectl get``.
    namespaced
        Whether its objects are in namespaces.
    columns
        Columns of ``kubectl get``, as :data:`COLUMNS`.
    """

    model: type[Model]
    plural: str
    short_name: str
    namespaced: bool
    columns: tuple[tuple[str, str, str, int], ...]

    @property
    def name(self) -> str:
        """The kind's name."""
        return self.model.__name__

    @property
    def file(self) -> str:
        """Name of the file with its CRD."""
        return f"{GROUP}_{self.plural}.yaml"


_TEMPLATE_COLUMNS = (("Description", ".spec.description", "string", 0), _AGE)

PLAN = Kind(MigrationPlan, PLURAL, "mplan", namespaced=True, columns=COLUMNS)
KINDS = (
    PLAN,
    Kind(GateTemplate, GATE_TEMPLATES, "gtmpl", namespaced=True, columns=_TEMPLATE_COLUMNS),
    Kind(ClusterGateTemplate, CLUSTER_GATE_TEMPLATES, "cgtmpl", namespaced=False, columns=_TEMPLATE_COLUMNS),
)

_INT32_MAX = 2**31 - 1


class _Generator(GenerateJsonSchema):
    """Writes defaults as people write them in a plan.

    The default of a model has only the fields that it was created with: the API server fills in the rest from the
    defaults of its fields, so that each default is in the CRD once.
    """

    def encode_default(self, dft: Any) -> Any:
        match dft:
            case timedelta():
                return format_duration(dft)
            case BaseModel():
                return dft.model_dump(mode="json", by_alias=True, exclude_unset=True)
            case tuple():
                return [self.encode_default(item) for item in dft]
            case _:
                return super().encode_default(dft)


def crd(kind: Kind = PLAN) -> dict[str, Any]:
    """Return the CustomResourceDefinition of a kind."""
    columns = [
        {"name": name, "jsonPath": path, "type": shown} | ({"priority": priority} if priority else {})
        for name, path, shown, priority in kind.columns
    ]
    whole = schema(kind)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        # With a CRD all of its objects go: Helm leaves it when a release is uninstalled.
        "metadata": {"name": f"{kind.plural}.{GROUP}", "annotations": {"helm.sh/resource-policy": "keep"}},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short_name],
                "categories": ["cutover"],
            },
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                }
                | ({"subresources": {"status": {}}} if "status" in whole["properties"] else {})
                | {
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": whole},
                }
            ],
        },
    }


def schema(kind: Kind = PLAN) -> Schema:
    """Return the structural schema of a kind's whole object."""
    generated = kind.model.model_json_schema(schema_generator=_Generator)
    root = _structural(generated, generated.pop("$defs"))
    # The API server validates these three itself.
    root["properties"] |= {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
    }
    root["required"] = ["spec"]
    # A new plan has no status yet. Without observedGeneration kstatus (Flux, kubectl wait) would take it for done.
    if status := root["properties"].get("status"):
        root["properties"]["status"] = _without_defaults(status) | {"default": {"observedGeneration": -1}}
    return root


def _structural(node: Schema, definitions: Schema) -> Schema:
    """Turn a JSON Schema into a structural one."""
    if reference := node.get("$ref"):
        # Keys beside a reference are about this field, and override the referenced ones.
        node = definitions[reference.removeprefix("#/$defs/")] | {k: v for k, v in node.items() if k != "$ref"}
    if options := node.get("anyOf"):
        rest = {k: v for k, v in node.items() if k != "anyOf"}
        (option,) = (option for option in options if option != {"type": "null"})
        return _structural(option | rest, definitions)

    out: Schema = {}
    for key, value in node.items():
        match key, value:
            case ("title", _) | ("additionalProperties", bool()) | ("default", None):
                continue
            case "description", str():
                out[key] = " ".join(value.split()).replace("``", "`")
            case "const", _:
                out["enum"] = [value]
            case "exclusiveMinimum", _:
                out |= {"minimum": value, "exclusiveMinimum": True}
            case "exclusiveMaximum", _:
                out |= {"maximum": value, "exclusiveMaximum": True}
            case "prefixItems", [first, *others] if all(other == first for other in others):  # a pair, with its length
                out["items"] = _structural(first, definitions)
            case "items", _:
                out[key] = _structural(value, definitions)
            case "properties", _:
                out[key] = {name: _structural(child, definitions) for name, child in value.items()}
            case _:
                out[key] = value

    match out.get("type"):
        case "integer":
            out["format"] = "int32" if abs(out.get("maximum", _INT32_MAX + 1)) <= _INT32_MAX else "int64"
        case "array":
            out.setdefault("x-kubernetes-list-type", "atomic")
        case _:
            pass
    return dict(sorted(out.items(), key=lambda item: _ORDER.get(item[0], len(_ORDER))))


#: Order of a schema's keys: first what people read.
_ORDER = {key: place for place, key in enumerate(("description", "type", "format", "enum", "default", "required"))}


def _without_defaults(node: Schema) -> Schema:
    out = {key: value for key, value in node.items() if key != "default"}
    if "items" in out:
        out["items"] = _without_defaults(out["items"])
    if "properties" in out:
        out["properties"] = {name: _without_defaults(child) for name, child in out["properties"].items()}
    return out


class _Dumper(yaml.SafeDumper):
    """Writes YAML without anchors, which confuse readers and tools."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # the library names it
        return True


def render(kind: Kind = PLAN) -> str:
    """Return the text of a kind's CRD file."""
    return _HEADER + yaml.dump(crd(kind), Dumper=_Dumper, sort_keys=False, width=119, allow_unicode=True)


def main(arguments: list[str] | None = None) -> int:
    """Write the CRD files, or with ``--check`` tell whether they are up to date."""
    parser = argparse.ArgumentParser(
        prog="python -m cutover.api.crd", description="Generate the CRDs from the models."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is out of date")
    check = parser.parse_args(arguments).check
    stale = False
    for kind in KINDS:
        text = render(kind)
        for file in (folder / kind.file for folder in FOLDERS):
            found = file.read_text(encoding="utf-8") if file.exists() else ""
            if found == text:
                continue
            name = str(file.relative_to(_ROOT))
            if check:
                stale = True
                lines = difflib.unified_diff(
                    found.splitlines(), text.splitlines(), name, "generated", lineterm="", n=1
                )
                shown = list(lines)[:40]
                sys.stderr.write("\n".join([*shown, f"{name} is out of date: run `make crds`", ""]))
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
                sys.stdout.write(f"wrote {name}\n")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
