"""What a person asks of a plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cutover.api.v1alpha1 import MigrationPlanStatus
from cutover.cli.exits import CliError, Exit
from cutover.domain.resources import Json

#: Tells whether the effect is there: a sentence, or ``""`` while it is not.
Seen = Callable[[MigrationPlanStatus], str]


@dataclass(frozen=True, slots=True)
class Author:
    """Who asks, and when.

    Parameters
    ----------
    name
        The person's name as the API server knows it; ``""`` if it does not tell.
    at
        When.
    """

    name: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Intent:
    """What a person asks of a plan.

    Parameters
    ----------
    question
        What is asked, as a question to confirm.
    effects
        What will happen, in sentences.
    patch
        The merge patch to write.
    git
        The change to commit instead.
    seen
        Tells whether the effect is there.
    annotation
        Name of the annotation; ``""`` for an edit of the spec.
    later
        Why its effect is not waited for; ``""`` if it is.
    """

    question: str
    effects: tuple[str, ...]
    patch: Json
    git: str
    seen: Seen
    annotation: str = ""
    later: str = ""


def refused(text: str) -> CliError:
    """Return the error of what cannot be asked of a plan now."""
    return CliError(text, Exit.REFUSED)
