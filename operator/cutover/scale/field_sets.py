"""Models that share what says which of their fields were given.

pydantic keeps a set of names with each model. A status is some fifty models, nearly all made with the same fields: a set for
each would be two fifths of the memory of a status.
"""

from __future__ import annotations

from pydantic import BaseModel

#: The names of the fields that models were made with: one set for all that were made with the same.
_FIELD_SETS: dict[frozenset[str], set[str]] = {}


def share_field_set(model: BaseModel) -> None:
    """Let a new model share its set. Nobody writes into it: models are frozen, and a copy begins with a set of its own."""
    given = model.model_fields_set
    object.__setattr__(model, "__pydantic_fields_set__", _FIELD_SETS.setdefault(frozenset(given), given))
