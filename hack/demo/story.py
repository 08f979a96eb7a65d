"""The outcome of a plan, from its status and from the load's own record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from demo.scenarios import SLOW_SECONDS, Scenario
from demoapps.records import Record

AT_REST = ("Completed", "RolledBack")
#: Decisions in the ledger that move weight.
_MOVES = ("Advance", "Lower", "RollBack")


@dataclass(frozen=True, slots=True)
class View:
    """One look at a plan.

    Parameters
    ----------
    at
        Unix seconds of the look.
    status
        The plan's status, as the API server has it.
    share, harm, safety
        Percent of requests seen on EKS, and the evidence, as the operator's metrics have them: the status gets them once
        a minute only.
    """

    at: float
    status: Mapping[str, Any] = field(default_factory=dict)
    share: float | None = None
    harm: float | None = None
    safety: float | None = None

    @property
    def phase(self) -> str:
        """The plan's phase, empty before the operator has seen the plan."""
        return str(self.status.get("phase", ""))

    @property
    def weight(self) -> int | None:
        """Desired percent of requests to EKS, ``None`` before the takeover."""
        return self.status.get("weight")

    @property
    def weight_since(self) -> float:
        """Unix seconds at which the weight was decided."""
        return float(self.status.get("checkpoint", {}).get("weightSince", self.at))

    @property
    def weight_seen(self) -> bool:
        """Whether the operator has observed the weight at the gateway."""
        return self.status.get("checkpoint", {}).get("observedAt") is not None

    @property
    def held(self) -> bool:
        """Whether the plan is held."""
        return any(c["type"] == "Held" and c["status"] == "True" for c in self.status.get("conditions", ()))

    @property
    def ledger(self) -> Sequence[Mapping[str, Any]]:
        """The decisions so far, oldest first."""
        entries: Sequence[Mapping[str, Any]] = self.status.get("ledger", ())
        return entries


@dataclass(slots=True)
class Story:
    """A plan from its start on.

    Attributes
    ----------
    weights
        Desired weights, each with the unix seconds from which on.
    phases
        Phases, likewise.
    onset
        Unix seconds at which the fault was in force.
    """

    scenario: Scenario
    view: View
    weights: list[tuple[float, int]] = field(default_factory=list)
    phases: list[tuple[float, str]] = field(default_factory=list)
    onset: float | None = None

    @property
    def routed(self) -> bool:
        """Whether the gateway has the host's route, so that users can be sent there."""
        return self.view.weight is not None and self.view.phase not in ("Pending", "Preflight")

    @property
    def at_rest(self) -> bool:
        """Whether the plan has ended."""
        return self.view.phase in AT_REST

    @property
    def path(self) -> tuple[int, ...]:
        """The weights that the plan went through, without the takeover at 0."""
        return tuple(entry["toWeight"] for entry in self.view.ledger if entry["decision"] in _MOVES)

    @property
    def fault_due(self) -> bool:
        """Whether the fault has to begin now."""
        fault = self.scenario.fault
        return (
            fault is not None
            and self.onset is None
            and self.view.phase == "Shifting"
            and self.view.weight == fault.weight
            and self.view.weight_seen
        )

    def ingest(self, view: View) -> list[str]:
        """Note what a new look shows; return what is new in it, in words."""
        decided = [entry for entry in view.ledger if entry not in self.view.ledger]
        if view.weight is not None and (not self.weights or self.weights[-1][1] != view.weight):
            self.weights.append((view.weight_since, view.weight))
        if view.phase and view.phase != self.view.phase:
            self.phases.append((view.at, view.phase))
        before, self.view = self.view, view
        if decided:
            return [f"{entry['decision']}: {entry['message']}" for entry in decided]
        reason, message = view.status.get("reason", ""), view.status.get("message", "")
        if view.phase != before.phase:
            told = any(message == entry["message"] for entry in view.ledger)
            return [view.phase if told else f"{view.phase}: {message}"]
        if view.held and reason != before.status.get("reason"):
            return [f"held, {reason}: {message}"]
        return []

    def shortcomings(self) -> Iterator[str]:
        """Say what is not as it should have been."""
        wanted, view = self.scenario, self.view
        if self.scenario.fault is not None and self.onset is None:
            yield "its fault never began, as the weight was not observed at the gateway"
        if view.phase != wanted.expected_phase:
            reason, message = view.status.get("reason", ""), view.status.get("message", "")
            yield f"it is {view.phase or 'unseen'} and not {wanted.expected_phase} ({reason}: {message})"
        elif self.path != wanted.expected_path:
            yield f"it went {arrows(self.path)} and not {arrows(wanted.expected_path)}"


@dataclass(frozen=True, slots=True)
class Users:
    """What users had in some span of time.

    Parameters
    ----------
    requests
        How many they made.
    failed, slow
        How many of them failed, and how many were answered well but too late.
    """

    requests: int = 0
    failed: int = 0
    slow: int = 0

    @classmethod
    def of(cls, records: Iterable[Record]) -> Users:
        """Count."""
        judged = [record for record in records if record.judged]
        return cls(len(judged), sum(r.failed for r in judged), sum(is_slow(r) for r in judged))

    @property
    def harmed(self) -> int:
        """How many had something to complain about."""
        return self.failed + self.slow

    @property
    def harmed_ratio(self) -> float:
        """The fraction of them; 0 of nothing."""
        return self.harmed / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class Rollback:
    """A rollback as users saw it.

    Parameters
    ----------
    weight
        Percent of requests that EKS had.
    onset
        Unix seconds at which the fault was in force.
    decided
        Unix seconds at which the operator decided.
    zero
        Unix seconds at which the gateway took the last request under the old weight.
    meanwhile
        What users had from onset to zero.
    since_onset
        Requests of users from the onset to the end of the record.
    end
        Unix seconds of that end.
    """

    weight: int
    onset: float
    decided: float
    zero: float
    meanwhile: Users
    since_onset: int
    end: float

    @property
    def seconds(self) -> float:
        """Time from the onset to weight 0 at the gateway."""
        return self.zero - self.onset

    @property
    def rate(self) -> float:
        """Requests of users per second since the onset."""
        return self.since_onset / (self.end - self.onset)

    @property
    def by_now(self) -> float:
        """Requests that would have been harmed by the end of the record, had the weight stayed."""
        return self.meanwhile.harmed_ratio * self.since_onset

    @property
    def in_an_hour(self) -> float:
        """Requests that would have been harmed in an hour at this weight."""
        return self.meanwhile.harmed_ratio * self.rate * 3600


def arrival(record: Record) -> float:
    """Return when the load sent a request, which on loopback is when the gateway had it, in unix seconds."""
    return record.at + record.latency - record.sent_latency


def is_slow(record: Record) -> bool:
    """Tell whether a request was answered well, but too late."""
    return record.judged and not record.failed and record.latency > SLOW_SECONDS


def rollback(story: Story, records: Sequence[Record], end: float) -> Rollback | None:
    """Measure a plan's rollback on the load's own record, ``None`` where there was none.

    Parameters
    ----------
    story
        The plan.
    records
        All requests to its host.
    end
        Unix seconds up to which the record is complete.
    """
    back = next((entry for entry in reversed(story.view.ledger) if entry["decision"] == "RollBack"), None)
    if back is None or story.onset is None:
        return None
    weight, onset = int(back["fromWeight"]), story.onset
    revision = f"a{back['attempt']}-w{weight}"
    sent = [record for record in records if onset <= arrival(record) < end]
    # Heroku's answers count too: the revision is the gateway's, and says under which weight it chose the leg.
    old = [arrival(record) for record in sent if record.leg == "eks" or record.revision == revision]
    if not old:
        return None
    zero = max(old)
    return Rollback(
        weight=weight,
        onset=onset,
        decided=next((at for at, weight in story.weights if weight == 0 and at >= onset), zero),
        zero=zero,
        meanwhile=Users.of(record for record in sent if arrival(record) <= zero),
        since_onset=Users.of(sent).requests,
        end=end,
    )


def eks_share(records: Iterable[Record]) -> float | None:
    """Return the percent of requests that EKS answered, ``None`` where no leg answered any."""
    legs = [record.leg for record in records if record.leg in ("eks", "heroku")]
    return 100.0 * legs.count("eks") / len(legs) if legs else None


def arrows(path: Sequence[int]) -> str:
    """Write a path of weights."""
    return " → ".join(str(weight) for weight in path) or "nowhere"


def span(seconds: float) -> str:
    """Write a span of time as minutes and seconds."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}"
