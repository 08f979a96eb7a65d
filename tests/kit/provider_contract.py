"""What every traffic provider must do, whatever it can: the tests that each of them passes.

A test module derives from :class:`ProviderContract` and gives it a ``rig``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import pytest

from cutover.api.v1alpha1 import Checkpoint, MigrationPlanStatus, OnDelete, Phase, RouteRecord
from cutover.domain.engine import writes
from cutover.domain.engine.actions import EndTrial, GiveBack, RestingPlace, SetWeight, Try
from cutover.domain.plan import Plan
from cutover.domain.revision import Trial, desired_split, raise_called_off, revision, rollback_revision
from cutover.domain.traffic import TrafficState
from cutover.ports.errors import Conflict
from cutover.ports.traffic import TrafficProvider

_DECIDED_AT = 1_799_661_600.0


class ProviderRig(Protocol):
    """A provider with the world that it writes to.

    Attributes
    ----------
    plan
        A plan that has not taken anything over, and may.
    restores_deleted
        Whether a route that somebody deleted is made again; what is the team's own is the team's to make.
    """

    plan: Plan
    restores_deleted: bool

    def process(self) -> TrafficProvider:
        """Return the provider in a new process, which knows nothing yet."""

    async def edit_weight(self, percent: int) -> None:
        """Change the route's weight, as somebody else with the right to."""

    async def delete_route(self) -> None:
        """Delete the route, as somebody else with the right to."""

    async def versions(self) -> Any:
        """Return what changes with every write of the provider's own objects."""

    async def others(self) -> Any:
        """Return all that belongs to others, as it is."""

    async def teams(self) -> Any:
        """Return what the team has written of the route: labels, annotations and spec; ``None`` if it is no team's."""


def at(plan: Plan, weight: int | None, phase: Phase = Phase.SHIFTING, attempt: int = 1) -> Plan:
    """Return the plan with a status that asks for a weight."""
    checkpoint = Checkpoint(at=_DECIDED_AT, weight_since=_DECIDED_AT, consumed_until=_DECIDED_AT)
    status = MigrationPlanStatus(phase=phase, attempt=attempt, weight=weight, checkpoint=checkpoint)
    return replace(plan, status=status)


async def read(provider: TrafficProvider, plan: Plan, *, fresh: bool = True) -> TrafficState:
    """Compare the route with what the plan's status asks for."""
    wanted = None if plan.status.weight is None else desired_split(plan.status)
    return await provider.get(plan, wanted, fresh=fresh)


async def write(provider: TrafficProvider, plan: Plan, *, seen: str | None = None, supersedes: str = "") -> None:
    """Write the route that the plan's status asks for."""
    assert plan.status.weight is not None
    await provider.set(plan, SetWeight(desired_split(plan.status), over=seen, supersedes=supersedes))


async def at_rest(provider: TrafficProvider, plan: Plan) -> int | None:
    """Return the percent that goes elsewhere than to Heroku, whoever's the route is."""
    return (await provider.get(plan, None, fresh=True)).weight


class ProviderContract:
    """The tests; a subclass has a fixture ``rig``."""

    @pytest.fixture
    async def taken(self, rig: ProviderRig) -> TrafficProvider:
        """The provider after the takeover."""
        provider = rig.process()
        plan = at(rig.plan, 0, Phase.PREFLIGHT)
        await provider.prepare(plan)
        await write(provider, plan)
        return provider

    # ------------------------------------------------------------------------------------------------- what it declares

    def test_it_says_what_it_can_do(self, rig: ProviderRig) -> None:
        can = rig.process().capabilities
        assert can == rig.process().capabilities
        assert can.provider not in ("", "unknown")
        assert can.rollback_seconds > 0
        assert can.probes_leg or not can.probes_eks, "a pair has both legs"
        if can.confirms_share:
            assert can.common_vantage, "a share is the part of one total"

    # ----------------------------------------------------------------------------------------------- before the takeover

    async def test_before_the_takeover_nothing_is_elsewhere(self, rig: ProviderRig) -> None:
        state = await rig.process().get(at(rig.plan, None, Phase.PREFLIGHT), None)
        assert not state.weight
        assert state.current
        assert not state.in_the_way

    async def test_preparing_routes_nothing_and_is_done_once(self, rig: ProviderRig) -> None:
        provider, plan, others = rig.process(), at(rig.plan, None, Phase.PREFLIGHT), await rig.others()
        await provider.prepare(plan)
        versions = await rig.versions()
        await provider.prepare(plan)
        await rig.process().prepare(plan)
        assert await rig.versions() == versions
        assert not await at_rest(provider, plan)
        assert await rig.others() == others

    async def test_a_route_that_is_there_already_is_told_before_the_takeover(
        self, rig: ProviderRig, taken: TrafficProvider
    ) -> None:
        await write(taken, at(rig.plan, 25))
        anew = replace(rig.plan, uid=rig.plan.uid[::-1])
        state = await rig.process().get(at(anew, None, Phase.PREFLIGHT), None)
        assert state.weight == 25
        assert "25 %" in state.in_the_way

    # ---------------------------------------------------------------------------------------------------------- weights

    async def test_a_weight_is_written_and_read(self, rig: ProviderRig, taken: TrafficProvider) -> None:
        for weight in (0, 10, 25, 100, 0):
            plan = at(rig.plan, weight)
            await write(taken, plan)
            for provider in (taken, rig.process()):
                state = await read(provider, plan)
                assert (state.weight, state.current, state.foreign) == (weight, True, ())
                assert state.revision == (revision(1, weight) if provider.capabilities.stamps_revision else "")

    async def test_another_weight_is_not_current(self, rig: ProviderRig, taken: TrafficProvider) -> None:
        await write(taken, at(rig.plan, 10))
        state = await read(taken, at(rig.plan, 25), fresh=False)
        assert (state.weight, state.current) == (10, False)

    async def test_what_is_written_already_is_not_written_again(
        self, rig: ProviderRig, taken: TrafficProvider
    ) -> None:
        plan = at(rig.plan, 10)
        await write(taken, plan)
        versions = await rig.versions()
        await write(taken, plan)
        await write(rig.process(), plan)
        assert await rig.versions() == versions

    async def test_a_rollback_has_a_revision_of_its_own(self, rig: ProviderRig, taken: TrafficProvider) -> None:
        await write(taken, at(rig.plan, 25))
        plan = at(rig.plan, 0, Phase.ROLLING_BACK)
        await write(taken, plan)
        state = await read(taken, plan)
        assert (state.weight, state.current) == (0, True)
        assert state.revision == (rollback_revision(1) if taken.capabilities.stamps_revision else "")

    # ------------------------------------------------------------------------------------------------------- the fences

    async def test_a_route_is_written_over_the_one_that_was_decided_on(
        self, rig: ProviderRig, taken: TrafficProvider
    ) -> None:
        plan = at(rig.plan, 10)
        version = (await read(taken, plan)).version
        await write(taken, plan, seen=version)
        slow = rig.process()
        with pytest.raises(Conflict):
            await write(slow, at(rig.plan, 25), seen=version)
        with pytest.raises(Conflict):
            await write(slow, at(rig.plan, 25), seen="")
        state = await read(taken, plan)
        assert (state.weight, state.current) == (10, True)

    async def test_a_raise_that_is_called_off_fails_when_it_comes(
        self, rig: ProviderRig, taken: TrafficProvider
    ) -> None:
        await write(taken, at(rig.plan, 10))
        raising = at(rig.plan, 25)
        version = (await read(taken, raising)).version
        late = rig.process()
        # Called off while it is on its way, to a route that is as it should be.
        await write(taken, at(rig.plan, 10), supersedes=raise_called_off(raising.status))
        with pytest.raises(Conflict):
            await write(late, raising, seen=version)
        state = await read(taken, at(rig.plan, 10))
        assert (state.weight, state.current) == (10, True)

    # -------------------------------------------------------------------------------------------------- somebody's edits

    async def test_an_edit_is_seen_and_put_back(self, rig: ProviderRig, taken: TrafficProvider) -> None:
        plan = at(rig.plan, 25)
        await write(taken, plan)
        await rig.edit_weight(60)
        state = await read(taken, plan)
        assert (state.weight, state.current) == (60, False)
        assert state.foreign
        await write(taken, plan, seen=state.version)
        state = await read(taken, plan)
        assert (state.weight, state.current) == (25, True)

    async def test_a_write_over_an_edit_that_was_not_seen_is_a_conflict(
        self, rig: ProviderRig, taken: TrafficProvider
    ) -> None:
        plan = at(rig.plan, 25)
        await write(taken, plan)
        version = (await read(taken, plan)).version
        await rig.edit_weight(60)
        with pytest.raises(Conflict):
            await write(taken, at(rig.plan, 50), seen=version)
        assert (await read(taken, plan)).weight == 60

    async def test_a_route_that_is_gone_is_seen_and_made_again(self, rig: ProviderRig, taken: TrafficProvider) -> None:
        plan = at(rig.plan, 25)
        await write(taken, plan)
        await rig.delete_route()
        state = await read(taken, plan)
        assert (state.weight, state.current) == (None, False)
        if rig.restores_deleted:
            await write(taken, plan, seen=state.version)
            state = await read(taken, plan)
            assert (state.weight, state.current) == (25, True)

    # ---------------------------------------------------------------------------------------------------------- the end

    @pytest.mark.parametrize(("end", "rests"), [(OnDelete.HEROKU, 0), (OnDelete.EKS, 100), (OnDelete.LEAVE, 50)])
    async def test_the_end_puts_traffic_to_rest(
        self, rig: ProviderRig, taken: TrafficProvider, end: RestingPlace, rests: int
    ) -> None:
        plan, others = at(rig.plan, 50), await rig.others()
        await write(taken, plan)
        for provider in (taken, rig.process()):
            await provider.finalize(plan, writes.finalize(plan, end))
            assert await at_rest(provider, plan) == rests
        assert await rig.others() == others

    async def test_the_end_of_a_raise_that_is_on_its_way(self, rig: ProviderRig, taken: TrafficProvider) -> None:
        raising = at(rig.plan, 10)
        version = (await read(taken, raising)).version
        late = rig.process()
        await taken.finalize(raising, writes.finalize(raising, OnDelete.HEROKU))
        with pytest.raises(Conflict):
            await write(late, raising, seen=version)
        assert await at_rest(taken, raising) == 0

    @pytest.mark.parametrize("end", [OnDelete.HEROKU, OnDelete.EKS, OnDelete.LEAVE])
    async def test_the_end_of_a_plan_that_took_nothing_over_touches_nothing(
        self, rig: ProviderRig, end: RestingPlace
    ) -> None:
        versions, others = await rig.versions(), await rig.others()
        plan = at(rig.plan, None, Phase.PREFLIGHT)
        await rig.process().finalize(plan, writes.finalize(plan, end))
        assert (await rig.versions(), await rig.others()) == (versions, others)

    async def test_what_is_others_is_never_touched(self, rig: ProviderRig) -> None:
        others, provider = await rig.others(), rig.process()
        await provider.prepare(at(rig.plan, 0, Phase.PREFLIGHT))
        for weight, phase in (
            (0, Phase.PREFLIGHT),
            (10, Phase.SHIFTING),
            (100, Phase.SOAKING),
            (0, Phase.ROLLING_BACK),
        ):
            await write(provider, at(rig.plan, weight, phase))
        back = at(rig.plan, 0, Phase.ROLLED_BACK)
        await provider.finalize(back, writes.finalize(back, OnDelete.HEROKU))
        assert await rig.others() == others


class TrialContract(ProviderContract):
    """The tests for providers that give the probes a route before users have one."""

    @pytest.fixture
    async def tried(self, rig: ProviderRig) -> TrafficProvider:
        """The provider in a trial."""
        provider = rig.process()
        plan = at(rig.plan, None, Phase.PREFLIGHT)
        await provider.prepare(plan)
        await try_out(provider, plan)
        return provider

    def test_it_says_that_it_can_try(self, rig: ProviderRig) -> None:
        can = rig.process().capabilities
        assert can.tries
        assert can.stamps_revision, "the answer to a probe says which route it met"
        assert can.probes_leg
        assert can.probes_eks

    async def test_a_trial_changes_nothing_for_users(self, rig: ProviderRig) -> None:
        provider, plan = rig.process(), at(rig.plan, None, Phase.PREFLIGHT)
        others, teams = await rig.others(), await rig.teams()
        state = await provider.get(plan, Trial(1), fresh=True)
        assert (state.trial, state.current, state.weight or 0) == (False, False, 0)
        await try_out(provider, plan)
        for process in (provider, rig.process()):
            for wanted in (Trial(1), None):
                state = await process.get(plan, wanted, fresh=True)
                assert (state.trial, state.current, state.revision) == (True, True, "a1-trial")
                assert not state.weight
                assert not state.in_the_way
        assert await rig.others() == others
        if teams is not None:
            labels, annotations, spec = await rig.teams()
            assert (labels, annotations, {**spec, "http": spec["http"][2:]}) == teams

    async def test_a_trial_is_written_once(self, rig: ProviderRig, tried: TrafficProvider) -> None:
        versions, plan = await rig.versions(), at(rig.plan, None, Phase.PREFLIGHT)
        await try_out(tried, plan)
        await try_out(rig.process(), plan)
        assert await rig.versions() == versions

    async def test_another_attempt_has_a_trial_of_its_own(self, rig: ProviderRig, tried: TrafficProvider) -> None:
        plan = at(rig.plan, None, Phase.PREFLIGHT, attempt=2)
        assert not (await tried.get(plan, Trial(2))).current
        await try_out(tried, plan)
        state = await rig.process().get(plan, Trial(2), fresh=True)
        assert (state.current, state.revision) == (True, "a2-trial")

    async def test_a_trial_that_comes_late_changes_nothing(self, rig: ProviderRig, tried: TrafficProvider) -> None:
        before = at(rig.plan, None, Phase.PREFLIGHT)
        version = (await tried.get(before, Trial(1))).version
        taken = at(rig.plan, 0, Phase.PREFLIGHT)
        await write(tried, taken, seen=version)
        for over in ("", version):
            with pytest.raises(Conflict):
                await rig.process().try_out(before, Try(Trial(1), over=over))
        state = await read(tried, taken)
        assert (state.weight, state.revision, state.trial) == (0, "a1-w0", False)

    @pytest.mark.parametrize("end", [None, OnDelete.HEROKU, OnDelete.EKS, OnDelete.LEAVE])
    async def test_after_a_trial_all_is_as_before(self, rig: ProviderRig, end: RestingPlace | None) -> None:
        others, teams, plan = await rig.others(), await rig.teams(), at(rig.plan, None, Phase.PREFLIGHT)
        first = rig.process()
        await try_out(first, plan)
        name = (await first.get(plan, Trial(1))).name
        versions = None
        for provider in (first, rig.process()):
            if end is None:
                await provider.end_trial(plan, EndTrial(name))
            else:
                await provider.finalize(plan, writes.finalize(plan, end))
            state = await provider.get(plan, None, fresh=True)
            assert (state.trial, state.revision, state.weight or 0) == (False, "", 0)
            assert await rig.teams() == teams
            assert await rig.others() == others
            assert versions in (None, await rig.versions()), "there was nothing left to do"
            versions = await rig.versions()
        await try_out(first, plan)
        assert (await first.get(plan, Trial(1), fresh=True)).current

    async def test_the_end_of_a_takeover_that_was_not_written_is_that_of_a_trial(
        self, rig: ProviderRig, tried: TrafficProvider
    ) -> None:
        plan = at(rig.plan, 0, Phase.PREFLIGHT)
        await tried.finalize(plan, writes.finalize(plan, OnDelete.HEROKU))
        state = await tried.get(at(rig.plan, None, Phase.PREFLIGHT), None, fresh=True)
        assert (state.trial, state.weight or 0) == (False, 0)

    async def test_users_get_the_routes_back_that_they_had(self, rig: ProviderRig, tried: TrafficProvider) -> None:
        before, others = at(rig.plan, None, Phase.PREFLIGHT), await rig.others()
        state = await tried.get(before, Trial(1))
        if not state.gives_back:
            assert await rig.teams() is None, "nobody else served these users"
            return
        taken = at(rig.plan, 0, Phase.PREFLIGHT)
        taken = replace(taken, status=taken.status.evolve(route=RouteRecord(originals=state.originals)))
        await write(tried, taken, seen=state.version)
        version = (await read(tried, taken)).version
        back = Trial(1, given_back=True)
        with pytest.raises(Conflict):
            await rig.process().give_back(taken, GiveBack(back, over=state.version))
        await rig.process().give_back(taken, GiveBack(back, over=version))
        for plan, wanted in ((taken, desired_split(taken.status)), (before, back)):
            seen = await rig.process().get(plan, wanted, fresh=True)
            assert (seen.revision, seen.current) == (back.revision, wanted is back)
        with pytest.raises(Conflict):
            await write(rig.process(), taken, seen=version)
        assert await rig.others() == others
        await rig.process().end_trial(before, EndTrial(state.name))
        teams = await rig.teams()
        again = rig.process()
        await try_out(again, before)
        await again.end_trial(before, EndTrial(state.name))
        assert await rig.teams() == teams

    async def test_the_team_s_object_is_given_back_as_it_was(self, rig: ProviderRig) -> None:
        teams, provider, before = await rig.teams(), rig.process(), at(rig.plan, None, Phase.PREFLIGHT)
        state = await provider.get(before, Trial(1))
        taken = at(rig.plan, 0, Phase.PREFLIGHT)
        taken = replace(taken, status=taken.status.evolve(route=RouteRecord(originals=state.originals)))
        await write(provider, taken)
        version = (await read(provider, taken)).version
        if state.gives_back:
            await provider.give_back(taken, GiveBack(Trial(1, given_back=True), over=version))
            await provider.end_trial(before, EndTrial(state.name))
        assert await rig.teams() == teams

    async def test_a_trial_that_users_have_overtaken_does_not_end(
        self, rig: ProviderRig, tried: TrafficProvider
    ) -> None:
        plan = at(rig.plan, 10)
        await write(tried, at(rig.plan, 0, Phase.PREFLIGHT))
        await write(tried, plan)
        state = await read(tried, plan)
        await rig.process().end_trial(plan, EndTrial(state.name))
        assert await read(tried, plan) == state

    async def test_users_of_an_earlier_plan_keep_their_route_in_a_trial(
        self, rig: ProviderRig, taken: TrafficProvider
    ) -> None:
        anew = at(replace(rig.plan, uid=rig.plan.uid[::-1]), None, Phase.PREFLIGHT)
        provider = rig.process()
        await try_out(provider, anew)
        state = await provider.get(anew, Trial(1), fresh=True)
        assert (state.trial, state.current, state.weight) == (True, True, 0)
        await provider.finalize(anew, writes.finalize(anew, OnDelete.LEAVE))
        assert (await read(rig.process(), at(rig.plan, 0, Phase.PREFLIGHT))).weight == 0


async def try_out(provider: TrafficProvider, plan: Plan) -> None:
    """Give the probes a route, over the one that is there."""
    trial = Trial(plan.status.attempt)
    state = await provider.get(plan, trial, fresh=True)
    await provider.try_out(plan, Try(trial, over=state.version))
