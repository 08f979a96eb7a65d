"""The list of what is left on Heroku: by what Heroku's API, DNS and the drain tell, and honest where they tell nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.world import World, plan_spec

from cutover.api.v1alpha1 import DecommissionItem, DecommissionState, Phase
from cutover.domain.commands.annotations import ROLLBACK_ANNOTATION
from cutover.domain.decommission import LONGEST_MESSAGE, checklist
from cutover.domain.dns import HostRecord
from cutover.domain.engine.actions import Decision, WriteStatus
from cutover.domain.engine.decide import decide
from cutover.domain.heroku import Addon, Certificate, Domain, HerokuApp, HerokuReading, Price, Process
from cutover.domain.plan import Plan

ORDER = ["dns", "requests", "jobs", "dynos", "plan", "domains", "databases", "add-ons", "drains", "app"]
APP = HerokuApp(
    name="acme-pdf",
    maintenance=False,
    own_hostname="acme-pdf-1a2b3c.herokuapp.com",
    processes=(Process("web", 2, "Standard-1X"), Process("worker", 1, "Standard-2X"), Process("clock", 0, "Basic")),
    domains=(Domain("acme-pdf-1a2b3c.herokuapp.com"), Domain("pdf.example.com", "quiet-moon-1234.herokudns.com")),
    certificates=(Certificate(("pdf.example.com",), datetime(2027, 2, 10, tzinfo=UTC)),),
    addons=(
        Addon("heroku-postgresql", "standard-0", price=Price(5000)),
        Addon("scheduler", "standard", price=Price(0)),
        Addon("papertrail", "choklad", price=Price(750)),
    ),
    drains=2,
)
#: The same app once everything is switched off but the app itself.
BARE = replace(
    APP, processes=(Process("web", 0, "Basic"),), domains=APP.domains[:1] if APP.domains else (), addons=(), drains=0
)
LED_AWAY = (HostRecord("pdf.example.com", 60, ("lb.example.net",)),)


def plan(**changes: Any) -> Plan:
    return Plan("shop", "pdf", "1", 1, plan_spec(**changes))


def listed(
    heroku: HerokuReading | None = None,
    dns: tuple[HostRecord, ...] = (),
    requests: float | None = None,
    **changes: Any,
) -> dict[str, DecommissionItem]:
    items = checklist(plan(**changes), heroku, dns, requests)
    assert [one.item for one in items] == ORDER, "the order in which to switch off"
    return {one.item: one for one in items}


def states(items: dict[str, DecommissionItem]) -> dict[str, str]:
    return {name: str(one.state) for name, one in items.items()}


def test_without_a_key_nothing_is_claimed() -> None:
    assert states(listed()) == dict.fromkeys(ORDER, "Unknown") | {"plan": "Open"}


def test_what_runs_on() -> None:
    items = listed(
        HerokuReading(APP, at=1.0), (HostRecord("pdf.example.com", 3600, ("quiet-moon-1234.herokudns.com",)),), 41
    )
    assert states(items) == dict.fromkeys(ORDER, "Open")
    for name, says in {
        "dns": "DNS leads pdf.example.com to quiet-moon-1234.herokudns.com: point it at the gateway, and wait 60 min or more",
        "requests": "41 requests came to Heroku's router in the last 24 h",
        "jobs": "worker (1), scheduler run on: move each job to EKS",
        "dynos": "2 Standard-1X dynos run on, 2,190 dyno-hours a month with the other process types: heroku maintenance:on --app"
        " acme-pdf for a day",
        "domains": "pdf.example.com: remove them once DNS has left",
        "databases": "heroku-postgresql standard-0, $50.00 a month: find out who uses it",
        "add-ons": "papertrail choklad, $7.50 a month: keep what they have recorded",
        "drains": "2 log drains: heroku drains:remove",
        "app": "revoke the API key",
    }.items():
        assert says in items[name].message, name
    assert "certificate there ends on 2027-02-10" in items["domains"].message


@pytest.mark.parametrize(
    ("prices", "says"),
    [
        ((Price(750), Price(125_050)), "$1,258.00 a month"),
        ((Price(0),), "$0.00 a month"),
        ((None, Price(750)), "$7.50 a month and 1 at a price that is not known"),
        ((None,), "1 at a price that is not known"),
        ((Price(0, contract=True), Price(3, "unit", metered=True)), "1 by contract and 1 by use"),
        ((Price(2, "hour"),), "1 at a price that is not known"),
    ],
)
def test_what_add_ons_cost_as_far_as_the_api_says(prices: tuple[Price | None, ...], says: str) -> None:
    others = replace(APP, addons=tuple(Addon("papertrail", price=price) for price in prices))
    assert f", {says}: keep" in listed(HerokuReading(others, at=1.0))["add-ons"].message


def test_what_is_done() -> None:
    done = dict.fromkeys(ORDER, "Done") | {"plan": "Open", "app": "Open"}
    assert states(listed(HerokuReading(BARE, at=1.0), LED_AWAY, 0.0)) == done


def test_what_a_key_may_not_see_and_outages_are_unknown() -> None:
    hidden = replace(APP, addons=None, domains=None, processes=None, drains=None)
    unknown = {name for name, state in states(listed(HerokuReading(hidden, at=1.0))).items() if state == "Unknown"}
    assert unknown == set(ORDER) - {"plan", "app"}
    away = listed(HerokuReading(problem="Heroku does not accept the API key"))
    assert states(away) == dict.fromkeys(ORDER, "Unknown") | {"plan": "Open"}
    assert "does not accept the API key" in away["app"].message


def test_hosts_that_nobody_can_ask_about() -> None:
    failed = (HostRecord("pdf.example.com", problem="no answer within 5 s"),)
    assert "pdf.example.com (no answer within 5 s)" in listed(dns=failed)["dns"].message
    told = listed(dns=LED_AWAY, istio={"hosts": ["pdf.example.com", "*.pdf.example.com"]})["dns"]
    assert (str(told.state), "*.pdf.example.com (a wildcard)" in told.message) == ("Unknown", True)


def test_a_plan_that_would_send_users_back_when_it_is_deleted() -> None:
    assert "set it to Rest before you delete the plan" in listed(onDelete="Heroku")["plan"].message


TEXTS = st.text(max_size=300)
APPS = st.builds(
    HerokuApp,
    name=TEXTS,
    maintenance=st.booleans(),
    own_hostname=TEXTS,
    processes=st.none() | st.lists(st.builds(Process, TEXTS, st.integers(0, 999), TEXTS), max_size=30).map(tuple),
    domains=st.none() | st.lists(st.builds(Domain, TEXTS, TEXTS), max_size=30).map(tuple),
    addons=st.none()
    | st.lists(
        st.builds(Addon, TEXTS, TEXTS, st.just(()), st.none() | st.builds(Price, st.integers())), max_size=30
    ).map(tuple),
    drains=st.none() | st.integers(0, 9),
)


@given(app=st.none() | APPS, problem=TEXTS, requests=st.none() | st.floats(0, 1e15))
def test_the_list_is_short_and_safe_to_show_whatever_others_wrote(
    app: HerokuApp | None, problem: str, requests: float | None
) -> None:
    for one in listed(HerokuReading(app, problem), (), requests).values():
        assert len(one.message) <= LONGEST_MESSAGE
        assert one.message.isprintable()


# -------------------------------------------------------------------------------------------------------- in the status


def decided(world: World, **seen: Any) -> Decision:
    return decide(world.plan(), replace(world.observe(), **seen), world.now)


def test_the_list_is_written_when_it_changes_and_an_outage_takes_nothing_back() -> None:
    world = World().until_phase(Phase.COMPLETED)
    assert [one.item for one in world.stored.decommission] == ORDER
    assert decided(world).actions == ()
    known = decided(world, heroku=HerokuReading(APP, at=1.0), dns=LED_AWAY, last_requests=0.0)
    assert WriteStatus in {type(action) for action in known.actions}
    assert known.status.message.startswith("all traffic is on EKS and the soak is over; still on Heroku, see")
    world.working = known.status
    for outage in (HerokuReading(problem="away"), HerokuReading()):
        assert decided(world, heroku=outage).status.decommission == known.status.decommission


def test_the_list_ends_when_users_go_back() -> None:
    world = World().until_phase(Phase.COMPLETED)
    world.annotations[ROLLBACK_ANNOTATION] = "a1"
    world.until_phase(Phase.ROLLED_BACK)
    assert world.stored.decommission == ()


@pytest.mark.parametrize("state", list(DecommissionState))
def test_an_item_reads_back(state: DecommissionState) -> None:
    item = DecommissionItem(item="dns", state=state, message="x")
    assert DecommissionItem.from_wire(item.to_wire()) == item
