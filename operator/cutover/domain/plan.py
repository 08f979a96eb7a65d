"""A MigrationPlan as read from the API server, with the operator's working status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cutover.api.v1alpha1 import MigrationPlanSpec, MigrationPlanStatus
from cutover.domain.commands.annotations import ANNOTATIONS, Writer
from cutover.domain.managed_fields import owners

#: Stands in for a spec that cannot be read.
_NO_SPEC = MigrationPlanSpec.model_construct()  # type: ignore[call-arg]


@dataclass(frozen=True, slots=True)
class Plan:
    """A MigrationPlan as read from the API server, with the operator's working status.

    ``status`` may be ahead of what is stored: evidence is written as a checkpoint only, at most once a minute.
    ``unreadable`` says what is wrong with the newest spec; ``spec`` is then the last one that could be read. ``writers``
    has the field manager that wrote the spec last (key ``"spec"``) and those of the commands (key: the annotation).
    """

    namespace: str
    name: str
    uid: str
    generation: int
    spec: MigrationPlanSpec
    status: MigrationPlanStatus = field(default_factory=MigrationPlanStatus)
    annotations: Mapping[str, str] = field(default_factory=dict)
    deleting: bool = False
    unreadable: str = ""
    writers: Mapping[str, Writer] = field(default_factory=dict, compare=False)

    @classmethod
    def from_object(cls, body: Mapping[str, Any]) -> Plan:
        """Read a MigrationPlan from the object as the API server has it.

        Raises
        ------
        pydantic.ValidationError
            If this version of the operator cannot read the object.
        """
        return cls._of(body, MigrationPlanSpec.model_validate(body["spec"]))

    @classmethod
    def refused(cls, body: Mapping[str, Any], problem: str) -> Plan:
        """Return a plan whose spec cannot be read, with what its status needs to say so."""
        return replace(cls._of(body, _NO_SPEC), unreadable=problem)

    @property
    def has_spec(self) -> bool:
        """Whether a spec could be read, the newest or an older one."""
        return self.spec is not _NO_SPEC

    @classmethod
    def _of(cls, body: Mapping[str, Any], spec: MigrationPlanSpec) -> Plan:
        metadata = body["metadata"]
        annotations = metadata.get("annotations") or {}
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            generation=metadata.get("generation", 1),
            spec=spec,
            status=MigrationPlanStatus.model_validate(body.get("status") or {}),
            annotations=annotations,
            deleting="deletionTimestamp" in metadata,
            writers=_writers(metadata, [name for name in ANNOTATIONS if name in annotations]),
        )

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


def _writers(metadata: Mapping[str, Any], commands: Sequence[str]) -> dict[str, Writer]:
    """Return the latest field managers of the spec and of each command."""
    paths = {"spec": ("spec",)} | {name: ("metadata", "annotations", name) for name in commands}
    return {
        name: Writer(latest.manager, latest.time)
        for name, path in paths.items()
        for latest in owners(metadata, *path)[:1]
    }
