"""A plan's loop with Heroku's API, played over HTTP, and EKS' Deployment beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from tests.kit.heroku_api import KEY, SECRETS, PlayedHerokuApi, app_answers, release
from tests.kit.loop_rig import LoopRig, shifting
from tests.kit.rollouts import deployment

from cutover.adapters.heroku.client import HerokuClient
from cutover.adapters.heroku.keys import KeyedHerokuApi
from cutover.adapters.kube.client import Cluster
from cutover.api.v1alpha1 import LegName, Phase, ReleasesStatus
from cutover.metrics import OperatorCollector
from cutover.services.leg_watch import RELEASES_SECONDS, ROLLING_SECONDS, ROLLOUT_SECONDS
from cutover.services.plan_loop import PlanLoop

#: Longer than any of the intervals, with its spread.
LATER = 1.3 * max(RELEASES_SECONDS, ROLLOUT_SECONDS)


@pytest.fixture
def heroku() -> Iterator[PlayedHerokuApi]:
    played = PlayedHerokuApi()
    yield played
    played.stop()


@pytest.fixture
def rig(heroku: PlayedHerokuApi, tmp_path: Path) -> LoopRig:
    """A plan at 25 %, and a key in the operator's own file."""
    file = tmp_path / "key"
    file.write_text(KEY)
    api = KeyedHerokuApi(HerokuClient(heroku.url), cast("Cluster", None), {"*": file})
    return LoopRig(heroku=api, deployment=deployment())


async def until(rig: LoopRig, loop: PlanLoop, reached: Callable[[ReleasesStatus], bool]) -> ReleasesStatus:
    """Reconcile until what is known of the legs is as asked for; time passes only where the test says so."""
    for _ in range(2000):
        await loop.reconcile()
        if rig.stored.releases is not None and reached(rig.stored.releases):
            return rig.stored.releases
        await asyncio.sleep(0.01)
    raise AssertionError(f"not reached: {rig.stored.releases}")


async def later(rig: LoopRig, loop: PlanLoop, times: int = 1) -> None:
    """Let time pass, and wait for all answers to what is asked then."""
    facts = loop._observer.legs.facts
    for _ in range(times):
        rig.run(LATER)
        await loop.reconcile()
        await asyncio.wait([task for fact in facts if (task := fact._running) is not None])
    await loop.reconcile()


async def test_a_release_in_mid_step_is_noticed_once_also_over_a_restart(
    rig: LoopRig, heroku: PlayedHerokuApi
) -> None:
    loop = rig.loop()
    first = await until(rig, loop, lambda known: None not in (known.heroku_version, known.eks, known.dynos))
    assert (first.heroku_version, first.ahead) == (42, None)
    assert rig.stored.ledger == ()
    heroku.answers["/releases"].append(release(43, "Deploy 5e6f7a8b", slug="s-2"))
    rig.run(LATER)
    await until(rig, loop, lambda known: known.ahead is LegName.HEROKU)
    assert rig.stored.reason == "LegsDiffer"
    assert rig.done.count("event HerokuReleased") == 1
    loop._observer.stop()

    again = rig.loop()
    rig.run(LATER)
    # Another process: it reads all of it anew, and a rollout that began while nobody looked.
    rig.deployment = deployment(image="pdf:2", new=1)
    known = await until(rig, again, lambda known: known.rolling == ("code",))
    assert known.heroku_version == 43
    rig.deployment = deployment(image="pdf:2")
    rig.run(2 * ROLLING_SECONDS)
    await until(rig, again, lambda known: not known.rolling)
    assert rig.stored.releases is not None
    assert rig.stored.releases.ahead is None
    rig.run(LATER)
    await again.reconcile()
    assert rig.stored.reason != "LegsDiffer"
    again._observer.stop()
    changes = [entry.reason for entry in rig.stored.ledger if entry.decision == "Change"]
    assert changes == ["HerokuReleased", "EksRolledOut"]
    assert rig.done.count("event HerokuReleased") == rig.done.count("event EksRolledOut") == 1


@pytest.mark.parametrize("how", ["revoked", "away", "not JSON", "429"])
async def test_an_api_that_does_not_answer_is_told_and_moves_nothing(
    rig: LoopRig, heroku: PlayedHerokuApi, how: str
) -> None:
    loop = rig.loop()
    await until(rig, loop, lambda known: known.heroku_version == 42 and known.dynos is not None)
    match how:
        case "revoked":
            heroku.revoked.add(KEY)
        case "away":
            heroku.away = True
        case "not JSON":
            heroku.answers["/releases"] = "<html>it is us</html>"
        case _:
            heroku.answers["/releases"] = 429
    await later(rig, loop, 6)
    problem = (await until(rig, loop, lambda known: known.problem != "")).problem
    assert not any(secret in problem for secret in SECRETS)
    assert rig.done.count("event HerokuApiUnavailable") == 1
    collector = OperatorCollector(lambda: [loop], _Counts(), _Counts(), _Counts(), dict)
    gauge = next(one for one in collector.collect() if one.name == "cutover_heroku_api_unavailable")
    assert [(sample.labels["plan"], sample.value) for sample in gauge.samples] == [("pdf", 1.0)]
    # Nothing is held or moved for it, and the ledger is for decisions.
    assert (rig.stored.reason, rig.stored.weight, rig.stored.ledger) == ("Judging", 25, ())
    assert not [done for done in rig.done if done.startswith("route")]
    assert rig.stored.releases is not None
    assert rig.stored.releases.heroku_version == 42
    if how == "revoked":
        heroku.revoked.clear()
        await later(rig, loop, 4)
        await until(rig, loop, lambda known: known.problem == "")
        assert rig.done.count("event HerokuApiAnswers") == 1
    loop._observer.stop()


async def test_without_a_key_only_eks_is_watched(rig: LoopRig, heroku: PlayedHerokuApi) -> None:
    rig.heroku = None
    loop = rig.loop()
    known = await until(rig, loop, lambda known: known.eks is not None)
    assert known.heroku_version is None
    rig.deployment = deployment(env=[{"name": "FEATURE", "value": "on"}])
    rig.run(LATER)
    known = await until(rig, loop, lambda known: known.ahead is LegName.EKS)
    assert known.change == "configuration"
    assert not heroku.requests
    loop._observer.stop()


async def test_after_the_cutover_no_releases_and_rollouts_are_asked_for(rig: LoopRig, heroku: PlayedHerokuApi) -> None:
    rig.status = shifting(phase=Phase.COMPLETED, weight=100)
    rig.weight, rig.revision = 100, "a1-w100"
    rig.wire = rig.status.to_wire()
    rig.deliver()
    loop = rig.loop()
    for _ in range(3):
        await loop.reconcile()
        await asyncio.sleep(0.02)
    assert heroku.requests, "what is left to switch off"
    assert "/apps/acme-pdf/releases" not in {path for path, _ in heroku.requests}
    assert rig.stored.releases is None
    loop._observer.stop()


async def test_maintenance_mode_is_asked_for_at_once_where_heroku_fails(rig: LoopRig, heroku: PlayedHerokuApi) -> None:
    loop = rig.loop()
    await until(rig, loop, lambda known: known.maintenance is False)
    heroku.answers = app_answers()
    heroku.answers[""]["maintenance"] = True
    await later(rig, loop)
    assert rig.stored.releases is not None
    assert rig.stored.releases.maintenance is False, "the app is asked for seldom"
    rig.unhealthy = True
    await later(rig, loop)
    rig.run(LATER)
    await until(rig, loop, lambda known: known.maintenance is True)
    (entry,) = [entry for entry in rig.stored.ledger if entry.decision == "Change"]
    assert "maintenance mode of acme-pdf is on" in entry.message
    loop._observer.stop()


class _Counts:
    requests: dict[str, int] = {}  # noqa: RUF012
    errors: dict[str, int] = {}  # noqa: RUF012
    queries = refused = rounds_skipped = rounds_late = late_samples = 0
    last_success = lateness = 0.0


async def test_what_is_known_of_one_app_is_not_taken_for_another(rig: LoopRig, heroku: PlayedHerokuApi) -> None:
    loop = rig.loop()
    await until(rig, loop, lambda known: known.heroku_version == 42)
    rig.spec["heroku"]["app"] = "acme-other"  # of which the API knows nothing
    rig.edit(generation=2)
    rig.deliver()
    known = await until(rig, loop, lambda known: known.of.startswith("acme-other"))
    assert (known.heroku_version, known.dynos) == (None, None)
