"""Releases on Heroku and rollouts of EKS: what is told, what holds, what counts as evidence, and that nothing is lost."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit.builders import spec_fields
from tests.kit.custom_slos import gates_of
from tests.kit.rollouts import deployment
from tests.kit.states import checked_world
from tests.kit.world import DEAD, START, World

from cutover.api.v1alpha1 import LedgerEntry, LegName, Phase, ReleasesStatus
from cutover.domain.engine.probe_intervals import paired_step
from cutover.domain.engine.wanted import releases_wanted
from cutover.domain.evidence.paired_safety import PairedStep
from cutover.domain.evidence.pairs import NO_PAIRS, enter, take
from cutover.domain.evidence.worth import Pair, Worth
from cutover.domain.heroku import Certificate, HerokuApp, HerokuNews, Process, Release
from cutover.domain.releases import EKS_SETTLES_SECONDS, HEROKU_SETTLES_SECONDS, compare
from cutover.domain.resources import Json
from cutover.domain.rollout import Rollout, parts_changed, rollout_of

HOSTS = ("pdf.example.com",)
CERTIFICATE_ENDS = datetime.fromtimestamp(START, UTC) + timedelta(days=6)


def release(version: int, code: str = "slug-a", description: str = "", **more: bool) -> Release:
    return Release(version, code, description, **{"current": True, "succeeded": True, **more})


def news(*releases: Release, app: HerokuApp | None = None, problem: str | None = "") -> HerokuNews:
    newest_first = tuple(sorted(releases, key=lambda one: -one.version))
    current = max((one.version for one in newest_first if one.current), default=0)
    shown = tuple(replace(one, current=one.version == current) for one in newest_first)
    return HerokuNews(shown or None, app, problem)


def rollout(**template: Any) -> Rollout:
    return rollout_of(deployment(**template))


# ------------------------------------------------------------------------------------------------------- the workload


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({}, ()),
        ({"image": "pdf:2"}, ("code",)),
        ({"command": ["puma"]}, ("code",)),
        ({"args": ["-w", "4"]}, ("code",)),
        ({"env": [{"name": "FEATURE", "value": "on"}]}, ("configuration",)),
        ({"envFrom": [{"secretRef": {"name": "pdf"}}]}, ("configuration",)),
        (
            {"annotations": {"kubectl.kubernetes.io/restartedAt": "2027-01-11T10:00:00Z"}},
            ("time of the last restart",),
        ),
        ({"annotations": {"checksum/config": "1a2b"}}, ("configuration",)),
        ({"resources": {"limits": {"cpu": "2"}}}, ("settings",)),
        ({"image": "pdf:2", "env": [{"name": "A", "value": "b"}]}, ("code", "configuration")),
    ],
)
def test_which_part_of_the_template_changed(change: Json, parts: Sequence[str]) -> None:
    assert parts_changed(rollout().template, rollout(**change).template) == tuple(parts)


@pytest.mark.parametrize(
    ("state", "complete", "progress"),
    [
        ({}, True, "3 of 3 Pods are new"),
        ({"replicas": 4, "new": 1}, False, "1 of 4 Pods are new"),
        # An autoscaler adds Pods of the present template.
        ({"replicas": 9, "new": 9}, True, "9 of 9 Pods are new"),
        # The numbers are still those of the template before.
        ({"generation": 2, "observed": 1}, False, "0 of 3 Pods are new"),
        ({"replicas": 0, "new": 0}, True, "0 of 0 Pods are new"),
    ],
)
def test_when_a_rollout_is_complete(state: Json, complete: bool, progress: str) -> None:
    found = rollout(**state)
    assert (found.complete, found.progress) == (complete, progress)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["metadata", "spec", "status", "template", "containers", "env", "replicas", "updatedReplicas"]
            ),
            inner,
        )
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), _JSON))
@settings(max_examples=50)
def test_whatever_a_deployment_says_has_a_digest(body: Json) -> None:
    found = rollout_of(body)
    assert found == rollout_of(copy.deepcopy(body))
    assert all(len(digest) == 8 for digest in (found.template.code, found.template.config, found.template.rest))


def test_no_value_of_the_environment_is_kept() -> None:
    said = rollout(env=[{"name": "PASSWORD", "value": "hunter2"}])
    assert "hunter2" not in repr(said)


# ---------------------------------------------------------------------------------------------------------- comparing

APP = HerokuApp(
    name="acme-pdf",
    maintenance=False,
    own_hostname="",
    processes=(Process("web", 2, "Standard-1X"), Process("worker", 1, "Standard-1X")),
    certificates=(Certificate(HOSTS, CERTIFICATE_ENDS + timedelta(days=60)),),
)
KNOWN = compare(ReleasesStatus(of="x"), news(release(42), app=APP), rollout(), HOSTS, START).status


def test_what_is_seen_first_is_no_change() -> None:
    compared = compare(ReleasesStatus(of="x"), news(release(42), app=APP), rollout(new=1), HOSTS, START)
    assert compared.changes == ()
    assert (compared.status.ahead, compared.status.evidence_from, compared.status.rolling) == (None, None, ())
    again = compare(KNOWN, news(release(42), app=APP), rollout(), HOSTS, START + 60)
    assert (again.changes, again.status) == ((), KNOWN)


@pytest.mark.parametrize(
    ("releases", "says"),
    [
        ([release(43, "slug-b", "Deploy 1a2b")], "Heroku released v43 (Deploy 1a2b): code changed"),
        ([release(43, description="Set FOO config vars")], "v43 (Set FOO config vars): configuration changed"),
        ([release(43, description="Update DATABASE by heroku-postgresql")], "configuration changed"),
        ([release(43, "slug-b"), release(44, "slug-b")], "v43, v44: code and configuration changed"),
        # There and back again: the code is what it was, and it was changed.
        ([release(43, "slug-b"), release(44, "slug-a", "Rollback to v42")], "v44 (Rollback to v42): code changed"),
        ([release(43, succeeded=False, current=False), release(44, "slug-b")], "Heroku released v44: code"),
        ([release(version) for version in range(43, 50)], "released 3 more, v46, v47, v48, v49: configuration"),
        # The operator was away for longer than the API's answer tells.
        ([release(version, "slug-b") for version in range(90, 92)], "released 47 more, v90, v91: code and"),
        # Another app of the same name.
        ([release(3, "slug-c")], "released v3: code changed"),
    ],
)
def test_what_is_told_of_releases(releases: list[Release], says: str) -> None:
    compared = compare(KNOWN, news(release(42), *releases), None, HOSTS, START)
    if releases[-1].version < 42:
        compared = compare(KNOWN, news(*releases), None, HOSTS, START)
    (change,) = compared.changes
    assert change.reason == "HerokuReleased"
    assert says in change.message
    assert compared.status.heroku_version == releases[-1].version
    assert compared.status.ahead is LegName.HEROKU
    assert compared.status.evidence_from == START + HEROKU_SETTLES_SECONDS


@pytest.mark.parametrize(
    "releases",
    [
        [release(43, "slug-b", current=False, succeeded=False)],  # its release phase runs, or failed
        [],
    ],
)
def test_a_release_that_is_not_in_force_is_none(releases: list[Release]) -> None:
    compared = compare(KNOWN, news(release(42), *releases), None, HOSTS, START)
    assert (compared.status, compared.changes) == (KNOWN, ())
    assert compare(KNOWN, HerokuNews(releases=()), None, HOSTS, START).status == KNOWN


def played(*moves: str, minutes: float = 1) -> ReleasesStatus:
    """Return what is known after moves that are ``minutes`` apart: of Heroku, of EKS' image or environment, and back."""
    status, version, image, env, now, restarts = KNOWN, 42, "pdf:1", "a", START, 0
    for move in moves:
        now += 60 * minutes
        version += move in ("heroku", "both")
        image = {"eks": f"{image}+", "both": f"{image}+", "back": "pdf:1"}.get(move, image)
        env = f"{env}+" if move == "env" else env
        template: Json = {"image": image}
        if env != "a":
            template["env"] = [{"name": "A", "value": env}]
        if move == "resources":
            template["resources"] = {}
        restarts += move == "restart"
        if restarts:
            template["annotations"] = {"kubectl.kubernetes.io/restartedAt": str(restarts)}
        status = compare(status, news(release(version, f"slug-{version}")), rollout(**template), HOSTS, now).status
    return status


BEHIND = 31.0  # minutes, after which a rollout no longer follows a release


@pytest.mark.parametrize(
    ("moves", "minutes", "ahead"),
    [
        ((), 1, None),
        (("heroku",), 1, LegName.HEROKU),
        (("heroku", "eks"), 1, None),
        (("heroku", "eks"), 600, None),
        (("heroku", "env"), 600, None),
        (("heroku", "heroku", "eks"), 1, None),
        (("heroku", "resources"), 1, LegName.HEROKU),
        (("eks",), BEHIND, LegName.EKS),
        (("eks", "eks"), BEHIND, LegName.EKS),
        (("env",), BEHIND, LegName.EKS),
        (("eks", "heroku"), BEHIND, None),
        (("eks", "heroku", "heroku"), BEHIND, LegName.HEROKU),
        (("resources",), BEHIND, None),
        # Values of a Secret may have come with a restart, but it is no release of EKS' own.
        (("restart",), BEHIND, None),
        (("restart", "restart"), BEHIND, None),
        (("heroku", "restart"), 600, None),
        (("eks", "restart"), BEHIND, LegName.EKS),
        (("restart", "heroku"), BEHIND, LegName.HEROKU),
        (("eks", "back"), BEHIND, None),
        (("both",), 1, None),
        # Two merges in a row, and each leg has a pipeline of its own.
        (("heroku", "heroku", "eks", "eks"), 5, None),
        (("heroku", "eks", "eks"), BEHIND, LegName.EKS),
    ],
)
def test_which_leg_is_ahead(moves: tuple[str, ...], minutes: float, ahead: LegName | None) -> None:
    assert played(*moves, minutes=minutes).ahead is ahead


def test_a_rollout_that_is_under_way_answers_nothing_yet() -> None:
    status = played("heroku")
    begun = compare(status, None, rollout(image="pdf:2", new=1), HOSTS, START + 600)
    assert [change.message for change in begun.changes] == ["EKS is rolling out (1 of 3 Pods are new): code changed"]
    assert (begun.status.ahead, begun.status.rolling) == (LegName.HEROKU, ("code",))
    more = compare(begun.status, None, rollout(image="pdf:2", env=[], new=2), HOSTS, START + 700)
    assert more.status.rolling == ("code", "configuration")
    done = compare(more.status, None, rollout(image="pdf:2", env=[]), HOSTS, START + 800)
    assert (done.status.ahead, done.status.rolling, done.changes) == (None, (), ())
    assert done.status.evidence_from == START + 800 + EKS_SETTLES_SECONDS


@pytest.mark.parametrize(
    ("app", "reason", "says", "begins_anew"),
    [
        (replace(APP, maintenance=True), "MaintenanceMode", "maintenance mode of acme-pdf is on: Heroku", True),
        (replace(APP, processes=(Process("web", 5, "Standard-1X"), APP.processes[1])), "DynosChanged", "web 5", False),
        (replace(APP, processes=(Process("web", 2, "Performance-M"), APP.processes[1])), "DynosChanged", "-M", True),
        (replace(APP, processes=(APP.processes[0], Process("worker", 0, "Standard-1X"))), "DynosChanged", "0", True),
        (
            replace(APP, certificates=(Certificate(HOSTS, CERTIFICATE_ENDS),)),
            "CertificateEnds",
            "pdf.example.com 2027-01-17; after that day DNS cannot send users back",
            False,
        ),
    ],
)  # fmt: skip
def test_what_is_told_of_the_app(app: HerokuApp, reason: str, says: str, begins_anew: bool) -> None:
    compared = compare(KNOWN, news(release(42), app=app), None, HOSTS, START)
    (change,) = compared.changes
    assert change.reason == reason
    assert says in change.message
    assert (compared.status.evidence_from is not None) is begins_anew
    assert compared.status.ahead is None
    again = compare(compared.status, news(release(42), app=app), None, HOSTS, START + 900)
    assert again.changes == ()


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ((timedelta(days=8),), False),
        ((timedelta(days=6), timedelta(days=90)), False),  # the next one is there already
        ((timedelta(days=6),), True),
        ((timedelta(days=-1),), True),
        ((), False),
    ],
)
def test_a_certificates_end_is_told_a_week_before(ends: Sequence[timedelta], told: bool) -> None:
    now = datetime.fromtimestamp(START, UTC)
    app = replace(APP, certificates=tuple(Certificate(HOSTS, now + left) for left in ends))
    assert bool(compare(KNOWN, news(app=app), None, HOSTS, START).changes) is told


def test_what_the_key_may_not_see_stays_unknown() -> None:
    hidden = HerokuApp(name="acme-pdf", maintenance=False, own_hostname="")
    compared = compare(KNOWN, news(release(42), app=hidden), None, HOSTS, START)
    assert (compared.status, compared.changes) == (KNOWN, ())


def test_a_clock_that_is_set_back_does_not_put_evidence_off() -> None:
    status = KNOWN.evolve(evidence_from=START + 7200)
    assert compare(status, None, None, HOSTS, START).status.evidence_from == START + HEROKU_SETTLES_SECONDS


def test_names_of_others_are_bounded_and_plain() -> None:
    processes = tuple(Process(f"\u202e{number}" + "x" * 500, 1, "\x1b[31m") for number in range(100))
    status = compare(ReleasesStatus(of="x"), news(app=replace(APP, processes=processes)), None, HOSTS, START).status
    text = repr(status)
    assert len(text) < 3000
    assert "\\u202e" not in text
    assert "\\x1b" not in text


# ---------------------------------------------------------------------------------------------------- in a cutover

BEFORE, AFTER = news(release(42)), news(release(42), release(43, "slug-b", "Deploy 1a2b"))


@cache
def _judging() -> World:
    w = checked_world(
        steps=[{"weight": 10, "hold": "60s"}, {"weight": 50, "hold": "60s"}, {"weight": 100, "hold": "60s"}]
    )
    w.news, w.rollout = BEFORE, rollout()
    return w.until_judging(10)


def judging() -> World:
    return _judging().copy()


def safety(w: World) -> float:
    assert w.status.evidence is not None
    assert w.status.evidence.safety is not None
    return w.status.evidence.safety


def test_a_release_on_one_side_in_mid_step_is_told_and_holds_until_eks_rolls_out() -> None:
    w = judging().until(lambda status: bool(status.evidence and (status.evidence.safety or 0) > 1.1))
    w.news = AFTER
    w.until_reason("LegsDiffer", within=10)
    assert safety(w) <= 1.0, "what the code before earned"
    (entry,) = [entry for entry in w.status.ledger if entry.decision == "Change"]
    assert (entry.reason, entry.message) == ("HerokuReleased", "Heroku released v43 (Deploy 1a2b): code changed")
    assert [event.kind for event in w.told("HerokuReleased")] == ["Normal"]
    w.run(600)
    assert (w.status.weight, w.status.reason) == (10, "LegsDiffer"), "the evidence is enough, and the legs differ"
    assert safety(w) >= 20
    w.rollout = rollout(image="pdf:2", new=1)
    w.run(60)
    assert "EKS is rolling out (code): 1 of 3 Pods are new" in w.status.message
    assert safety(w) <= 1.0
    w.rollout = rollout(image="pdf:2")
    rolled = w.now
    w.until(lambda status: status.weight == 50)
    assert w.now - rolled >= EKS_SETTLES_SECONDS + 60, "the step's hold is for the new code"


def test_evidence_of_harm_stays_and_leads_back() -> None:
    w = judging()
    w.eks = DEAD
    w.until(lambda status: bool(status.evidence and status.evidence.harm > 5))
    w.news, w.rollout = AFTER, rollout(image="pdf:2", new=1)
    began = w.now
    w.until_phase(Phase.ROLLED_BACK, within=60)
    assert w.now - began < 60
    assert w.decided("RollBack") == [(10, 0)]


def test_a_person_says_that_the_legs_are_alike() -> None:
    w = judging()
    w.rollout = rollout(image="pdf:2")
    w.until_reason("LegsDiffer", within=10)
    assert "EKS changed and Heroku did not since: code" in w.status.message
    assert "cutover.dev/skip-hold=a1-w50/LegsDiffer" in w.status.message
    w.annotations["cutover.dev/skip-hold"] = "a1-w50/LegsDiffer by jane@example.com"
    w.until(lambda status: status.weight == 50)
    (skip,) = [entry for entry in w.status.ledger if entry.decision == "Skip"]
    assert (skip.reason, skip.by) == ("LegsDiffer", "jane@example.com")
    assert w.status.releases is not None
    assert w.status.releases.ahead is None, "the word is for this difference, and not for one step only"
    w.until_phase(Phase.SOAKING)


def test_a_change_before_the_first_step_holds_it() -> None:
    w = checked_world()
    w.news, w.rollout = BEFORE, rollout()
    w.until_phase(Phase.BASELINE).step()
    w.news = AFTER
    w.until_reason("LegsDiffer")
    assert w.status.weight == 0
    w.rollout = rollout(image="pdf:2")
    w.until_judging(10)


def test_at_100_percent_a_release_is_told_and_nothing_else() -> None:
    w = judging().until_phase(Phase.SOAKING)
    w.rollout = rollout(image="pdf:2")
    left = w.now
    w.until_phase(Phase.COMPLETED)
    assert w.now - left < 120, "the soak does not begin anew with each release"
    assert [entry.reason for entry in w.status.ledger if entry.decision == "Change"] == ["EksRolledOut"]
    assert not w.told("LegsDiffer")
    assert not releases_wanted(w.status)


def test_dynos_that_scale_by_themselves_are_told_once_for_a_weight() -> None:
    w = checked_world(steps=[{"weight": 10, "hold": "10m"}, {"weight": 100}])
    w.news = news(release(42), app=APP)
    w.until_judging(10)
    worker = APP.processes[1]
    for number in range(3, 9):
        w.news = news(release(42), app=replace(APP, processes=(Process("web", number, "Standard-1X"), worker)))
        w.run(30)
    assert [entry.reason for entry in w.status.ledger if entry.decision == "Change"].count("DynosChanged") <= 2
    assert safety(w) > 1.0, "as many dynos more or less are the same control"


def test_herokus_api_goes_away_in_mid_cutover() -> None:
    """Told once, and nothing moves or is held for it."""
    alone, w = judging(), judging()
    w.news = replace(BEFORE, problem="Heroku does not accept the API key: it is wrong, or was revoked")
    w.run(20)
    assert w.status.releases is not None
    assert w.status.releases.problem == w.news.problem
    (event,) = w.told("HerokuApiUnavailable")
    assert event.kind == "Warning"
    assert "nothing is held for it" in event.message
    ends = []
    for one in (alone, w):
        one.until_phase(Phase.COMPLETED)
        ends.append([(entry.decision, entry.to_weight) for entry in one.status.ledger])
    assert ends[0] == ends[1]
    assert not [entry for entry in w.status.ledger if entry.decision == "Change"]
    assert len(w.told("HerokuApiUnavailable")) == 1
    w.run(600)
    assert w.status.releases is not None
    assert w.status.releases.problem == "", "an alert on a plan that is done would never end"
    assert not w.told("HerokuApiAnswers")


def test_a_key_that_works_again_is_told_and_what_was_missed_is_noticed() -> None:
    w = judging()
    w.news = HerokuNews(problem="Heroku's API cannot be reached: ConnectError")
    w.run(10)
    w.restart()
    w.news = HerokuNews(problem=None)
    w.run(10)
    assert not w.told("HerokuApiAnswers"), "nothing is known yet"
    w.news = AFTER
    w.until_reason("LegsDiffer", within=10)
    assert len(w.told("HerokuApiAnswers")) == 1
    assert w.status.releases is not None
    assert w.status.releases.problem == ""


def test_another_app_or_attempt_begins_anew() -> None:
    w = checked_world(ceiling=0)
    w.news, w.rollout = BEFORE, rollout()
    w.until_reason("Ceiling")
    w.edit(heroku={"app": "acme-other", "hostname": "acme-other-1a2b3c4d5e6f.herokuapp.com"})
    w.news = news(release(7, "slug-z"))
    w.run(20)
    assert w.status.releases is not None
    assert (w.status.releases.heroku_version, w.status.releases.ahead) == (7, None)
    w.edit(ceiling=100)
    w.until_judging(10)
    w.eks = DEAD
    w.until_phase(Phase.ROLLED_BACK)
    w.edit(attempt=2)
    w.until_phase(Phase.PREFLIGHT)
    assert w.status.releases is None


def test_pairs_from_before_a_change_are_no_evidence() -> None:
    step = PairedStep(1, 10, 50, since=START + 60)
    pairs = enter(NO_PAIRS, step)
    for seconds in range(0, 60, 5):
        pairs = take(pairs, Pair(START + seconds, START + seconds, Worth.GOOD, Worth.GOOD))
    assert pairs.safety is not None
    assert pairs.safety.pairs == 0
    pairs = take(pairs, Pair(START + 61, START + 61, Worth.GOOD, Worth.GOOD))
    assert pairs.safety is not None
    assert pairs.safety.pairs == 1


def test_the_step_of_the_pairs_begins_anew_with_a_change() -> None:
    traffic = {**spec_fields()["traffic"], "probe": {"paths": ["/"], "rate": 1.0}}
    w = checked_world(gates={**gates_of(), "insufficientTraffic": "AcceptProbes"}, traffic=traffic)
    w.news, w.rollout = BEFORE, rollout()
    w.until_judging(10)
    before = paired_step(w.plan())
    w.news = AFTER
    w.run(5)
    after = paired_step(w.plan())
    assert before is not None
    assert after is not None
    assert after.since > before.since


# ------------------------------------------------------------------------------- nothing lost, nothing told twice

_MOVES = st.lists(
    st.sampled_from(["heroku", "eks", "fails", "works", "restart", "crash", "wait", "API away", "API back"]),
    max_size=14,
)


@given(_MOVES)
@settings(max_examples=40)
def test_no_release_is_lost_or_told_twice(moves: list[str]) -> None:
    w = judging()
    version, image = 42, 1
    releases = [release(42)]
    for move in moves:
        match move:
            case "heroku":
                version += 1
                releases.append(release(version, f"slug-{version}"))
                w.news = news(*releases)
            case "eks":
                image += 1
                w.rollout = rollout(image=f"pdf:{image}")
            case "fails" | "works":
                w.status_writes_fail = move == "fails"
            case "restart":
                w.restart()
            case "crash":
                w.crash_at = (len(w.actions), "after")
            case "API away" | "API back":
                w.news = HerokuNews(problem="away") if move == "API away" else news(*releases)
        w.step()
    w.status_writes_fail, w.crash_at, w.news = False, None, news(*releases)
    w.run(20)
    told: dict[tuple[datetime, str], LedgerEntry] = {}
    for _, status in w.writes:
        for entry in status.ledger:
            if entry.decision == "Change":
                told.setdefault((entry.at, entry.message[:60]), entry)  # old messages are cut
    released = [entry.releases for entry in told.values() if entry.releases is not None]
    assert len(released) == sum(entry.reason == "HerokuReleased" for entry in told.values())
    assert all(
        f"v{version}" in entry.message for entry in told.values() if entry.releases for version in entry.releases.named
    )
    named = Counter(version for one in released for version in one.named)
    more = sum(one.more for one in released)
    assert set(named.values()) <= {1}
    assert sum(named.values()) + more == version - 42
    assert sum(entry.reason == "EksRolledOut" for entry in told.values()) <= image - 1
    assert w.status.releases is not None
    assert w.status.releases.heroku_version == version
    assert w.status.releases.eks == rollout(image=f"pdf:{image}").template
    events = Counter(event.message for event in w.events if event.reason == "HerokuReleased")
    assert set(events.values()) <= {1}
    changed = (version > 42, image > 1)
    assert (w.status.releases.ahead is not None) <= any(changed)
