"""The traffic provider, which splits a host's requests between the legs."""

from __future__ import annotations

from typing import Protocol

from cutover.domain.engine.actions import Finalize, SetWeight
from cutover.domain.plan import Plan
from cutover.domain.revision import Split
from cutover.domain.traffic import Capabilities, TrafficState


class TrafficProvider(Protocol):
    """The provider that splits the host's requests between the legs."""

    @property
    def capabilities(self) -> Capabilities:
        """What the provider can do."""

    async def get(self, plan: Plan, wanted: Split | None, *, fresh: bool = False) -> TrafficState:
        """Compare the routing objects with the split that is wanted.

        Before the takeover no split is wanted; the weight in the answer is then the percent that does not go to Heroku.
        The answer comes from the watch cache unless ``fresh``. Raises Unavailable.
        """

    async def prepare(self, plan: Plan) -> None:
        """Write what the route refers to, before the takeover; write only what differs. Raises Conflict, Unavailable."""

    async def set(self, plan: Plan, write: SetWeight) -> None:
        """Write the decided split into the routing objects; write only what differs. Raises Conflict, Unavailable.

        A route of another version than ``write.over`` is a conflict. Where ``write.supersedes`` names a raise, the route
        gets a new version even if it has the split already, so that the raise fails when it arrives. The caller
        enforces when the write expires and what is confirmed before it.
        """

    async def finalize(self, plan: Plan, rest: Finalize) -> None:
        """Leave traffic where the decision says, as the plan is deleted. Raises Conflict, Unavailable."""
