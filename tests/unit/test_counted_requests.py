"""What is counted are the plan's own requests, and a plan says where they are not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.kit.builders import GATEWAY
from tests.kit.fake_tsdb import EKS, HEROKU, NAMESPACE, START, FakePrometheus, Gateway
from tests.kit.states import checked_world, judging_world
from tests.kit.target import READY, named
from tests.kit.world import FAILING

from cutover.adapters.dialects.istio.counters import IstioLabels
from cutover.api.v1alpha1 import BlockStatus, Phase
from cutover.domain.evidence.blocks import Block
from cutover.domain.evidence.counters import PLACE_LABELS, Counter
from cutover.domain.evidence.counting import Reading, cut
from cutover.domain.holds import HoldReason


def block_of(*gateways: Gateway, heroku: str = HEROKU, eks: str = EKS) -> Block:
    """Serve 60 requests of Heroku at the first gateway and 30 of EKS at the last; return the block of a plan's legs."""
    tsdb = FakePrometheus()
    for gateway in gateways:
        gateway.serve(HEROKU if gateway is gateways[0] else EKS, times=10)
        gateway.scrape(tsdb, START - 10)
        gateway.serve(HEROKU if gateway is gateways[0] else EKS, times=60 if gateway is gateways[0] else 30)
        gateway.scrape(tsdb, START + 5)
    window = "[52500ms]"
    reading = Reading()
    reading.add_presence(tsdb.select("up{}" + window, START + 15))
    reading.add_counters(
        Counter.of(item, IstioLabels) for item in tsdb.select("istio_requests_total{}" + window, START + 15)
    )
    (block,) = cut(
        reading,
        heroku=heroku,
        eks=eks,
        namespaces=[NAMESPACE],
        slow_ms=None,
        very_slow_ms=None,
        start=START,
        end=START + 15,
        length=15,
        reach=37.5,
    )
    return block


@pytest.mark.parametrize("label", PLACE_LABELS)
def test_gateways_of_two_clusters_are_not_added(label: str) -> None:
    block = block_of(Gateway("gw-a", {label: "prod"}), Gateway("gw-b", {label: "staging"}))
    assert block.ambiguous
    assert f"have the label {label} of prod and staging" in block.gap
    assert f"set matchers: {{{label}: …}} for this Prometheus" in block.gap


def test_gateways_of_two_clusters_are_no_matter_for_a_plan_that_they_do_not_serve() -> None:
    gateways = Gateway("gw-a", {"cluster": "prod"}), Gateway("gw-b", {"cluster": "staging"})
    block = block_of(*gateways, heroku="acme-other.herokuapp.com", eks="other.shop.svc.cluster.local")
    assert (block.gap, block.heroku.requests, block.eks.requests) == ("", 0, 0)


def test_two_pods_of_one_name_in_two_clusters_are_not_added() -> None:
    assert block_of(Gateway("gw-0", {"cluster": "a"}), Gateway("gw-0", {"cluster": "b"})).ambiguous


@pytest.mark.parametrize("more", [{"cluster": "prod"}, {}, {"zone": "b"}])
def test_gateways_of_one_cluster_are_added(more: dict[str, str]) -> None:
    """A label that some of them lack tells nothing: one job may have it."""
    block = block_of(Gateway("gw-a", {"cluster": "prod"}), Gateway("gw-b", more))
    assert (block.gap, block.heroku.requests, block.eks.requests) == ("", 60, 30)


def test_a_plan_holds_while_its_requests_are_those_of_several_clusters() -> None:
    w = judging_world(10)
    w.clusters = "the gateways have the label cluster of prod and staging; set matchers"
    w.run(30)
    assert w.status.reason == HoldReason.AMBIGUOUS
    assert "prod and staging" in w.status.message
    w.run(60)
    assert w.status.reason == HoldReason.AMBIGUOUS, "also between two blocks"
    w.clusters = ""
    w.run(30)
    assert w.status.reason != HoldReason.AMBIGUOUS


# --------------------------------------------------------------------------------------- others to the same Service


def test_requests_of_others_at_weight_0_are_told_as_such_and_not_as_missing_dns() -> None:
    w = checked_world(rate=27.0)
    w.others = 3.0
    w.until(lambda status: status.phase is Phase.BASELINE).run(200)
    assert w.status.reason == HoldReason.SHARE_NOT_OBSERVED
    assert "EKS gets 3.0 requests/s although its weight is 0: other routes or clients send to pdf." in w.status.message
    assert "DNS" not in w.status.message
    w.others = 0.0
    w.until(lambda status: status.weight == 10)


def test_requests_of_others_in_a_step_are_told_where_the_gateway_has_the_weight() -> None:
    w = checked_world(rate=30.0).until(lambda status: status.weight == 25)
    w.others = 20.0
    w.until(lambda status: status.reason == HoldReason.SHARE_NOT_OBSERVED)
    assert "% of all, although its weight is 25: other routes or clients" in w.status.message


def test_requests_of_others_after_the_share_was_seen_hold_the_step_until_they_are_few() -> None:
    """They would be most of the evidence: good answers that drown the plan's own."""
    w = checked_world(rate=30.0).until_judging(50)
    w.others = 8.0
    w.until_reason(HoldReason.SHARE_NOT_OBSERVED)
    assert (
        "of this step's requests although its weight is 50: other routes or clients send to pdf." in w.status.message
    )
    w.run(900)
    assert w.status.weight == 50
    w.others = 0.0
    w.until(lambda status: status.weight == 100, within=7200.0)


def test_who_sends_to_the_same_service_is_named_where_the_share_shows_it() -> None:
    w = checked_world(rate=30.0).until_judging(25)
    service = w.plan().spec.eks.service.name
    route = {
        "hosts": ["evil.example.com"],
        "gateways": [GATEWAY],
        "http": [
            {
                "fault": {"abort": {"httpStatus": 503, "percentage": {"value": 100}}},
                "route": [{"destination": {"host": f"{service}.shop.svc.cluster.local"}}],
            }
        ],
    }
    w.target = replace(READY, virtual_services=(named("hostile", "theirs", spec=route),))
    w.others = 30.0
    w.until(lambda status: "hostile/theirs" in status.message)
    assert w.status.reason == HoldReason.SHARE_NOT_OBSERVED
    assert "VirtualService hostile/theirs (evil.example.com) sends to Service pdf" in w.status.message


def test_requests_of_others_keep_no_plan_from_its_rollback() -> None:
    """With many of them Heroku seems to answer far less than its weight, and going back to a dead Heroku is no rescue."""
    w = checked_world(rate=30.0).until_judging(25)
    w.others = 40.0
    w.until_reason(HoldReason.SHARE_NOT_OBSERVED)
    w.run(60)
    w.eks = FAILING
    w.until_phase(Phase.ROLLED_BACK)


@pytest.mark.parametrize(("weight", "others"), [(1, 2.0), (2, 2.9), (5, 2.0)])
def test_few_requests_of_others_at_a_small_weight_keep_no_plan_from_its_rollback(weight: int, others: float) -> None:
    """At 1 % two requests of a hundred are twice the share, and make Heroku look dead."""
    steps = [{"weight": weight, "hold": "1h"}, {"weight": 50, "hold": "1h"}, {"weight": 100}]
    w = checked_world(rate=100.0, steps=steps).until_judging(weight)
    w.others = others
    w.run(300)
    w.eks = FAILING
    w.until_phase(Phase.ROLLED_BACK, within=300)


def test_requests_of_others_move_no_users_up() -> None:
    steps = [{"weight": 10, "hold": "30s"}, {"weight": 50, "hold": "1h"}, {"weight": 100, "hold": "30s"}]
    w = checked_world(rate=30.0, steps=steps, onHerokuDown={"action": "Forward", "after": "2m"}).until_judging(50)
    w.target = READY
    w.run(600)
    w.others = 60.0
    w.run(1200)
    assert w.status.weight == 50
    assert w.status.reason == HoldReason.SHARE_NOT_OBSERVED


# --------------------------------------------------------------------------------------------------- length of blocks


def test_a_block_that_is_too_short_is_told_and_the_plan_goes_on() -> None:
    w = judging_world(10)
    w.scrape_seconds = 30.0
    w.run(60)
    assert w.status.blocks == BlockStatus(scrape_seconds=30.0, seconds=30)
    (told,) = (one for one in w.status.conditions if one.type == "BlockLengthened")
    assert (told.status, told.reason) == ("True", "ScrapedTooRarely")
    assert told.message.startswith(
        "gates.block: 5s is shorter than the time between two scrapes of the gateways, 30 s"
    )
    w.edit(gates={"warmUp": "5s"})
    w.until(lambda status: status.weight == 100, within=36_000)
    assert "BlockLengthened" not in {one.type for one in w.status.conditions}
    assert {block.end - block.start for block in w.blocks} == {5.0, 30.0}
