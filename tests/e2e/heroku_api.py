"""Heroku's Platform API for the scenarios, played. Who names a key asks it; without one nobody does."""

from __future__ import annotations

import functools

from tests.kit.heroku_api import PlayedHerokuApi

#: Name of the service whose app it knows.
SERVICE = "released"


@functools.cache
def heroku_api() -> PlayedHerokuApi:
    """Return the API of this run, which begins to answer with the first call."""
    return PlayedHerokuApi(f"acme-{SERVICE}")
