"""Heroku's Platform API."""

from __future__ import annotations

from typing import Protocol

from cutover.domain.heroku import HerokuApp, Release
from cutover.domain.plan import Plan


class HerokuApi(Protocol):
    """Reads what Heroku says about a plan's app. It only reads."""

    def has_key(self, plan: Plan) -> bool:
        """Tell whether there is a key for the plan: it names one, or the operator has one for its namespace."""

    async def app(self, plan: Plan) -> HerokuApp:
        """Return the plan's app.

        Raises
        ------
        Unavailable
            Where Heroku gives no answer, or the key cannot be read or used. The text is for people and quotes no key.
        """

    async def releases(self, plan: Plan) -> tuple[Release, ...]:
        """Return the newest releases of the plan's app, the newest first. Raises Unavailable, as :meth:`app`."""

    def pace(self, plan: Plan) -> float:
        """Return how many times as seldom as usual to ask, so that plans of one account together leave it requests."""
