"""What is left to switch off on Heroku."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from cutover.api.model import Model


class DecommissionState(StrEnum):
    """State of something on Heroku that is to be switched off."""

    OPEN = "Open"
    DONE = "Done"
    UNKNOWN = "Unknown"


class DecommissionItem(Model):
    """Something on Heroku that is to be switched off once the plan is Completed."""

    item: str = Field(
        description="What it is: dns, requests, jobs, dynos, plan, domains, databases, add-ons, drains, app."
    )
    state: DecommissionState = Field(description="Unknown where neither Heroku's API nor DNS nor the drain tells.")
    message: str = Field(default="", description="What is there, what to do, and what it costs not to.")
