"""Audit ``rollouts``: how many Pods stay while a rollout, a drain of a node or a crash takes others away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.workload import Workload

#: Part of the replicas that may be away in a rollout.
MOST_AWAY = 0.34


def find(workload: Workload) -> Iterator[str]:
    """Find a rollout that takes too much away, and a single replica."""
    strategy = workload.spec.get("strategy") or {}
    least = workload.replicas
    if workload.autoscaler is not None:
        least = max(least, int(workload.autoscaler["spec"].get("minReplicas", 1)))
    if least == 1:
        yield (
            "there is one replica: a crash or the drain of its node is an outage, and a rollback by the gates costs more than"
            " a second replica; run two or more"
        )
    if strategy.get("type") == "Recreate":
        yield "strategy Recreate ends all Pods before new ones start: each rollout is an outage; use RollingUpdate"
    rolling: Mapping[str, Any] = strategy.get("rollingUpdate") or {}
    away = _part(rolling.get("maxUnavailable", "25%"), workload.replicas)
    if away > MOST_AWAY:
        yield (
            f"maxUnavailable {rolling['maxUnavailable']} lets a rollout take {away:.0%} of the replicas away at a busy hour:"
            " set it to 0 with maxSurge 1, as Heroku's preboot does"
        )


def _part(given: object, replicas: int) -> float:
    """Return the part of the replicas that may be away. Kubernetes rounds a percentage down."""
    text = str(given)
    if text.endswith("%") and text[:-1].isdecimal():
        return int(replicas * int(text[:-1]) / 100) / max(replicas, 1)
    return int(text) / max(replicas, 1) if text.isdecimal() else 0.0


CHECK = audit("rollouts", "there are two replicas or more, and a rollout leaves two thirds of them in service", find)
