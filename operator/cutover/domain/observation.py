"""What one pass sees of the world, as plain facts; :func:`cutover.domain.engine.decide.decide` judges them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cutover.api.v1alpha1 import BacktestStatus, MigrationPlanSpec, MigrationPlanStatus
from cutover.api.v1alpha1.templates import Template
from cutover.domain.commands.annotations import ANNOTATIONS, Writer
from cutover.domain.evidence.blocks import Block
from cutover.domain.managed_fields import owners
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.slo.custom import SloReading
from cutover.domain.traffic import NOTHING, Capabilities

#: Stands in for a spec that cannot be read.
_NO_SPEC = MigrationPlanSpec.model_construct()  # type: ignore[call-arg]


@dataclass(frozen=True, slots=True)
class Plan:
    """A MigrationPlan as read from the API server, with the operator's working status.

    ``status`` may be ahead of what is stored: evidence is written as a checkpoint only, at most once a minute.
    ``unreadable`` says what is wrong with the newest spec, where ``spec`` is an older one that could be read. ``writers``
    says who wrote the spec last (``"spec"``), and each command that is there (by its annotation).
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
            Where it is not one that this version of the operator understands.
        """
        return cls._of(body, MigrationPlanSpec.model_validate(body["spec"]))

    @classmethod
    def refused(cls, body: Mapping[str, Any], problem: str) -> Plan:
        """Stand in for a plan whose spec cannot be read: enough of it to say so in its status."""
        return replace(cls._of(body, _NO_SPEC), unreadable=problem)

    @property
    def has_spec(self) -> bool:
        """Whether there is a spec that could be read, if only an older one."""
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
    """Return who wrote the spec and the commands, the latest of several."""
    paths = {"spec": ("spec",)} | {name: ("metadata", "annotations", name) for name in commands}
    return {
        name: Writer(latest.manager, latest.time)
        for name, path in paths.items()
        for latest in owners(metadata, *path)[:1]
    }


@dataclass(frozen=True, slots=True)
class TrafficState:
    """The plan's route as it is: what the provider's objects say.

    Parameters
    ----------
    weight
        Percent of requests that the route sends to EKS, or ``None`` where it is missing or not of the operator's shape.
    revision
        The revision stamped into it (see :mod:`cutover.domain.revision`), ``""`` if it has none.
    current
        Whether all routing objects are exactly what the operator would write for the plan's desired weight.
    foreign
        Field managers other than the operator that own a part of the objects' spec: who edited them.
    written_at
        Unix seconds at which the operator wrote the route last; ``None`` if that is not known.
    version
        Which state of the route this is, ``""`` where it is missing: what is decided on it is to be written over it, and
        over no other.
    in_the_way
        Before the takeover, where not all requests go to Heroku: what sends them elsewhere and what to do about it, in
        the provider's words.
    """

    weight: int | None
    revision: str
    current: bool
    foreign: tuple[str, ...] = ()
    written_at: float | None = field(default=None, compare=False)
    version: str = field(default="", compare=False)
    in_the_way: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Probe:
    """The answer to one request through the gateway that the route pins to the Heroku leg.

    Parameters
    ----------
    at
        Unix seconds.
    revision
        Value of the ``x-cutover-revision`` response header: which version of the route the gateway has; ``""`` if
        the response had none.
    healthy
        Whether Heroku answered as an app does: no 5xx, no routing fault, no "no such app" page.
    detail
        What came back, for people: ``HTTP 503 (H10)``, ``connection refused``.
    failures
        Unhealthy answers in a row, up to this one.
    """

    at: float
    revision: str
    healthy: bool
    detail: str
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Samples:
    """Blocks that became known since the last consumed one, oldest first.

    Parameters
    ----------
    blocks
        Usable and unusable ones, without holes in time.
    error
        Why Prometheus gave no answer, or ``""``.
    """

    blocks: tuple[Block, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Heroku's latency histogram over the baseline: requests at or below each bound.

    Parameters
    ----------
    cumulative
        Requests not slower than the bound, by bound in milliseconds (``inf`` for all), rising.
    """

    cumulative: Mapping[float, float]

    @property
    def total(self) -> float:
        """Requests in the histogram."""
        return self.cumulative.get(float("inf"), 0.0)


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything one pass knows. ``None`` means that it could not be read or was not needed.

    Parameters
    ----------
    traffic
        The routing objects; ``None`` where the API server could not be asked.
    capabilities
        What the plan's traffic provider can do.
    inventory
        The objects that preflight judges; read in preflight only.
    probe
        The newest probe of the Heroku leg.
    prepared_for
        Seconds for which what the route refers to has been there, as far as this process knows.
    samples
        New blocks.
    histogram
        Heroku's latencies since the takeover; read in the Baseline phase only.
    errors
        Why something could not be read, in words for people.
    since
        Unix seconds since when this process looks at the plan: silence from before says nothing.
    own
        What became known of the team's own gates, by name.
    templates
        Templates of gates that the plan may refer to, by ``Kind/name``; a text is why one could not be read.
    sources
        Names of the Prometheus servers that plans of this namespace may choose.
    queries
        PromQL by which people can look at the mesh's own metrics, by name.
    backtest
        Result of the replay that the plan asks for, once it is there.
    unwritten
        Whether the route could not be written and the status says so: until it can, the route goes first.
    remember_in
        Seconds until who was told what is worth a write of the status by itself; ``None`` where the status remembers
        all of it.
    """

    traffic: TrafficState | None = None
    capabilities: Capabilities = NOTHING
    inventory: Inventory | None = None
    probe: Probe | None = None
    prepared_for: float | None = None
    samples: Samples = Samples()
    histogram: Histogram | None = None
    errors: tuple[str, ...] = ()
    since: float = 0.0
    own: Mapping[str, SloReading] = field(default_factory=dict)
    templates: Mapping[str, Template | str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    queries: Mapping[str, str] = field(default_factory=dict)
    backtest: BacktestStatus | None = None
    unwritten: bool = False
    remember_in: float | None = None
