"""What one reconcile observes, as plain facts; :func:`cutover.domain.engine.decide.decide` judges them."""

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


@dataclass(frozen=True, slots=True)
class TrafficState:
    """The plan's route in the cluster, as the provider's objects have it.

    Parameters
    ----------
    weight
        Percent of requests that the route sends to EKS; ``None`` if the route is missing or has another shape.
    revision
        The revision stamped into the route (see :mod:`cutover.domain.revision`); ``""`` if it has none.
    current
        Whether all routing objects are exactly what the operator would write for the plan's desired weight.
    foreign
        Field managers other than the operator that own a part of the objects' spec, because they edited it.
    written_at
        Unix seconds at which the operator wrote the route last; ``None`` if that is not known.
    version
        Version of the route that was read, ``""`` if it is missing. A decision made on this version is written only
        over this version.
    in_the_way
        Before the takeover, if not all requests go to Heroku: which object routes them elsewhere and what to do about
        it, in the provider's words.
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
        The answer, for people: ``HTTP 503 (H10)``, ``connection refused``.
    failures
        Unhealthy answers in a row, this one included.
    """

    at: float
    revision: str
    healthy: bool
    detail: str
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Samples:
    """New blocks since the last consumed one, oldest first.

    Parameters
    ----------
    blocks
        Usable and unusable blocks, without holes in time.
    error
        Why Prometheus gave no answer; ``""`` if it did.
    """

    blocks: tuple[Block, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Heroku's latency histogram over the baseline: requests at or below each bound.

    Parameters
    ----------
    cumulative
        Requests at or below each bound, by the bound in milliseconds (``inf`` for all requests), rising.
    """

    cumulative: Mapping[float, float]

    @property
    def total(self) -> float:
        """Requests in the histogram."""
        return self.cumulative.get(float("inf"), 0.0)


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything that one reconcile knows. ``None`` means that a fact could not be read, or was not needed.

    Parameters
    ----------
    traffic
        The route; ``None`` if the API server gave no answer.
    capabilities
        What the plan's traffic provider can do.
    inventory
        The objects that preflight judges; read in preflight only.
    probe
        The newest probe of the Heroku leg.
    prepared_for
        Seconds since this process first saw the objects that the route refers to.
    samples
        New blocks.
    histogram
        Heroku's latencies since the takeover; read in the Baseline phase only.
    errors
        Why facts could not be read, in words for people.
    since
        Unix seconds at which this process began to observe the plan. Silence from before says nothing.
    slo_readings
        What was read for each custom SLO, by its name.
    templates
        Gate templates that the plan may refer to, by ``Kind/name``; a text says why a template could not be read.
    sources
        Names of the Prometheus servers that plans of this namespace may choose.
    queries
        Dashboard queries: PromQL for the mesh's metrics, by metric.
    backtest
        Result of the replay that the plan asks for; ``None`` until it is done.
    unwritten
        Whether the last write of the route failed, as the status says. Until a write succeeds, the route is written
        before the status.
    remember_in
        Seconds until the notifications that were sent are worth a write of the status by themselves; ``None`` if the
        status has all of them.
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
    slo_readings: Mapping[str, SloReading] = field(default_factory=dict)
    templates: Mapping[str, Template | str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    queries: Mapping[str, str] = field(default_factory=dict)
    backtest: BacktestStatus | None = None
    unwritten: bool = False
    remember_in: float | None = None
