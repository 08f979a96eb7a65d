"""The gate templates of the cluster, as the watch delivers them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cutover.api.v1alpha1 import TemplateKind
from cutover.api.v1alpha1.templates import Template, from_object

#: Bytes of the templates of one namespace that are kept; the API server allows at most some 10 KiB for one.
MOST_BYTES = 1 << 20


class TemplateCache:
    """All templates of both kinds, as text: only those that a plan refers to are parsed, when it does."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, _Entry]] = {}  # by namespace, "" for ClusterGateTemplates

    def observe_event(self, kind: TemplateKind, event: str | None, body: Mapping[str, Any]) -> bool:
        """Ingest one watch event; return whether it changed the cache."""
        metadata = body["metadata"]
        place, key = metadata.get("namespace") or "", f"{kind}/{metadata['name']}"
        known = self._known.setdefault(place, {})
        before = known.pop(key, None)
        if event == "DELETED":
            if not known:
                del self._known[place]
            return before is not None
        kept = {"metadata": {"generation": metadata.get("generation")}, "spec": body.get("spec")}
        text = json.dumps(kept, separators=(",", ":"), sort_keys=True)
        fits = len(text) + sum(len(entry.text) for entry in known.values()) <= MOST_BYTES or not place
        now = known[key] = _Entry(text if fits else "")
        if before is not None and before.text == now.text:
            known[key] = before
            return False
        return True

    def of(self, namespace: str) -> Mapping[str, Template | str]:
        """Return the templates that plans of a namespace may refer to, by ``Kind/name``; a text says what is wrong."""
        return _View(self._known.get("", {}), self._known.get(namespace, {}))


class _Entry:
    """A template as text; empty where its namespace has too many. Parsed at the first access."""

    __slots__ = ("_parsed", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._parsed: Template | str | None = None

    @property
    def template(self) -> Template | str:
        if self._parsed is None:
            self._parsed = from_object(json.loads(self.text)) if self.text else _TOO_MANY
        return self._parsed


_TOO_MANY = f"its namespace has more than {MOST_BYTES >> 20} MiB of GateTemplates; delete those that no plan uses"


class _View(Mapping[str, Template | str]):
    """The templates of the cluster and of one namespace. The kind in their keys keeps them apart."""

    def __init__(self, shared: Mapping[str, _Entry], own: Mapping[str, _Entry]) -> None:
        self._parts = shared, own

    def __getitem__(self, key: str) -> Template | str:
        for part in self._parts:
            if key in part:
                return part[key].template
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return any(key in part for part in self._parts)

    def __iter__(self) -> Iterator[str]:
        for part in self._parts:
            yield from part

    def __len__(self) -> int:
        return sum(map(len, self._parts))
