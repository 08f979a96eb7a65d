"""The gate templates of the cluster, as the watch delivers them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cutover.api.v1alpha1 import TemplateKind
from cutover.api.v1alpha1.templates import Template, from_object


class TemplateCache:
    """All templates of both kinds."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Template | str] = {}
        self._views: dict[str, Mapping[str, Template | str]] = {}

    def observe_event(self, kind: TemplateKind, event: str | None, body: Mapping[str, Any]) -> bool:
        """Ingest one watch event; return whether it changed the cache."""
        metadata = body["metadata"]
        place, key = metadata.get("namespace") or "", f"{kind}/{metadata['name']}"
        before = self._known.get((place, key))
        now = None if event == "DELETED" else from_object(body)
        if now is None:
            self._known.pop((place, key), None)
        else:
            self._known[place, key] = now
        if now != before:
            self._views.clear()
        return now != before

    def of(self, namespace: str) -> Mapping[str, Template | str]:
        """Return the templates that plans of a namespace may refer to, by ``Kind/name``; a text says what is wrong."""
        view = self._views.get(namespace)
        if view is None:
            view = {key: value for (place, key), value in self._known.items() if place in ("", namespace)}
            self._views[namespace] = view
        return view
