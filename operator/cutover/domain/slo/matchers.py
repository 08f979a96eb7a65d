"""Add label matchers to every selector of a PromQL query, so that it asks for one cluster of several.

A query whose selectors are not certain is refused, never asked without the matchers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from cutover.domain.slo.promql import NotPromQLError, Token, quoted, selector_places, tokens_of


class MatchersError(ValueError):
    """Matchers cannot be added to a query; the message says why."""


def with_matchers(query: str, matchers: Mapping[str, str]) -> str:
    """Return a query with ``label="value"`` in each of its selectors.

    Raises
    ------
    MatchersError
        If it is not certain that every selector would have them.
    """
    return _with_matchers(query, tuple(matchers.items())) if matchers else query


@lru_cache(maxsize=256)
def _with_matchers(query: str, matchers: tuple[tuple[str, str], ...]) -> str:
    added = ",".join(f"{label}={quoted(value)}" for label, value in matchers)
    tokens = tokens_of(query)
    try:
        places = selector_places(tokens)
    except NotPromQLError as error:
        raise MatchersError(
            "the query is not understood, so that no matchers can be added to its selectors"
        ) from error
    matched, copied = "", 0
    for start, end in places:
        at, text = _insertion(tokens[start:end], added)
        matched, copied = f"{matched}{query[copied:at]}{text}", at
    return matched + query[copied:]


def _insertion(selector: list[Token], added: str) -> tuple[int, str]:
    """Return where a text is inserted into the query to add matchers to a selector, and the text. Raises MatchersError."""
    brace = next((place for place, token in enumerate(selector) if token.text == "{"), None)
    if brace is None:
        return selector[-1].end, f"{{{added}}}"
    if any(token.text.lower() == "or" for token in selector[brace:]):
        raise MatchersError("a selector with `or` in its braces cannot be given further matchers; write two selectors")
    return selector[brace].end, added if selector[brace + 1].text == "}" else f"{added},"
