"""Watches what both legs run: Heroku's app and releases by its API, and the rollout of EKS' workload."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from cutover.domain.engine.wanted import advice_interval, releases_wanted
from cutover.domain.heroku import HerokuApp, HerokuNews, HerokuReading, Release
from cutover.domain.plan import Plan
from cutover.domain.preflight.workload import DEPLOYMENT
from cutover.domain.resources import DEPLOYMENTS
from cutover.domain.rollout import Rollout, rollout_of
from cutover.ports.all import Ports
from cutover.ports.errors import Unavailable
from cutover.scale.turns import spread_part
from cutover.services.background import BackgroundFact

#: Seconds between two questions to Heroku's API for the app during a cutover, nine requests each, and while Heroku does not
#: answer its probes, as maintenance mode would explain. An account has 75 requests a minute for all; where it has few left, all
#: of its plans ask more seldom (:func:`cutover.domain.heroku.pace`).
SELDOM_HEROKU_SECONDS, URGENT_HEROKU_SECONDS = 900.0, 60.0
#: Seconds between two questions for releases, one request each, and consecutive ones without an answer that are told.
RELEASES_SECONDS, TOLD_FAILURES = 60.0, 2
#: Seconds between two reads of EKS' Deployment during a cutover, and while it rolls out. With a thousand plans the former are
#: as many requests as their checkpoints.
ROLLOUT_SECONDS, ROLLING_SECONDS = 60.0, 10.0


class LegWatch:
    """Keeps what one plan's legs run up to date.

    Parameters
    ----------
    ports
        The outside world.
    now
        Returns Unix seconds.
    news
        Starts the next reconcile now; called when an answer changed.
    """

    def __init__(self, ports: Ports, *, now: Callable[[], float], news: Callable[[], None]) -> None:
        self._ports = ports
        self._named: tuple[str, str, bool] | None = None
        self._app: BackgroundFact[HerokuApp] = BackgroundFact(
            "Heroku's API: app", now=now, news=news, is_news=_differs
        )
        self._releases: BackgroundFact[tuple[Release, ...]] = BackgroundFact(
            "Heroku's API: releases", now=now, news=news, is_news=_changed
        )
        self._rollout: BackgroundFact[Rollout | None] = BackgroundFact(
            "rollout of EKS", now=now, news=news, is_news=_changed, slots=ports.unhurried
        )
        #: All of them, by which tests wait.
        self.facts: tuple[BackgroundFact[Any], ...] = (self._app, self._releases, self._rollout)

    def note_names(self, plan: Plan) -> None:
        """Note the app and the workload that the plan names, and whether values are compared. Other answers are dropped."""
        named = (
            plan.spec.heroku.app,
            plan.spec.eks.workload_ref.name,
            plan.spec.preflight.config.compare_values,  # with fingerprints of values, or without
        )
        if self._named not in (None, named):
            for fact in self.facts:
                fact.drop_until_wanted()
        self._named = named

    def renew(self, plan: Plan, since: float) -> None:
        """Have Heroku's API asked about the app once more, for somebody who asked at ``since``, in Unix seconds."""
        self._app.renew(self._new_enough(plan, since))

    def renewed(self, plan: Plan, since: float) -> bool:
        """Tell whether what Heroku's API says about the app is new enough for who asked at ``since``, in Unix seconds."""
        return self._app.renewed(self._new_enough(plan, since))

    def stop(self) -> None:
        """Stop all requests."""
        for fact in self.facts:
            fact.stop()

    def app(self, plan: Plan) -> HerokuReading | None:
        """Return what Heroku's API says about the app, where there is a key for the plan. An outage holds nothing."""
        api = self._ports.heroku
        interval = advice_interval(plan.status)
        if api is None or not api.has_key(plan) or (interval is None and not releases_wanted(plan.status)):
            self._app.drop_until_wanted()
            return None
        if interval is None:
            return None  # kept by news()
        fact = self._app.keep(lambda: api.app(plan), interval * api.pace(plan))
        return HerokuReading(fact.value, fact.problem, fact.at if fact.value is not None else 0.0)

    def news(self, plan: Plan, *, heroku_fails: bool) -> HerokuNews | None:
        """Return what Heroku's API says during a cutover, where there is a key for the plan. An outage holds nothing.

        Parameters
        ----------
        plan
            The plan with its working status.
        heroku_fails
            Whether the newest probe of the Heroku leg failed, which its API may explain.
        """
        api = self._ports.heroku
        if api is None or not releases_wanted(plan.status) or not api.has_key(plan):
            self._releases.drop()
            return None
        pace = api.pace(plan) * (1 + spread_part(plan.uid) / 4)
        releases = self._releases.keep(lambda: api.releases(plan), RELEASES_SECONDS * pace)
        app = self._app.keep(
            lambda: api.app(plan), (URGENT_HEROKU_SECONDS if heroku_fails else SELDOM_HEROKU_SECONDS) * pace
        )
        failing = next((fact.problem for fact in (releases, app) if fact.failures >= TOLD_FAILURES), None)
        answered = releases.value is not None and not releases.failures and not app.failures
        return HerokuNews(releases.value, app.value, failing if failing is not None else "" if answered else None)

    def rollout(self, plan: Plan) -> Rollout | None:
        """Return what EKS' workload runs, during a cutover."""
        if not releases_wanted(plan.status):
            self._rollout.drop()
            return None
        known = self._rollout.fact.value
        rolling = known is not None and not known.complete
        seconds = ROLLING_SECONDS if rolling else ROLLOUT_SECONDS * (1 + spread_part(plan.uid) / 4)
        return self._rollout.keep(lambda: self._read_rollout(plan), seconds).value

    def _new_enough(self, plan: Plan, since: float) -> float:
        """Return since when an answer is new enough for a request: an account has few requests a minute."""
        api = self._ports.heroku
        if api is None or advice_interval(plan.status) is None:
            return -math.inf
        return since - URGENT_HEROKU_SECONDS * api.pace(plan)

    async def _read_rollout(self, plan: Plan) -> Rollout | None:
        """Read EKS' workload; ``None`` without one, which the probes of EKS show sooner."""
        inventory = await self._ports.inventories.inventory(plan, (DEPLOYMENT,))
        if unread := inventory.unread.get(DEPLOYMENTS):
            raise Unavailable(unread)
        found = inventory.get(DEPLOYMENTS, plan.namespace, plan.spec.eks.workload_ref.name)
        return rollout_of(found) if found is not None else None


def _differs(before: object, after: object) -> bool:
    return before != after


def _changed(before: object, after: object) -> bool:
    # The first answer after a start waits for the reconcile at the end of the block.
    return before is not None and before != after
