"""The traffic provider, which splits a host's requests between the legs."""

from __future__ import annotations

from typing import Protocol

from cutover.domain.engine.actions import EndTrial, Finalize, GiveBack, SetWeight, Try
from cutover.domain.plan import Plan
from cutover.domain.revision import Split, Trial
from cutover.domain.traffic import Capabilities, TrafficState


class TrafficProvider(Protocol):
    """The provider that splits the host's requests between the legs."""

    @property
    def capabilities(self) -> Capabilities:
        """What the provider can do."""

    async def get(self, plan: Plan, wanted: Split | Trial | None, *, fresh: bool = False) -> TrafficState:
        """Compare the routing objects with the split, or the trial, that is wanted.

        Before the takeover no split is wanted; the weight in the answer is then the percent that does not go to Heroku.
        The answer comes from the watch cache unless ``fresh``. Raises Unavailable.
        """

    async def prepare(self, plan: Plan) -> None:
        """Write what the route refers to, before the takeover; write only what differs. Raises Conflict, Unavailable."""

    async def try_out(self, plan: Plan, write: Try) -> None:
        """Give the probes of both legs a route, without a change for any user; write only what differs.

        Called only where :attr:`cutover.domain.traffic.Capabilities.tries` is true. A route of another version than
        ``write.over`` is a conflict. Raises Conflict, Unavailable.
        """

    async def end_trial(self, plan: Plan, end: EndTrial) -> None:
        """Take the probes' route away; nothing is done where there is none, or where users have a route too.

        Raises Conflict, Unavailable.
        """

    async def give_back(self, plan: Plan, write: GiveBack) -> None:
        """Give users the routes back that they had before the takeover, by one write; the probes keep theirs.

        Called only where :attr:`cutover.domain.traffic.TrafficState.gives_back` was true before the takeover. A route of
        another version than ``write.over`` is a conflict. Raises Conflict, Unavailable.
        """

    async def set(self, plan: Plan, write: SetWeight) -> None:
        """Write the decided split into the routing objects; write only what differs. Raises Conflict, Unavailable.

        A route of another version than ``write.over`` is a conflict. Where ``write.supersedes`` names a raise, the route
        gets a new version even if it has the split already, so that the raise fails when it arrives. The caller
        enforces when the write expires and what is confirmed before it.
        """

    async def finalize(self, plan: Plan, rest: Finalize) -> None:
        """Leave traffic where the decision says, as the plan is deleted; end a trial. Raises Conflict, Unavailable."""
