"""The decommission checklist: that of the status where the operator keeps one, else the order to switch off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cutover.api.v1alpha1 import Phase
from cutover.report.page import Block, Bullets, Prose, Section, Table
from cutover.report.record import Record

#: Entries and characters of the status's list that are shown, whatever wrote it.
_MOST, _LONGEST = 100, 500
#: Phases in which the end is near enough to plan for it.
_NEAR = (Phase.SOAKING, Phase.COMPLETED)


def decommission(record: Record) -> Section:
    """Return the section."""
    blocks: list[Block] = []
    if record.plan.status.phase is not Phase.COMPLETED:
        blocks.append(Prose("The migration is not completed. Switch nothing off on Heroku yet: it is the way back."))
    listed = _listed(record.checklist)
    if listed or record.plan.status.phase in _NEAR:
        blocks += listed or [Bullets(_order(record), numbered=True)]
    return Section("Decommission checklist", tuple(blocks))


def _order(record: Record) -> tuple[str, ...]:
    spec = record.plan.spec
    hosts, app = ", ".join(spec.traffic.hosts), spec.heroku.app
    return (
        f"Wait until the soak is over and nobody wants the way back: a rollback needs an app {app} that answers.",
        f"Check that DNS of {hosts} leads to the gateway everywhere, and that its time to live has passed since the change.",
        f"Check that nobody asks {app} any more, by its router's log or by cutover-drain: some may use its own hostname.",
        "Switch off scheduler and worker dynos once each runs on Kubernetes. Running twice may be worse than not at all.",
        "Move or replace add-ons. Take a backup of each that holds data, and try to restore it.",
        f"Scale the web dynos of {app} to 0, and leave the app for as long as your team wants to be able to look back.",
        "Remove what points at the app: log drains, webhooks, pipelines, scheduled jobs elsewhere, monitoring.",
        "Remove custom domains and certificates from the app.",
        "Delete the MigrationPlan: the traffic of a completed one stays on EKS. Replace its route by one of your own.",
        "Delete the app, its add-ons and its API keys. From then on it costs nothing, and nothing leads back.",
    )


def _listed(checklist: Any) -> list[Block]:
    """Return what the status has, whatever its form: a list of entries, or lists by name; empty for none."""
    if isinstance(checklist, Mapping):
        found: list[Block] = []
        for name, value in list(checklist.items())[:_MOST]:
            if isinstance(value, (list, tuple)):
                found += _listed(value)
            elif value not in (None, ""):
                found.append(Prose(f"{name}: {_text(value)}"))
        return found
    if not isinstance(checklist, (list, tuple)):
        return []
    entries = [one for one in checklist if one not in (None, "", [], {}, ())][:_MOST]
    if not entries:
        return []
    if all(isinstance(one, Mapping) for one in entries):
        columns = list(dict.fromkeys(str(key) for one in entries for key in one))[:8]
        rows = tuple(tuple(_text(one.get(key, "–")) for key in columns) for one in entries)
        return [Table("From the plan's status", tuple(_heading(key) for key in columns), rows)] if columns else []
    return [Bullets(tuple(map(_text, entries)), numbered=True)]


def _text(value: Any) -> str:
    text = "yes" if value is True else "no" if value is False else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _heading(key: str) -> str:
    words = "".join(f" {one.lower()}" if one.isupper() else one for one in key).strip()
    return words[:1].upper() + words[1:]
