"""From new blocks to evidence: which blocks count, and for what."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic_core import from_json, to_json

from cutover.api.opaque import Opaque
from cutover.api.v1alpha1 import Checkpoint, Share
from cutover.domain.evidence import judge as gate
from cutover.domain.evidence.blocks import Block
from cutover.domain.evidence.confirmation import collect, confirmed
from cutover.domain.evidence.judge import Evidence, GateRules
from cutover.domain.evidence.share import Pool
from cutover.domain.traffic import Capabilities, Probe

#: Blocks in a row that cannot be judged until people are told.
GAPS_UNTIL_NO_DATA = 3


def ingest(
    checkpoint: Checkpoint,
    blocks: tuple[Block, ...],
    *,
    rules: GateRules,
    weight: int,
    next_weight: int,
    probe: Probe | None,
    revision: str,
    can: Capabilities,
) -> Checkpoint:
    """Consume blocks: first to see the weight at the gateway, from then on as evidence.

    A block counts only if it lies wholly after the change of weight (for the share) or after the share was observed
    (as evidence), so that no judgement mixes two steps. What shows that a weight is in force depends on what the provider
    can do (:mod:`cutover.domain.evidence.confirmation`); nothing does while the gateway says that it has another route.
    """
    evidence = load_evidence(checkpoint)
    if next_weight > checkpoint.next_weight > 0:
        # The steps were edited: what was safe enough for a small step need not be for a bigger one.
        evidence = gate.begin_step(evidence)
    live_at, elsewhere = checkpoint.live_at, False
    if probe is not None and probe.at >= checkpoint.weight_since:
        if live_at is None and probe.revision == revision:
            live_at = probe.at
        elsewhere = probe.revision not in ("", revision)
    pooled = Pool(*checkpoint.share_pool)
    observed_at, consumed_until, gaps = checkpoint.observed_at, checkpoint.consumed_until, checkpoint.gaps
    for block in blocks:
        if block.start < consumed_until:
            continue  # a part of it was consumed already
        consumed_until = block.end
        gaps = 0 if block.usable else gaps + 1
        if block.start < checkpoint.weight_since:
            continue
        if observed_at is None:
            previous = checkpoint.previous_weight
            pooled = collect(can, pooled, block, weight=weight, previous=previous, live_at=live_at)
            if confirmed(can, pooled, block, weight=weight, previous=previous, live_at=live_at) and not elsewhere:
                observed_at = block.end
        elif weight == 0:
            evidence = gate.learn(evidence, block, rules)
        else:
            evidence = gate.consume(
                evidence, block, rules=rules, weight=weight, next_weight=next_weight, observed_at=observed_at
            )
    return checkpoint.model_copy(
        update={
            "live_at": live_at,
            "observed_at": observed_at,
            "next_weight": next_weight,
            "consumed_until": consumed_until,
            "gaps": gaps,
            "share_pool": (pooled.eks, pooled.total),
            "evidence": keep(evidence),
        }
    )


def load_evidence(checkpoint: Checkpoint) -> Evidence:
    """Read the judge's state from a checkpoint.

    Evidence that cannot be read (somebody edited the status) is started anew: it has to be earned again before
    anything moves up, and a leg that is worse shows again.
    """
    return load(checkpoint.evidence)


def load(kept: Opaque) -> Evidence:
    """Return the judge's state; unreadable or empty it is that of the beginning."""
    return kept.value(_read)


def keep(evidence: Evidence) -> Opaque:
    """Return the judge's state for a checkpoint: an object, and one line of text once that is written."""
    return Opaque.of(evidence, _write)


def _read(text: str) -> Evidence:
    try:
        return Evidence.load(from_json(text)) if text else Evidence()
    except ValueError:
        return Evidence()


def _write(evidence: Evidence) -> str:
    return to_json(evidence.dump()).decode()


def share(checkpoint: Checkpoint, evidence: Evidence, now: float) -> Share | None:
    """Return the share seen since the current weight was decided."""
    heroku, eks = evidence.total
    judged = heroku.requests + eks.requests
    percent = 100.0 * eks.requests / judged if judged else Pool(*checkpoint.share_pool).percent
    if percent is None:
        return None
    return Share(observed=round(percent, 1), at=datetime.fromtimestamp(now, UTC))
