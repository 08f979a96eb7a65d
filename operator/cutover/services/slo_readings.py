"""Readings of a plan's custom SLOs, with the blocks that no stored decision has consumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cutover.api.v1alpha1.templates import Template
from cutover.domain.engine.context import resolve
from cutover.domain.engine.wanted import baselines_wanted, custom_slos_wanted
from cutover.domain.evidence.lengths import in_force
from cutover.domain.plan import Plan
from cutover.domain.slo.custom import CustomSlo, SloReading
from cutover.ports.all import Ports
from cutover.ports.slo_feed import SloSubscription
from cutover.services.working_status import PENDING_BLOCKS, WorkingStatus


class SloReadings:
    """Reads one plan's custom SLOs from the feed.

    Parameters
    ----------
    ports
        The outside world.
    working
        The plan's working status, with the blocks that wait for a write.
    """

    def __init__(self, ports: Ports, working: WorkingStatus) -> None:
        self._ports = ports
        self._working = working

    def readings(
        self, plan: Plan, templates: Mapping[str, Template | str] | None, began: float
    ) -> Mapping[str, SloReading]:
        """Return new readings of the custom SLOs, with the blocks that wait for a write.

        Parameters
        ----------
        plan
            The plan.
        templates
            The gate templates; without them nothing is queried.
        began
            Unix seconds at which this process first saw the plan.
        """
        working, feed = self._working, self._ports.slo_feed
        wanted = templates is not None and custom_slos_wanted(plan.status)
        gates = resolve(plan, templates).gates if templates is not None and wanted else ()
        if not gates:
            feed.forget(plan.key)
            working.pending_custom = {}
            return {}
        readings: Mapping[str, SloReading] = {}
        if max(map(len, working.pending_custom.values()), default=0) < PENDING_BLOCKS:
            feed.watch(plan.key, self._subscription(plan, gates, began))
            readings = feed.take(plan.key)
        else:
            feed.forget(plan.key)
        for name, reading in readings.items():
            if reading.blocks:
                working.pending_custom[name] = (*working.pending_custom.get(name, ()), *reading.blocks)
        pending = {name: SloReading(blocks=blocks) for name, blocks in working.pending_custom.items()}
        return {
            **pending,
            **{
                name: replace(reading, blocks=working.pending_custom.get(name, ()))
                for name, reading in readings.items()
            },
        }

    def _subscription(self, plan: Plan, gates: tuple[CustomSlo, ...], began: float) -> SloSubscription:
        status, checkpoint = plan.status, plan.status.checkpoint
        consumed = (
            {evidence.gate: evidence.consumed_until for evidence in checkpoint.custom_slos} if checkpoint else {}
        )
        # Before the takeover, since this process first saw the plan: the current time would advance with every reconcile.
        start = checkpoint.consumed_until if checkpoint else began
        waiting = {name: blocks[-1].end for name, blocks in self._working.pending_custom.items()}
        return SloSubscription(
            source=plan.spec.gates.prometheus or "",
            gates=gates,
            block_seconds=in_force(plan.spec, status).seconds,
            since={gate.name: waiting.get(gate.name, consumed.get(gate.name, start)) for gate in gates},
            judged_from=checkpoint.observed_at if checkpoint and status.weight else None,
            baselines=frozenset(baselines_wanted(status, gates)),
        )
