"""What one reconcile sees of the world, as plain facts; :func:`cutover.domain.engine.decide.decide` judges them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cutover.api.v1alpha1 import BacktestStatus
from cutover.api.v1alpha1.templates import Template
from cutover.domain.baseline.histogram import Histogram
from cutover.domain.evidence.blocks import Block
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.slo.custom import SloReading
from cutover.domain.traffic import NOTHING, Capabilities, Probe, TrafficState


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
