"""What is known of Heroku from before the first step: bounds, its record, the backtest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self, Unpack

from pydantic import Field

from cutover.api.model import Model, Time
from cutover.api.opaque import Opaque

if TYPE_CHECKING:
    from cutover.api.v1alpha1.changes import BaselineChanges, ComparisonChanges


class BoundBaseline(Model):
    """The value of a bound's query before the migration."""

    gate: str = Field(description="Name of the SLO.")
    value: float = Field(description="95th percentile of the last day.")
    query_digest: str = Field(default="", description="Digest of the query.")


class BacktestStep(Model):
    """Prediction of a backtest for one step."""

    weight: int = Field(description="Percent of requests to EKS.")
    requests: int = Field(description="EKS requests for a proof of safety, the median.")
    seconds: int = Field(description="Seconds at the weight, the median.")
    slowest_seconds: int = Field(description="Seconds at the weight that 9 of 10 runs stay below.")


class BacktestStatus(Model):
    """Result of a backtest: what the gates do with Heroku compared with itself."""

    runs: int = Field(description="Cutovers that were replayed.")
    false_rollbacks: int = Field(description="Cutovers that were rolled back although nothing was wrong.")
    stuck: int = Field(description="Cutovers that were stuck at a step, or reached the end of the record.")
    seconds: int | None = Field(
        default=None, description="Seconds for the whole cutover without the soak, the median."
    )
    steps: tuple[BacktestStep, ...] = Field(default=(), description="Predictions for each step.")
    message: str = Field(default="", description="The result in a sentence, or why there is none.")


class RecordStatus(Model):
    """What Heroku did before the takeover; hour by hour in the ConfigMap."""

    source: str = Field(description="Source of the counts: Drain or Gateway.")
    since: Time = Field(description="Start of the record.")
    until: Time = Field(description="End of the record.")
    coverage: float = Field(description="Part of the window's minutes that were recorded without loss.")
    requests: int = Field(description="Requests.")
    errors: float = Field(description="Fraction of the requests that failed.")
    refused: float = Field(description="Fraction that was refused.")
    redirected: float = Field(description="Fraction that was redirected.")
    throttled: float = Field(description="Fraction that was throttled.")
    median_ms: float | None = Field(default=None, description="Median latency, in milliseconds.")
    p95_ms: float | None = Field(default=None, description="95th percentile of the latency, in milliseconds.")
    p99_ms: float | None = Field(default=None, description="99th percentile of the latency, in milliseconds.")
    peak_per_second: float = Field(description="Requests per second in the busiest hour.")
    peak_hour: str = Field(default="", description="The busiest hour of the week, such as Tue 14:00, in UTC.")
    dispersion: float = Field(
        default=1.0,
        description="How many times more than by chance the errors vary from day to day; 1 where they come one by one.",
    )
    releases: int | None = Field(
        default=None, description="Releases within the record; absent where neither the drain nor Heroku's API tells."
    )
    last_release: Time | None = Field(default=None, description="When the last of them was made.")
    config_map: str = Field(default="", description="ConfigMap with the whole record.")


class ComparisonStatus(Model):
    """Heroku since the takeover, compared with the same hours before."""

    since: Time = Field(description="Requests since then are compared.")
    verdict: Literal["Comparing", "Alike", "Differs", "TooFew", "Skipped"] = Field(description="The result.")
    message: str = Field(default="", description="The result in a sentence.")
    earlier: tuple[float, ...] = Field(
        default=(), description="Counts of an earlier comparison, which are left out, for the operator itself."
    )

    def evolve(self, **changes: Unpack[ComparisonChanges]) -> Self:
        """Return a copy with some fields changed: mypy checks their names and types, and nothing does at run time."""
        return self.model_copy(update=changes)


class BaselineStatus(Model):
    """The record of Heroku before the first step."""

    since: Time
    requests: int = 0
    slow_ms: float | None = None
    very_slow_ms: float | None = None
    bounds: tuple[BoundBaseline, ...] = Field(
        default=(), description="Values of the bounds' queries before the migration."
    )
    backtest: BacktestStatus | None = Field(default=None, description="Result of the backtest.")
    record: RecordStatus | None = Field(
        default=None, description="What Heroku did before the takeover; absent without baseline.source."
    )
    takeover: ComparisonStatus | None = Field(
        default=None, description="Heroku since the takeover, compared with the same hours before."
    )
    hours: Opaque | None = Field(
        default=None,
        description="What was normal for Heroku in each hour of the week, as JSON for the operator itself; absent without a"
        " record, or where Heroku has differed from it since the takeover.",
    )

    def evolve(self, **changes: Unpack[BaselineChanges]) -> Self:
        """Return a copy with some fields changed: mypy checks their names and types, and nothing does at run time."""
        return self.model_copy(update=changes)
