"""What was seen of the users' requests and of the operator's own, and how long the next step still needs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PlainSerializer
from pydantic.dataclasses import dataclass

from cutover.api.model import COMPACT, Time


def _round_share(value: float) -> float:
    return round(value, 1)  # more digits are noise, and make the column ragged


@dataclass(config=COMPACT, frozen=True, slots=True)
class Share:
    """Percent of requests seen on the EKS leg at the gateway."""

    observed: Annotated[float, PlainSerializer(_round_share, return_type=float, when_used="json")] = Field(
        description="Percent, 0 to 100, to a tenth."
    )
    at: Time = Field(description="When it was observed.")


@dataclass(config=COMPACT, frozen=True, slots=True)
class ProbesStatus:
    """The operator's own requests to both legs at the same time, apart from the users' requests."""

    pairs: int = Field(description="Pairs that were asked since the operator began to.")
    against_eks: int = Field(description="Pairs in which Heroku answered, and better than EKS.")
    against_heroku: int = Field(description="Pairs in which EKS answered, and better than Heroku.")
    both_failed: int = Field(description="Pairs in which neither leg answered.")
    in_a_row: int = Field(description="Newest pairs in a row that speak against EKS.")
    harm: float = Field(description="Evidence that EKS answers worse.")
    harm_limit: float = Field(description="Evidence of harm at which EKS counts as worse.")
    verdict: str = Field(description="Alike, Unsure, EksWorse, HerokuFails, BothFail or Unknown.")
    safety: float | None = Field(
        default=None,
        description="Evidence of this step that EKS answers well enough for the next; absent unless"
        " gates.insufficientTraffic is AcceptProbes.",
    )
    safety_limit: float | None = Field(default=None, description="Evidence of safety that the next step needs.")
    sentence: str = Field(default="", description="The numbers as a sentence, for people; programs read the fields.")


@dataclass(config=COMPACT, frozen=True, slots=True)
class Estimate:
    """What the next step still needs of EKS' requests, and how long that takes if the step goes on as so far."""

    text: str = Field(description="The estimate in words, such as: about 40 min at 1.1 requests/s.")
    requests_per_second: float = Field(description="Requests of both legs per second in this step.")
    seconds: int | None = Field(
        default=None,
        description="Seconds until the evidence of safety and minRequests are enough; absent if unknown, as without"
        " requests.",
    )
    eks_requests: int | None = Field(
        default=None, description="Requests that EKS has to answer until then; absent if unknown."
    )


@dataclass(config=COMPACT, frozen=True, slots=True)
class AnswersStatus:
    """Answers of both legs by HTTP status in this step: the five most frequent of each, and the others together.

    An upgraded connection, such as a WebSocket, is counted as 101 when it ends.
    """

    heroku: dict[str, int] = Field(default_factory=dict, description="Heroku's answers.")
    eks: dict[str, int] = Field(default_factory=dict, description="EKS' answers.")
