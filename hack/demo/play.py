"""Runs the demo: applies the plans, turns the knobs at their times, and watches until all plans have ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from demo.scenarios import RATE, SCENARIOS
from demo.screen import Screen
from demo.story import Rollback, Story, Users, View, eks_share, rollback
from demoapps.load import Load
from demoapps.records import Record
from devstack.api import fetch
from sandbox import manifests
from sandbox.environment import Environment

_LOOK_SECONDS = 0.5
#: Seconds in which the operator has to route all hosts.
_TAKEOVER_SECONDS = 90.0
#: Seconds of users' requests after the last plan has ended: they show where traffic came to rest.
_REST_SECONDS = 10.0
#: Most seconds that a request may still be open after that; the route's own time-out is 30.
_OPEN_SECONDS = 40.0
#: Seconds of the API server's silence until the demo says so.
_PATIENCE_SECONDS = 15.0
_METRICS = {
    "cutover_observed_share_percent": "share",
    "cutover_evidence_of_harm": "harm",
    "cutover_evidence_of_safety": "safety",
}


@dataclass(frozen=True, slots=True)
class Played:
    """A demo that has ended.

    Parameters
    ----------
    stories
        The plans.
    start, end
        From when to when it was, in unix seconds; the record is complete up to the end.
    records, rollbacks
        By service: the load's record, and the rollback as measured on it.
    problems
        What did not end as it should have, by service; a service without any is not in it.
    """

    stories: Sequence[Story]
    start: float
    end: float
    records: Mapping[str, Sequence[Record]]
    rollbacks: Mapping[str, Rollback | None]
    problems: Mapping[str, Sequence[str]]


class Play:
    """One demo on a started environment.

    Parameters
    ----------
    environment
        The stack, the legs and the operator.
    screen
        Where to tell of it.
    """

    def __init__(self, environment: Environment, screen: Screen) -> None:
        self._environment = environment
        self._screen = screen
        self._metrics_url = f"http://127.0.0.1:{environment.metrics_port}/metrics"
        self._seen_at = time.time()
        self._load: Load | None = None

    def run(self) -> Played:
        """Run it to its end, good or bad."""
        start = time.time()
        for scenario in SCENARIOS:
            self._environment.apply(manifests.plan(scenario.service))
        self._screen.say("the plans are applied")
        stories = [Story(scenario, View(start)) for scenario in SCENARIOS]
        try:
            with self._screen:
                self._until(stories, lambda story: story.routed, start + _TAKEOVER_SECONDS)
                load = self._load = self._environment.start_load({scenario.service: RATE for scenario in SCENARIOS})
                self._screen.say(f"DNS points at the gateway: users send {RATE:g} requests a second to each service")
                self._until(stories, lambda story: story.at_rest)
        except BaseException:
            self._screen.tell(stories, self._lately)
            raise
        self._screen.say("all plans have ended; users go on for a moment, to see where they are now")
        time.sleep(_REST_SECONDS)
        end = time.time()
        load.settle(end, timeout_s=_OPEN_SECONDS)
        load.stop()
        records = {story.scenario.service: load.records(_host(story), start, end) for story in stories}
        rollbacks = {
            story.scenario.service: rollback(story, records[story.scenario.service], end) for story in stories
        }
        return Played(stories, start, end, records, rollbacks, _problems(stories, records, rollbacks, end))

    def _until(self, stories: Sequence[Story], good: Callable[[Story], bool], deadline: float = math.inf) -> None:
        """Look and show until all plans are where they have to be."""
        while not all(good(story) for story in stories):
            if time.time() > deadline:
                raise RuntimeError("not all plans were taken over in time; their status says why")
            self._look(stories)
            self._screen.show(stories, self._lately)
            time.sleep(_LOOK_SECONDS)

    def _lately(self, story: Story) -> Users:
        """Count requests that ended in the last ten seconds: a slow one is not on record before it has ended."""
        if self._load is None:
            return Users()
        now = time.time()
        recent = self._load.records(_host(story), now - 60, now)
        return Users.of(record for record in recent if record.at + record.latency >= now - 10)

    def _look(self, stories: Sequence[Story]) -> None:
        """See what is new, and let the faults begin whose time has come."""
        if self._environment.operator_pid() is None:
            raise RuntimeError(f"the operator has ended; its last words:\n{self._environment.operator_log()[-1500:]}")
        try:
            metrics = self._metrics()
            views = [self._view(story.scenario.service, metrics) for story in stories]
        except OSError as error:
            if time.time() - self._seen_at > _PATIENCE_SECONDS:
                raise RuntimeError(f"the API server or the operator does not answer: {error}") from error
            return
        self._seen_at = time.time()
        for story, view in zip(stories, views, strict=True):
            service, fault = story.scenario.service, story.scenario.fault
            for news in story.ingest(view):
                self._screen.say(news, about=service)
            if fault is not None and story.fault_due:
                story.onset = self._environment.knobs("eks", service).set(**fault.knobs)
                self._screen.say(f"the fault begins: {fault.words}", about=service, style="bold dark_orange3")

    def _view(self, service: str, metrics: Mapping[tuple[str, str], float]) -> View:
        numbers = {field: metrics.get((name, service)) for name, field in _METRICS.items()}
        return View(time.time(), self._environment.status(service), **numbers)

    def _metrics(self) -> Mapping[tuple[str, str], float]:
        text = fetch(self._metrics_url).decode()
        return {
            (sample.name, sample.labels["plan"]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name in _METRICS
        }


def _host(story: Story) -> str:
    return manifests.public_host(story.scenario.service)


def _problems(
    stories: Sequence[Story],
    records: Mapping[str, Sequence[Record]],
    rollbacks: Mapping[str, Rollback | None],
    end: float,
) -> dict[str, list[str]]:
    """Say what did not end as it should have: by the plans, and by the users' own record."""
    problems: dict[str, list[str]] = {}
    for story in stories:
        service, phase = story.scenario.service, story.scenario.expected_phase
        found = [*story.shortcomings()]
        last = [record for record in records[service] if record.at >= end - _REST_SECONDS / 2]
        share, wanted = eks_share(last), 0.0 if phase == "RolledBack" else 100.0
        if share != wanted:
            found.append(f"in the end users saw {share} % of their requests on EKS and not {wanted:g} %")
        if phase == "RolledBack" and story.view.phase == phase and rollbacks[service] is None:
            found.append("users saw nothing of the weight before the rollback after the fault began")
        if found:
            problems[service] = found
    return problems
