"""A world for ``decide``: users, two legs, a gateway, Prometheus, an API server and a loop that can be killed anywhere.

What is decided is executed by the operator's own code (:mod:`cutover.services.apply`), behind ports of this world, so that
what is written and in which order is what production does. The rest is as small as it can be while the parts that matter
are like the real ones: a route is live at the gateway a moment
after it was written, blocks come late and aligned to the clock, a leg that hangs is silent until the route's time-out
makes errors of its requests, the loop's status is ahead of the stored one, and a write can fail, or be the last thing
that the process did.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

from tests.kit.alike import ALIKE
from tests.kit.builders import spec_fields
from tests.kit.target import READY, Target

from cutover.adapters.traffic.istio.provider import CAPABILITIES as ISTIO
from cutover.api.v1alpha1 import (
    BacktestStatus,
    BoundSlo,
    DownAction,
    InsufficientTraffic,
    MigrationPlanSpec,
    MigrationPlanStatus,
    Mode,
    OnTimeout,
    Phase,
)
from cutover.api.v1alpha1.templates import Template
from cutover.domain.alike.findings import PathAnswers
from cutover.domain.baseline.histogram import Histogram
from cutover.domain.baseline.record import KeptRecord, RecordReading
from cutover.domain.commands.annotations import (
    FORWARD_ANNOTATION,
    PROCEED_ANNOTATION,
    ROLLBACK_ANNOTATION,
    read,
)
from cutover.domain.engine.actions import (
    Action,
    Decision,
    EndTrial,
    Event,
    Finalize,
    GiveBack,
    Prepare,
    SetWeight,
    Try,
    WakeAfter,
    WakeAtBlock,
    WriteStatus,
)
from cutover.domain.engine.context import Context, resolve
from cutover.domain.engine.decide import decide
from cutover.domain.engine.phases.takeover import REFUSALS
from cutover.domain.engine.probe_intervals import eks_probe_interval, pair_interval, paired_step, probe_interval
from cutover.domain.engine.wanted import (
    answers_wanted,
    audit_asked_at,
    capacity_wanted,
    keeping_wanted,
    least_coverage,
    neighbours_wanted,
    releases_wanted,
    route_wanted,
    samples_wanted,
)
from cutover.domain.evidence import judge as gate
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.ingest import ingest, load_evidence
from cutover.domain.evidence.lengths import in_force
from cutover.domain.evidence.pairs import NO_PAIRS, Pairs, enter, take
from cutover.domain.evidence.tolerances import answers_slo, gate_rules
from cutover.domain.evidence.worth import Pair, worth
from cutover.domain.heroku import HerokuNews
from cutover.domain.observation import Observation, Samples
from cutover.domain.plan import Plan
from cutover.domain.revision import Split, desired_revision
from cutover.domain.rollout import Rollout
from cutover.domain.slo.custom import CustomSlo, QueryProblem, SloReading
from cutover.domain.steps import current_step, next_step
from cutover.domain.traffic import Capabilities, Probe, TrafficState
from cutover.domain.traffic import Leg as LegName
from cutover.domain.verdicts import Verdict
from cutover.ports.all import Ports
from cutover.ports.errors import Conflict, Unavailable
from cutover.services.apply import Applier
from cutover.services.working_status import WorkingStatus

#: Monday 2027-01-11, 10:00:00 UTC; a multiple of any block.
START = 1_799_661_600.0
#: Kind and name of the route, as the status records it.
ROUTE_NAME = "VirtualService cutover-pdf"
#: Seconds until a written route is live at the gateway; until a block is known; until a hung request ends as 504.
LIVE_LAG, SCRAPE_LAG, ROUTE_TIMEOUT = 0.1, 3.0, 30.0

#: New blocks with which a decision is not made twice to see whether it is the same.
MANY_BLOCKS = 10

LATENCIES = Histogram({100.0: 40_000.0, 250.0: 48_500.0, 500.0: 49_900.0, 1000.0: 49_990.0, float("inf"): 50_000.0})


@dataclass(frozen=True)
class Leg:
    """How a leg answers: fractions of its requests."""

    errors: float = 0.001
    slow: float = 0.03
    very_slow: float = 0.0005
    hangs: bool = False
    refused: float = 0.0
    redirected: float = 0.0
    throttled: float = 0.0

    @property
    def well(self) -> bool:
        return not self.hangs and self.errors < 0.5


def codes_of(counts: Counts) -> dict[str, float]:
    """Return a leg's answers by HTTP status, with one status for each class."""
    by_code = {
        "200": counts.ok,
        "500": counts.errors,
        "401": counts.refused,
        "302": counts.redirected,
        "429": counts.throttled,
    }
    return {code: count for code, count in by_code.items() if count > 0}


HEALTHY, FAILING, DEAD, HANGING = Leg(), Leg(errors=0.2), Leg(errors=1.0), Leg(hangs=True)


def plan_spec(**fields: Any) -> MigrationPlanSpec:
    """Return a spec with short holds; ``fields`` are the API's own, in camel case."""
    steps = [{"weight": weight, "hold": "30s"} for weight in (10, 25, 50, 100)]
    short = {"steps": steps, "soak": "60s", "gates": {"block": "5s", "warmUp": "5s"}}
    return MigrationPlanSpec.model_validate(spec_fields(**{**short, **fields}))


@dataclass(frozen=True)
class Route:
    """The VirtualService; somebody else's hand in it is an edit, of something else where the weight is as it was.

    Without a weight it is the probes' alone.
    """

    weight: int | None
    revision: str
    foreign: tuple[str, ...] = ()


class Crashed(Exception):
    """The process was killed."""


@dataclass
class World:
    """Everything that is not the operator, and the operator's loop around ``decide``."""

    spec: MigrationPlanSpec = field(default_factory=plan_spec)
    rate: float = 50.0
    heroku: Leg = HEALTHY
    eks: Leg = HEALTHY
    #: Percent of the requests that EKS gets while both legs have weight, where users are drawn and some send more than others.
    eks_percent: float | None = None
    #: How EKS answers probes, where it is not as it answers users.
    eks_to_probes: Leg | None = None
    #: Upgraded connections that end on EKS in each block.
    eks_sockets: float = 0.0
    #: Part of the requests that belong to a session, which is refused by the leg that did not begin it.
    unshared: float = 0.0
    now: float = START
    generation: int = 1
    annotations: dict[str, str] = field(default_factory=dict)
    deleting: bool = False
    #: Whether users have a route of the team's before the takeover.
    gives_back: bool = False
    capabilities: Capabilities = ISTIO
    target: Target | None = READY
    histogram: Histogram | None = LATENCIES
    #: What is known of the time before the takeover, where the plan asks for it.
    record: RecordReading | None = None
    kept: KeptRecord | None = None
    templates: dict[str, Template | str] = field(default_factory=dict)
    backtest: BacktestStatus | None = None
    #: What the legs run, as Heroku's API and the workload say.
    news: HerokuNews | None = None
    rollout: Rollout | None = None
    #: By name of a gate: the value of a bound (none: no series), and the parts of each leg's events that go wrong.
    values: dict[str, float | None] = field(default_factory=dict)
    wrong: dict[str, tuple[float, float]] = field(default_factory=dict)
    problems: dict[str, QueryProblem] = field(default_factory=dict)
    asked: bool = True
    baselines: dict[str, float] = field(default_factory=dict)
    #: What no exporter should give, and some do: every value and count of the custom SLOs, while it is set.
    odd: float | None = None

    # What is broken, or will break.
    prometheus_up: bool = True
    prometheus_slow: bool = False
    scrapes_lost: bool = False
    #: Seconds between two scrapes, where they are seen.
    scrape_seconds: float | None = None
    #: What tells the gateways' clusters apart, where there are several.
    clusters: str = ""
    #: Requests per second of others to the same Service.
    others: float = 0.0
    istiod_up: bool = True
    #: Part of the gateways that never got a route with traffic for EKS.
    stale: float = 0.0
    status_writes_fail: bool = False
    route_writes_fail: bool = False
    routes_readable: bool = True
    probes_answered: bool = True
    crash_at: tuple[int, str] | None = None
    #: Seconds by which the time that the operator judges by is wrong.
    ahead: float = 0.0

    # What the API server and the gateway have.
    stored: MigrationPlanStatus = field(default_factory=MigrationPlanStatus)
    route: Route | None = None
    live: Route | None = None
    blocks: list[Block] = field(default_factory=list)
    events_of: dict[str, list[Block]] = field(default_factory=dict)
    points: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    # What was done.
    actions: list[tuple[float, Action]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    writes: list[tuple[float, MigrationPlanStatus]] = field(default_factory=list)
    weights: list[int | None] = field(default_factory=list)
    on_decision: Callable[[World, Plan, Observation, Decision], None] | None = None

    def __post_init__(self) -> None:
        self._coming: tuple[float, Route | None] | None = None
        self._hung: list[tuple[float, str, float]] = []
        self._begun = START
        self.route_version = 0
        self._counts = {"heroku": Counts(), "eks": Counts()}
        self._attempted = 0
        self.restart()

    def copy(self) -> World:
        """Return a world that goes its own way from here on."""
        twin = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, list | dict):
                setattr(twin, name, value.copy())
        twin.points = {name: values.copy() for name, values in self.points.items()}
        twin.events_of = {name: blocks.copy() for name, blocks in self.events_of.items()}
        return twin

    # -------------------------------------------------------------------------------------------------- the operator

    def restart(self) -> None:
        """Begin with nothing but what is stored."""
        self.working = self.stored
        self.pending: tuple[Block, ...] = ()
        self.pending_own: dict[str, tuple[Block, ...]] = {}
        self.since = self.now
        self.prepared_at: float | None = None
        self.unwritten = False
        self.untold: list[Event] = []
        self.probe: Probe | None = None
        self.eks_probe: Probe | None = None
        self.pairs: Pairs = NO_PAIRS
        self.answers: tuple[PathAnswers, ...] | None = ALIKE
        self._probed_at = self._paired_at = self._asked_eks_at = 0.0

    @property
    def status(self) -> MigrationPlanStatus:
        return self.working

    def plan(self) -> Plan:
        return Plan(
            namespace="shop",
            name="pdf",
            uid="1",
            generation=self.generation,
            spec=self.spec,
            status=self.working,
            annotations=self.annotations,
            deleting=self.deleting,
        )

    def observe(self) -> Observation:
        status, samples = self.working, Samples()
        if samples_wanted(status) and status.checkpoint is not None:
            after = self.pending[-1].end if self.pending else status.checkpoint.consumed_until
            if self.prometheus_up:
                known = (
                    ()
                    if self.prometheus_slow
                    else (b for b in self.blocks if b.end > after and b.end + SCRAPE_LAG <= self.now)
                )
                self.pending = (*self.pending, *known)
                samples = Samples(self.pending, scrape_seconds=self.scrape_seconds)
            else:
                samples = Samples(self.pending, "Prometheus at prometheus does not answer")
        traffic = None
        if self.routes_readable:
            route = route_wanted(self.plan(), self.capabilities)
            wanted = None if route is None else (route.weight if isinstance(route, Split) else None, route.revision)
            is_there = None if self.route is None else (self.route.weight, self.route.revision)
            tried = self.route is not None and self.route.weight is None and self.route.revision != ""
            traffic = TrafficState(
                weight=self.route.weight if self.route else None,
                revision=self.route.revision if self.route else "",
                current=wanted is None or (wanted == is_there and not (self.route and self.route.foreign)),
                foreign=self.route.foreign if self.route else (),
                version=str(self.route_version),
                name=ROUTE_NAME,
                trial=tried and status.weight is None,
                gives_back=self.gives_back and (self.route is None or self.route.weight is None),
            )
        probes = self.probe, self.eks_probe
        return Observation(
            traffic=traffic,
            capabilities=self.capabilities,
            inventory=self.target.inventory(self.plan()) if self.target and status.phase is Phase.PREFLIGHT else None,
            capacity=self.target.inventory(self.plan()) if self.target and capacity_wanted(self.plan()) else None,
            neighbours=self.target.inventory(self.plan()) if self.target and neighbours_wanted(status) else None,
            probe=self.probe,
            eks_probe=self.eks_probe,
            pairs=self.pairs,
            answers=self.answers if answers_wanted(self.plan(), probes, self.capabilities) else None,
            prepared_for=None if self.prepared_at is None else self.now - self.prepared_at,
            samples=samples,
            histogram=self.histogram if status.phase is Phase.BASELINE else None,
            record=self.record if least_coverage(self.plan()) is not None else None,
            kept=self.kept if keeping_wanted(status) else None,
            since=self.since,
            slo_readings={gate.name: self._read_own(gate) for gate in resolve(self.plan(), self.templates).gates},
            templates=self.templates,
            sources=("mimir-eu",),
            backtest=self.backtest if status.phase is Phase.BASELINE else None,
            news=self.news if releases_wanted(status) else None,
            rollout=self.rollout if releases_wanted(status) else None,
            unwritten=self.unwritten,
            asked_anew=audit_asked_at(status) is not None,
        )

    def _read_own(self, own: CustomSlo) -> SloReading:
        """Return what is known of a custom SLO: as blocks come, with the lag of a scrape."""
        checkpoint, name = self.working.checkpoint, own.name
        if not self.asked:
            return SloReading()
        baseline = self.baselines.get(name)
        if not self.prometheus_up:
            problem = QueryProblem(Verdict.NO_DATA, "Prometheus at prometheus does not answer", self.now)
            return SloReading(blocks=self.pending_own.get(name, ()), problem=problem)
        if name in self.problems:
            return SloReading(self.now, self.pending_own.get(name, ()), problem=self.problems[name])
        if isinstance(own.slo, BoundSlo):
            length = max(own.slo.for_.total_seconds(), 60.0)
            points = [p for p in self.points.get(name, ()) if self.now - length <= p[0] <= self.now - SCRAPE_LAG]
            missing = None if points else QueryProblem(Verdict.NO_DATA, "no series", self.since)
            return SloReading(self.now, points=tuple(points), baseline=baseline, problem=missing)
        after = self.now
        if checkpoint is not None:
            known = {one.gate: one.consumed_until for one in checkpoint.custom_slos}
            after = known.get(name, checkpoint.consumed_until)
        waiting = self.pending_own.get(name, ())
        after = waiting[-1].end if waiting else after
        news = [b for b in self.events_of.get(name, ()) if b.end > after and b.end + SCRAPE_LAG <= self.now]
        self.pending_own[name] = (*waiting, *news)
        return SloReading(self.now, self.pending_own[name])

    def reconcile(self) -> float:
        """Reconcile once; return the seconds until the next."""
        plan, seen = self.plan(), self.observe()
        decision = decide(plan, seen, self.now + self.ahead)
        if self.on_decision is not None:
            self.on_decision(self, plan, seen, decision)
        try:
            self._apply(plan, decision)
        except (Conflict, Unavailable):
            return 0.5
        except Crashed:
            self.restart()
            return 0.5
        return min(_seconds(decision), self._ask_heroku(), self._ask_eks(), self._ask_in_pairs())

    def _apply(self, plan: Plan, decision: Decision) -> None:
        """Let the operator's own code execute a decision. Raises Conflict, Unavailable, Crashed."""
        ports = cast("Ports", _Outside(self, decision))
        working = WorkingStatus(ports)
        working.plan, working.version, working.stored = plan, str(len(self.writes)), self.stored
        working.pending, working.pending_custom = self.pending, self.pending_own
        working.unwritten, working.untold = self.unwritten, self.untold
        applier = Applier(ports, working, _at_once)
        try:
            _made_at_once(applier.apply(plan, decision))
        finally:
            self.working, self.unwritten = working.plan.status, working.unwritten
            self.pending, self.pending_own = working.pending, working.pending_custom

    def _ask_in_pairs(self) -> float:
        """Ask both legs as often as wanted; return the seconds until the next pair."""
        fails = self.probe is not None and self.probe.failures > 1
        interval = pair_interval(self.plan(), self.pairs, self.now, heroku_fails=fails)
        if interval is None or not (self.capabilities.probes_eks and self.probes_answered):
            asked = eks_probe_interval(self.plan()) is not None
            self.pairs = NO_PAIRS if interval is None else self.pairs
            self.eks_probe = None if interval is None and not asked else self.eks_probe
            return 600.0
        self.pairs = enter(self.pairs, paired_step(self.plan()))
        if self.now - self._paired_at < interval:
            return interval
        self._paired_at = self.now
        probes = {}
        for leg, state in ((LegName.HEROKU, self.heroku), (LegName.EKS, self.eks_to_probes or self.eks)):
            # As often as users: every fifth probe fails where a fifth of the requests does.
            failed = math.floor((self.pairs.asked + 1) * state.errors) > math.floor(self.pairs.asked * state.errors)
            healthy = self.live is not None and not state.hangs and not failed
            late = math.floor((self.pairs.asked + 1) * state.very_slow) > math.floor(
                self.pairs.asked * state.very_slow
            )
            probe = self._probe_of(healthy=healthy, before=self.eks_probe if leg is LegName.EKS else self.probe)
            parts = ((401, state.refused), (302, state.redirected), (429, state.throttled))
            answers = (
                code
                for code, part in parts
                if math.floor((self.pairs.asked + 1) * part) > math.floor(self.pairs.asked * part)
            )
            status = next(answers, probe.status) if healthy else probe.status
            probes[leg] = replace(probe, status=status, detail=f"HTTP {status}", seconds=3.0 if late else 0.05)
        self.eks_probe = probes[LegName.EKS]
        self.pairs = take(
            self.pairs,
            Pair(
                self.now,
                self.now,
                worth(probes[LegName.HEROKU], LegName.HEROKU, 1000.0),
                worth(self.eks_probe, LegName.EKS, 1000.0),
            ),
        )
        return min(interval, pair_interval(self.plan(), self.pairs, self.now, heroku_fails=fails) or interval)

    def _probe_of(self, *, healthy: bool, before: Probe | None) -> Probe:
        revision = self.live.revision if self.live is not None else ""
        failures = 0 if healthy else 1 + (before.failures if before is not None else 0)
        status, detail = (200, "HTTP 200") if healthy else (503, "HTTP 503 (H10)")
        return Probe(self.now, revision, healthy, detail, failures, status, refusals=failures)

    def _ask_eks(self) -> float:
        """Ask EKS by itself, as in preflight."""
        interval = eks_probe_interval(self.plan())
        if interval is None or not (self.capabilities.probes_eks and self.probes_answered):
            return 600.0
        if self.now - self._asked_eks_at < interval:
            return interval
        before, self._asked_eks_at = self.eks_probe, self.now
        healthy = self.live is not None and (self.eks_to_probes or self.eks).well
        self.eks_probe = self._probe_of(healthy=healthy, before=before)
        return 0.2

    def _ask_heroku(self) -> float:
        interval = probe_interval(self.plan())
        if interval is None:
            self.probe = None
            return 600.0
        if self.now - self._probed_at < interval or not self.probes_answered:
            return interval
        before, self._probed_at = self.probe, self.now
        healthy = self.live is not None and self.heroku.well
        revision = self.live.revision if self.live is not None else ""
        self.probe = self._probe_of(healthy=healthy, before=self.probe)
        same = (
            before is not None
            and (before.revision, before.healthy) == (revision, healthy)
            and (healthy or self.probe.failures > REFUSALS)
        )
        return interval if same else 0.2

    # ------------------------------------------------------------------------------------------------------ the world

    def set_route(self, route: Route | None) -> None:
        """Write, edit or delete the VirtualService."""
        self.route = route
        self.route_version += 1
        self._coming = (self.now + LIVE_LAG, route)
        weight = route.weight if route else None
        if self.weights[-1:] != [weight] and (self.weights or weight is not None):
            self.weights.append(weight)

    def edit(self, **fields: Any) -> None:
        """Change fields of the spec, as a commit would."""
        data = self.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        self.spec = MigrationPlanSpec.model_validate({**data, **fields})
        self.generation += 1

    @property
    def block_seconds(self) -> float:
        """Length of the plan's blocks."""
        return float(in_force(self.spec, self.working).seconds)

    def pass_time(self, seconds: float) -> None:
        """Let users send requests."""
        end = self.now + seconds
        block = self.block_seconds
        while self.now < end - 1e-9:
            self._propagate()
            until = min(end, self._begun + block)
            if self._coming is not None and self.istiod_up:
                until = min(until, max(self._coming[0], self.now + 1e-3))
            self._serve(until - self.now)
            self.now = until
            if self.now >= self._begun + block - 1e-9:
                gap = self.clusters or ("a scrape was missed" if self.scrapes_lost else "")
                counts = self._counts
                heroku, eks = counts["heroku"], counts["eks"]
                self.blocks.append(
                    Block(
                        self._begun,
                        self._begun + block,
                        heroku,
                        eks,
                        gap,
                        codes_of(heroku),
                        codes_of(eks) | ({"101": self.eks_sockets} if self.eks_sockets else {}),
                        ambiguous=bool(self.clusters),
                    )
                )
                self._record_own(self._begun + block, gap)
                self._begun += block
                self._counts = {"heroku": Counts(), "eks": Counts()}
        self.now = end
        self._propagate()

    def _record_own(self, end: float, gap: str) -> None:
        """Record what the team's own metrics are at the end of a block. One request of ten is an event of theirs."""
        for name, value in self.values.items():
            if value is not None:
                self.points.setdefault(name, []).append((end, value if self.odd is None else self.odd))
        for name, (heroku, eks) in self.wrong.items():
            last = self.blocks[-1]

            def counted(leg: Counts, part: float) -> Counts:
                if self.odd is not None:
                    return Counts(self.odd, self.odd)
                return Counts(leg.requests / 10, leg.requests / 10 * part)

            events = Block(last.start, last.end, counted(last.heroku, heroku), counted(last.eks, eks), gap=gap)
            self.events_of.setdefault(name, []).append(events)

    def _propagate(self) -> None:
        if self._coming is not None and self.istiod_up and self.now >= self._coming[0]:
            self.live, self._coming = self._coming[1], None

    def _serve(self, seconds: float) -> None:
        self._count("eks", self.others * seconds, HEALTHY)
        if self.live is None or self.live.weight is None:
            return
        requests = self.rate * seconds
        to_eks = self.live.weight * (1 - self.stale)
        if self.eks_percent is not None and 0 < to_eks < 100:
            to_eks = self.eks_percent
        for name, leg, part in (("heroku", self.heroku, 100 - to_eks), ("eks", self.eks, to_eks)):
            count = requests * part / 100
            if leg.hangs:
                self._hung.append((self.now + ROUTE_TIMEOUT, name, count))
            else:
                other = self.live.weight if name == "heroku" else 100 - self.live.weight
                unknown = self.unshared * other / 100 * (1 - leg.errors) if 0 < self.live.weight < 100 else 0.0
                self._count(name, count, replace(leg, refused=leg.refused + unknown) if unknown else leg)
        for late in [late for late in self._hung if late[0] <= self.now]:
            self._hung.remove(late)
            self._count(late[1], late[2], DEAD)

    def _count(self, name: str, requests: float, leg: Leg) -> None:
        if not requests:
            return
        more = Counts(
            requests,
            requests * leg.errors,
            requests,
            requests * max(leg.slow, leg.very_slow),
            requests * leg.very_slow,
            requests * leg.refused,
            requests * leg.redirected,
            requests * leg.throttled,
        )
        self._counts[name] = self._counts[name] + more

    # -------------------------------------------------------------------------------------------------- running it

    def step(self) -> None:
        """Reconcile once, and return the time until the next."""
        wait = self.reconcile()
        self.pass_time(min(max(wait, 0.2), self.block_seconds))

    def run(self, seconds: float) -> World:
        end = self.now + seconds
        while self.now < end:
            self.step()
        return self

    def until(self, reached: Callable[[MigrationPlanStatus], bool], within: float = 900.0) -> World:
        """Run until the status is as asked for; fail if that takes too long."""
        end = self.now + within
        while not reached(self.working):
            assert self.now < end, f"not reached within {within} s: {self.working.phase} {self.working.reason}"
            self.step()
        return self

    def until_phase(self, phase: Phase, within: float = 900.0) -> World:
        return self.until(lambda status: status.phase is phase, within)

    def until_judging(self, weight: int, within: float = 900.0) -> World:
        """Run until the weight was seen at the gateway."""
        return self.until(
            lambda status: bool(
                status.weight == weight
                and status.phase in (Phase.SHIFTING, Phase.SOAKING)
                and status.checkpoint
                and status.checkpoint.observed_at
            ),
            within,
        )

    def until_reason(self, reason: str, within: float = 900.0) -> World:
        return self.until(lambda status: status.reason == reason, within)

    # ------------------------------------------------------------------------------------------------------- looking

    def condition(self, kind: str) -> str:
        return next((c.status for c in self.working.conditions if c.type == kind), "Absent")

    def decided(self, decision: str) -> list[tuple[int, int]]:
        """From and to of all ledger lines of one kind."""
        return [(e.from_weight, e.to_weight) for e in self.working.ledger if e.decision == decision]

    def told(self, reason: str) -> list[Event]:
        return [event for event in self.events if event.reason == reason]

    def counted(self) -> tuple[float, float]:
        """EKS requests in this step's evidence, and those that should be in it."""
        checkpoint = self.working.checkpoint
        if checkpoint is None or checkpoint.observed_at is None or not self.working.weight:
            return 0.0, 0.0
        truth = sum(
            block.eks.requests
            for block in self.blocks
            if block.usable and block.start >= checkpoint.observed_at and block.end <= checkpoint.consumed_until
        )
        return load_evidence(checkpoint).total[1].requests, truth


@dataclass
class _Outside:
    """A world behind the ports through which a decision is executed."""

    world: World
    decision: Decision

    def __post_init__(self) -> None:
        self.plans = self.traffic = self.notifier = self.clock = self
        self.reports = None

    def now(self, plan: Plan | None = None) -> float:
        return self.world.now + (self.world.ahead if plan is not None else 0.0)

    # What is done: each may be the last thing that the process does.

    async def write_status(self, plan: Plan, status: MigrationPlanStatus, version: str) -> str:
        with self._action(WriteStatus):
            if self.world.status_writes_fail:
                raise Unavailable("HTTP 503")
            if version != str(len(self.world.writes)):
                raise Conflict("the status was modified")
            wire = status.to_wire()
            # Templates in force cannot be cut: the operator judges by them.
            assert (size := len(json.dumps(wire)) - len(json.dumps(wire.get("templates", [])))) < 40 * 1024, size
            self.world.stored = MigrationPlanStatus.model_validate(wire)
            self.world.writes.append((self.world.now, self.world.stored))
        return str(len(self.world.writes))

    async def prepare(self, plan: Plan) -> None:
        with self._action(Prepare):
            self._write_route()
            self.world.prepared_at = self.world.now

    async def try_out(self, plan: Plan, write: Try) -> None:
        with self._action(Try):
            self._write_route()
            if write.over != str(self.world.route_version):
                raise Conflict("the route is not what was decided on")
            self.world.set_route(Route(None, write.trial.revision))

    async def give_back(self, plan: Plan, write: GiveBack) -> None:
        with self._action(GiveBack):
            self._write_route()
            if write.over != str(self.world.route_version):
                raise Conflict("the route is not what was decided on")
            self.world.set_route(Route(None, write.trial.revision))

    async def end_trial(self, plan: Plan, end: EndTrial) -> None:
        with self._action(EndTrial):
            self._write_route()
            if self.world.route is not None and self.world.route.weight is None:
                self.world.set_route(None)

    async def set(self, plan: Plan, write: SetWeight) -> None:
        with self._action(SetWeight):
            self._write_route()
            if write.over not in (None, str(self.world.route_version)):
                raise Conflict("the route is not what was decided on")
            self.world.set_route(Route(write.split.weight, write.split.revision))

    async def finalize(self, plan: Plan, rest: Finalize) -> None:
        with self._action(Finalize):
            if self.world.route is not None and self.world.route.weight is None:
                self.world.set_route(None)
            elif self.world.route is not None and rest.route is not None:
                self.world.set_route(Route(rest.route.split.weight, self.world.route.revision))

    async def read(self, namespace: str, name: str) -> tuple[Plan, str]:
        return self.world.plan(), str(len(self.world.writes))

    async def event(self, plan: Plan, kind: Any, reason: str, message: str) -> None:
        self.world.events.append(Event(kind, reason, message))

    def _write_route(self) -> None:
        if self.world.route_writes_fail:
            raise Unavailable("HTTP 500")

    @contextlib.contextmanager
    def _action(self, kind: type[Action]) -> Iterator[None]:
        """Note an action once it succeeded; die before or after it, if that is to be."""
        world = self.world
        number, world._attempted = world._attempted, world._attempted + 1
        if world.crash_at == (number, "before"):
            raise Crashed
        yield
        (action,) = (action for action in self.decision.actions if isinstance(action, kind))
        world.actions.append((world.now, action))
        if world.crash_at == (number, "after"):
            raise Crashed

    # Nobody is to be told of anything.

    def tell(self, plan: Plan, told: Any) -> None: ...

    def told(self, uid: str) -> dict[str, str]:
        return {}


async def _at_once(plan: Plan) -> None: ...


def _made_at_once(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in which nothing waits."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits for something")


def _seconds(decision: Decision) -> float:
    match decision.wake:
        case WakeAfter(seconds):
            return seconds
        case WakeAtBlock():
            return math.inf  # blocks come as they come in this world, see World.step


def kinds(decision: Decision) -> list[type[Action]]:
    """Return what a decision does, in order."""
    return [type(action) for action in decision.actions]


def asked_weight(decision: Decision) -> int | None:
    """Return the weight that a decision writes to the route; ``None`` if it writes none."""
    return next((action.split.weight for action in decision.actions if isinstance(action, SetWeight)), None)


def check(world: World, plan: Plan, seen: Observation, decision: Decision) -> None:
    """Hold one decision against the rules that do not bend."""
    before, after = plan.status, decision.status
    old, new = before.weight or 0, after.weight or 0
    if (decision.actions or decision.events) and len(seen.samples.blocks) < MANY_BLOCKS:
        # What is judged comes to a write within a minute, and a history is judged block by block. Twice at each reconcile, it
        # took half of the time of most tests.
        assert decide(plan, seen, world.now + world.ahead) == decision, "not deterministic"
    assert _seconds(decision) >= 0
    assert after.message, f"nothing is said about {after.reason}"
    assert len(after.ledger) <= 30
    if new > old:
        _check_advance(plan, seen, decision, old, new)
    _check_templates(plan, decision)
    for action in decision.actions:
        if isinstance(action, SetWeight):
            assert action.split.weight == new
            live = world.route.weight if world.route is not None and world.route.weight is not None else 0
            # The route rises only to what was decided with reason, in this reconcile or an earlier one.
            assert action.split.weight <= max(live, old) or new > old
    if after.phase is Phase.ROLLING_BACK and before.phase is not Phase.ROLLING_BACK:
        assert new == 0
        assert kinds(decision) == [SetWeight, WriteStatus], "a rollback is one write of the route, and then the status"
        _check_rollback(plan, seen, decision)
    elif new < old:
        assert kinds(decision) == [SetWeight, WriteStatus], (
            "no status says that a raise is off while it may reach the route"
        )
    elif new > old:
        first = [SetWeight, WriteStatus] if seen.unwritten else [WriteStatus, SetWeight]
        assert kinds(decision) == first, "the intent is fenced before the route is written"
    assert WriteStatus in kinds(decision) or (before.phase, before.weight, before.reason) == (
        after.phase,
        after.weight,
        after.reason,
    )
    counted, truth = world.counted()
    assert counted <= truth * 1.001 + 1e-3, "a block was counted twice"


def _check_advance(plan: Plan, seen: Observation, decision: Decision, old: int, new: int) -> None:
    entry, step, before = decision.status.ledger[-1], next_step(plan.spec, old), plan.status
    if entry.decision == "Forward":
        _check_forward(plan, seen, decision, old, new)
        return
    assert (entry.decision, entry.from_weight, entry.to_weight) == ("Advance", old, new)
    assert before.phase is Phase.SHIFTING
    assert step is not None
    assert new == step.weight, "a step was jumped"
    assert new <= plan.spec.ceiling
    assert not plan.spec.suspend
    assert not seen.samples.error, "blind"
    assert seen.probe is not None
    assert seen.probe.healthy
    assert seen.traffic is not None
    assert seen.traffic.current
    assert before.baseline is not None
    if not old:
        assert entry.reason == "BaselineRecorded"
    else:
        judged = gate.judge(_evidence(plan, seen), rules=gate_rules(plan.spec), weight=old, next_weight=new)
        assert not judged.worse
        if entry.reason in ("Requested", "ProbesOfSafety"):
            # What the plan allows in place of evidence, for this step, and while nothing speaks against EKS.
            if entry.reason == "Requested":
                word = read(PROCEED_ANNOTATION, plan.annotations.get(PROCEED_ANNOTATION, ""))
                assert word is not None
                assert (word.attempt, word.weight) == (before.attempt, new)
                assert plan.spec.gates.insufficient_traffic is InsufficientTraffic.ASK_PEOPLE
            else:
                safety = seen.pairs.safety
                assert safety is not None
                assert safety.step[:3] == (before.attempt, old, new)
                assert safety.evidence >= gate_rules(plan.spec).safety_limit
                assert plan.spec.gates.insufficient_traffic is InsufficientTraffic.ACCEPT_PROBES
            assert judged.harm < gate.HARM_HOLD
            assert judged.verdict is Verdict.INSUFFICIENT_TRAFFIC
            for one in decision.status.gates:
                good = (Verdict.PASS, Verdict.INSUFFICIENT_TRAFFIC)
                assert one.mode is Mode.OBSERVE or one.verdict in good, f"{one.name}: {one.sentence}"
            return
        assert entry.reason == "EvidenceOfSafety"
        assert judged.safe
        current = current_step(plan.spec, old)
        assert current is None or judged.samples >= (current.min_requests or 0)
        enforced = {own.name for own in resolve(plan, seen.templates).gates if own.enforced}
        assert enforced <= {one.name for one in decision.status.gates}, "a gate was not asked"
        for one in decision.status.gates:
            if one.name == gate.ALIVE and one.verdict == Verdict.INSUFFICIENT_TRAFFIC:
                continue  # a small service has too few requests a minute for it; the others have seen more of them
            assert one.mode is Mode.OBSERVE or one.verdict == Verdict.PASS, f"{one.name} does not pass: {one.sentence}"


def _check_forward(plan: Plan, seen: Observation, decision: Decision, old: int, new: int) -> None:
    """All users go to EKS without evidence only while Heroku is down, by a person's word or as the plan says in Git."""
    entry, spec, before = decision.status.ledger[-1], plan.spec, plan.status
    assert (entry.from_weight, entry.to_weight, new) == (old, 100, 100)
    assert old > 0
    assert before.phase is Phase.SHIFTING
    assert spec.ceiling == 100
    assert not spec.suspend
    assert not seen.samples.error, "blind"
    assert before.checkpoint is not None
    judged = gate.judge(_evidence(plan, seen), rules=gate_rules(spec), weight=old, next_weight=_next_weight(plan))
    refused = seen.probe is not None and not seen.probe.healthy
    assert refused or judged.heroku_dead or judged.heroku_silent, "Heroku is well"
    assert judged.harm < gate.HARM_HOLD
    match entry.reason:
        case "Requested":
            word = read(FORWARD_ANNOTATION, plan.annotations.get(FORWARD_ANNOTATION, ""))
            assert word is not None
            assert word.attempt == before.attempt
        case "HerokuDown":
            assert spec.on_heroku_down.action is DownAction.FORWARD
            proven, since = before.checkpoint.proven_at, before.checkpoint.heroku_down_since
            assert proven is not None
            assert since is not None
            assert proven < since
            assert entry.at.timestamp() - since >= spec.on_heroku_down.after.total_seconds() - 1e-3
        case _:
            raise AssertionError(f"nothing leads forward for {entry.reason}")


def _next_weight(plan: Plan) -> int:
    step = next_step(plan.spec, plan.status.weight or 0)
    return step.weight if step is not None else 100


def _check_rollback(plan: Plan, seen: Observation, decision: Decision) -> None:
    """Only harm that a gate which decides has found leads back, or a person, or a timeout that says so."""
    entry, spec = decision.status.ledger[-1], plan.spec
    own = {one.name: one for one in resolve(plan, seen.templates).gates}
    assert entry.decision == "RollBack"
    match entry.reason:
        case "Requested":
            asked = read(ROLLBACK_ANNOTATION, plan.annotations.get(ROLLBACK_ANNOTATION, ""))
            assert spec.ceiling == 0 or (asked is not None and asked.attempt == decision.status.attempt)
        case "Resumed":
            assert seen.traffic is not None
            assert seen.traffic.revision.endswith("-rollback")
        case "StepTimeout":
            step = current_step(spec, plan.status.weight or 0)
            assert step is not None
            assert step.on_timeout is OnTimeout.ROLL_BACK
            for one in decision.status.gates:
                silent = one.verdict in (Verdict.NO_DATA, Verdict.QUERY_ERROR, Verdict.AMBIGUOUS)
                assert one.mode is Mode.OBSERVE or not silent, f"{one.name} says nothing"
        case "EvidenceOfHarm":
            name = entry.subject or ""
            if name == "probes" and spec.traffic.affinity is not None:
                return  # an outage in a row, while EKS answers no user
            slos = [slo for slo in spec.gates.slos if slo.mode is Mode.ENFORCE]
            assert (
                (name in own and own[name].enforced)
                or name == "alive"
                or (name == "probes" and seen.pairs.harm >= gate_rules(spec).harm_limit)
                or (name in ("refused", "redirected") and answers_slo(spec).mode is Mode.ENFORCE)
                or any(slo.errors is not None if name == "errors" else slo.latency is not None for slo in slos)
            ), f"{name} does not decide"
        case "BoundExceeded":
            name = entry.subject or ""
            slo, points = own[name].slo, seen.slo_readings[name].points
            assert own[name].enforced
            assert isinstance(slo, BoundSlo)
            assert plan.status.checkpoint is not None
            first = points[-1][0] - slo.for_.total_seconds()
            lately = [value for at, value in points if at >= first]
            # These worlds have no min and no baseline that is lower than max.
            assert all(slo.max is None or not value <= slo.max for value in lately)
            assert slo.max is None or len(lately) > slo.for_.total_seconds() / 10
        case _:
            raise AssertionError(f"nothing leads back for {entry.reason}")


def _check_templates(plan: Plan, decision: Decision) -> None:
    """What a template said when the step began is in force until the next, and a change is told."""
    before, after = plan.status, decision.status
    edited = plan.generation != before.observed_generation
    if before.phase not in (Phase.SHIFTING, Phase.SOAKING) or after.phase is Phase.PREFLIGHT or edited:
        return
    known = {one.gate: (one.template, one.definition) for one in before.templates}
    changed = [
        one for one in after.templates if known.get(one.gate, (one.template, one.definition))[1] != one.definition
    ]
    if changed:
        assert (after.weight or 0) > (before.weight or 0), "a template's change came in the middle of a step"
        told = [entry for entry in after.ledger[-2:] if (entry.decision, entry.reason) == ("Gates", "TemplateChanged")]
        assert told
        assert all(one.gate in told[0].message for one in changed)


def _evidence(plan: Plan, seen: Observation) -> gate.Evidence:
    status, target = plan.status, next_step(plan.spec, plan.status.weight or 0)
    assert status.checkpoint is not None
    assert target is not None
    return load_evidence(
        ingest(
            status.checkpoint,
            seen.samples.blocks,
            rules=gate_rules(plan.spec),
            weight=status.weight or 0,
            next_weight=target.weight,
            probe=seen.probe,
            revision=desired_revision(status),
            can=seen.capabilities,
            hours=Context(plan, seen, 0.0).hours,
        )
    )
