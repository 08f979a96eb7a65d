"""A traffic provider that is played in memory, and what counts its requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cutover.domain.engine.actions import Finalize, SetWeight
from cutover.domain.evidence.counters import CounterLabels
from cutover.domain.evidence.lengths import in_force
from cutover.domain.plan import Plan
from cutover.domain.revision import Split, Trial
from cutover.domain.traffic import Capabilities, TrafficState
from cutover.ports.block_feed import BlockSubscription
from cutover.ports.errors import Conflict, Unavailable

#: Weights of DNS records: resolvers keep answers for as long as they like, and nobody counts who asked.
DNS = Capabilities(provider="DNS weights", rollback_seconds=60.0)
#: A load balancer that gives each client a leg for a while: requests do not follow the weight, but answers are stamped.
STICKY = Capabilities(
    provider="a sticky load balancer",
    stamps_revision=True,
    common_vantage=True,
    probes_leg=True,
    rollback_seconds=20.0,
)


@dataclass
class Record:
    """The route of one host: a weight, and what it was written with."""

    owner: str
    weight: int
    revision: str
    version: int
    writer: str = "cutover"


@dataclass
class Zone:
    """Where the records are; it outlives every process."""

    records: dict[str, Record] = field(default_factory=dict)
    prepared: set[str] = field(default_factory=set)
    writes: int = 0
    outage: bool = False

    def write(self, host: str, record: Record) -> None:
        self.writes += 1
        record.version = self.writes
        self.records[host] = record


@dataclass
class PlayedProvider:
    """:class:`cutover.ports.traffic.TrafficProvider` with a record for a plan's first host.

    Parameters
    ----------
    zone
        Where the records are.
    capabilities
        What it can do. Without a stamp its records have no revision.
    """

    zone: Zone = field(default_factory=Zone)
    capabilities: Capabilities = DNS

    async def get(self, plan: Plan, wanted: Split | Trial | None, *, fresh: bool = False) -> TrafficState:
        assert not isinstance(wanted, Trial), "it has no trials"
        record = self._record(plan)
        if record is None:
            return TrafficState(None, "", current=wanted is None)
        return TrafficState(
            record.weight,
            record.revision,
            current=wanted is None or record == self._wanted(plan, wanted, record),
            foreign=() if record.writer == "cutover" else (record.writer,),
            version=str(record.version),
            in_the_way=f"the record sends {record.weight} % elsewhere" if wanted is None and record.weight else "",
        )

    async def prepare(self, plan: Plan) -> None:
        self._record(plan)
        if plan.key not in self.zone.prepared:
            self.zone.writes += 1
            self.zone.prepared.add(plan.key)

    async def set(self, plan: Plan, write: SetWeight) -> None:
        await self.prepare(plan)
        record = self._record(plan)
        if write.over is not None and write.over != ("" if record is None else str(record.version)):
            raise Conflict(f"the record of {plan.spec.traffic.hosts[0]} is not what was decided on")
        if record is not None and record.owner != plan.uid:
            raise Unavailable(f"the record of {plan.spec.traffic.hosts[0]} is another plan's")
        wanted = self._wanted(plan, write.split, record)
        if record != wanted or write.supersedes:
            self.zone.write(plan.spec.traffic.hosts[0], wanted)

    async def finalize(self, plan: Plan, rest: Finalize) -> None:
        record = self._record(plan)
        if rest.route is not None and record is not None and record.owner == plan.uid:
            await self.set(plan, rest.route)

    def _record(self, plan: Plan) -> Record | None:
        if self.zone.outage:
            raise Unavailable("the zone does not answer")
        return self.zone.records.get(plan.spec.traffic.hosts[0])

    def _wanted(self, plan: Plan, split: Split, record: Record | None) -> Record:
        revision = split.revision if self.capabilities.stamps_revision else ""
        return Record(plan.uid, split.weight, revision, record.version if record is not None else 0)


@dataclass(frozen=True)
class PlayedDialect:
    """Names both legs alike for all plans; for tests in which nobody asks a Prometheus."""

    labels: type[CounterLabels] = CounterLabels

    def subscription(self, plan: Plan) -> BlockSubscription:
        block, source = in_force(plan.spec, plan.status).seconds, plan.spec.gates.prometheus or ""
        return BlockSubscription("heroku", "eks", ("istio-ingress",), None, None, block, 0.0, source)

    def dashboard_queries(self, subscription: BlockSubscription) -> Mapping[str, str]:
        return {"errors": f'rate(requests{{leg=~"{subscription.heroku}|{subscription.eks}"}}[5m])'}

    def presence(self, observers: Iterable[str]) -> str:
        raise AssertionError("nobody asks")

    def last_scrapes(self, observers: Iterable[str]) -> str:
        raise AssertionError("nobody asks")

    def foreign_counters(self, observers: Iterable[str]) -> str:
        raise AssertionError("nobody asks")

    def counters(self, subscriptions: Sequence[BlockSubscription], legs: Iterable[str]) -> Sequence[str]:
        raise AssertionError("nobody asks")

    def losses(self, subscription: BlockSubscription) -> str | None:
        return None

    def heroku_latencies(self, subscription: BlockSubscription) -> str:
        raise AssertionError("nobody asks")
