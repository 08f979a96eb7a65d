"""Reads a MigrationPlan from a file of manifests."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cutover.api.problems import problem_text
from cutover.api.v1alpha1 import KIND, MigrationPlan
from cutover.domain.plan import Plan


class PlanFileError(Exception):
    """No plan could be read from the file. The text says why."""


def read_plan(path: str, name: str | None, namespace: str = "default") -> Plan:
    """Read the MigrationPlan of a file, or of the standard input for ``-``.

    Parameters
    ----------
    path, name
        The file, and the plan's name where it has several.
    namespace
        Namespace of a plan that names none.

    Raises
    ------
    PlanFileError
        If there is no plan, more than one, or an invalid plan.
    """
    where = "the standard input" if path == "-" else path
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        documents = [json.loads(json.dumps(one, default=_isoformat)) for one in yaml.safe_load_all(text)]
    except OSError as error:
        raise PlanFileError(f"{where} cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise PlanFileError(f"{where} is not YAML{line}: {error.problem}") from None
    except (yaml.YAMLError, TypeError, ValueError, RecursionError):
        raise PlanFileError(f"{where} is not YAML in UTF-8") from None
    plans = [one for one in documents if isinstance(one, dict) and one.get("kind") == KIND]
    if name is not None:
        plans = [one for one in plans if (one.get("metadata") or {}).get("name") == name]
    if len(plans) != 1:
        many = f"{len(plans)} plans; choose one with --name" if plans else f"no {KIND}"
        raise PlanFileError(f"{where} has {many}" + (f" named {name}" if name and not plans else ""))
    try:
        plan = MigrationPlan.from_wire(plans[0])
        return Plan(
            namespace=plan.metadata.get("namespace", namespace),
            name=plan.metadata["name"],
            uid="",
            generation=0,
            spec=plan.spec,
            status=plan.status,
        )
    except ValidationError as error:
        raise PlanFileError(f"{where}: {problem_text(error)}") from None
    except KeyError:
        raise PlanFileError(f"{where}: metadata.name is missing") from None


def _isoformat(value: Any) -> str:
    return str(value.isoformat())
