"""Shares the sets of given fields among pydantic models.

pydantic keeps a set with the names of the given fields in each model. A status has some fifty models, nearly all with the
same fields: a set for each would be two fifths of the status' memory.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel

#: The sets of given fields, one for each combination.
_FIELD_SETS: dict[frozenset[str], set[str]] = {}


def shared(given: set[str], more: Iterable[str]) -> set[str]:
    """Return the set of the given fields and some more."""
    if given.issuperset(more):
        return given
    both = given.union(more)
    return _FIELD_SETS.setdefault(frozenset(both), both)


def share_field_set(model: BaseModel) -> None:
    """Let a new model share its set. It is never written: models are frozen, and a copy starts with a set of its own."""
    given = model.model_fields_set
    object.__setattr__(model, "__pydantic_fields_set__", _FIELD_SETS.setdefault(frozenset(given), given))
