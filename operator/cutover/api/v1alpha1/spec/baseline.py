"""Heroku's record, taken before anything moves."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from cutover.api.model import Duration, Model
from cutover.api.rules import Rule, cel_seconds, within


class BaselineSource(StrEnum):
    """Who counted Heroku's requests before the takeover."""

    DRAIN = "Drain"
    GATEWAY = "Gateway"


class Baseline(Model):
    """Heroku's record, taken before anything moves."""

    RULES = (
        Rule(
            "window: with a source it must be at least an hour, as the record is kept by the hour; write a longer one, such as 14d",
            f"!has(self.source) || {cel_seconds('self.window')} >= 3600",
            lambda self: self.source is None or self.window >= timedelta(hours=1),
            at=".window",
        ),
    )

    source: BaselineSource | None = Field(
        default=None,
        description="Source of the counts of Heroku's requests before the takeover. Drain: cutover-drain, from Heroku's logs."
        " Gateway: the gateways of traffic.istio. The takeover waits for the whole record, and Heroku is compared with it after."
        " Without a source nothing older than the takeover is compared.",
    )
    window: Annotated[Duration, within("1s", "90d", "14d")] = Field(
        default=timedelta(days=14), description="How far the record must reach back."
    )
    min_coverage: float = Field(
        default=0.95,
        gt=0.0,
        le=1.0,
        description="Least part of the window's minutes that must be recorded without loss; of effect with a source.",
    )
    backtest: bool = Field(
        default=False,
        description="Replay the gates on Heroku's traffic before the first step, and show the result.",
    )
