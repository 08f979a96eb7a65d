"""The migrations that the kill matrix kills, and that the tests of clocks disturb."""

from __future__ import annotations

from typing import Any

from tests.kit.custom_slos import BOUND, ERRORS, FROM_TEMPLATE, RATIO, TEMPLATE, template
from tests.kit.kill_matrix import (
    Comparison,
    Happening,
    KillableWorld,
    Run,
    Scenario,
    at_gateway,
    revision_at_gateway,
    rolled_back_to,
    run,
)
from tests.kit.world import Leg, plan_spec

from cutover.api.v1alpha1 import Phase

#: Seconds of the world's time in which any scenario is at its end.
LONGEST = 900.0
GATES = {
    "block": "5s",
    "warmUp": "5s",
    "slos": [ERRORS, {"name": "latency", "latency": {}}, {**BOUND, "name": "lag"}, RATIO, FROM_TEMPLATE],
}
SPEC: dict[str, Any] = {
    "gates": GATES,
    "steps": [{"weight": weight, "hold": "15s"} for weight in (10, 25, 50, 100)],
    "soak": "20s",
    "baseline": {"backtest": True, "window": "5s"},
}


def fails(world: KillableWorld) -> None:
    world.eks = Leg(errors=0.2)


def dies(world: KillableWorld) -> None:
    world.eks = Leg(errors=1.0)


def lags(world: KillableWorld) -> None:
    world.values["lag"] = 0.9


def loses_orders(world: KillableWorld) -> None:
    world.wrong["checkout"] = (0.01, 0.3)


def heroku_dies(world: KillableWorld) -> None:
    world.heroku = Leg(errors=1.0)


def forward(world: KillableWorld) -> None:
    world.annotate(forward="a1")


def eks_recovers(world: KillableWorld) -> None:
    world.eks = Leg()


def heroku_recovers(world: KillableWorld) -> None:
    world.heroku = Leg()


def roll_back(world: KillableWorld) -> None:
    world.annotate(rollback="a1")


SCENARIOS = (
    Scenario("good", Phase.COMPLETED),
    Scenario("errors at 25 %", Phase.ROLLED_BACK, happenings=(Happening(at_gateway(25), 8, fails),)),
    Scenario("bound at 50 %", Phase.ROLLED_BACK, happenings=(Happening(at_gateway(50), 8, lags),)),
    Scenario("own ratio at 25 %", Phase.ROLLED_BACK, happenings=(Happening(at_gateway(25), 8, loses_orders),)),
    Scenario("dead in the soak", Phase.ROLLED_BACK, happenings=(Happening(at_gateway(100), 8, dies),)),
    Scenario(
        "rollback asked for, and no more",
        Phase.ROLLED_BACK,
        happenings=(
            Happening(at_gateway(50), 8, roll_back),
            Happening(revision_at_gateway("a1-rollback"), 0, lambda world: world.annotate(rollback="")),
        ),
    ),
    Scenario(
        "Heroku dies, all users sent to EKS",
        Phase.COMPLETED,
        happenings=(
            Happening(at_gateway(25), 8, heroku_dies),
            Happening(at_gateway(25), 40, forward),
            Happening(at_gateway(100), 30, heroku_recovers),
        ),
    ),
    Scenario(
        "attempt raised",
        Phase.COMPLETED,
        attempt=2,
        happenings=(
            Happening(at_gateway(10), 8, roll_back),
            Happening(rolled_back_to("a1-rollback"), 8, lambda world: world.edit(attempt=2)),
        ),
    ),
    Scenario(
        "template changed",
        Phase.COMPLETED,
        happenings=(Happening(at_gateway(25), 8, lambda world: world.replace_template(TEMPLATE, template(0.2, 2))),),
    ),
    Scenario(
        "route edited",
        Phase.COMPLETED,
        happenings=(Happening(at_gateway(25), 8, lambda world: world.edit_route(60)),),
    ),
    Scenario(
        "ceiling lowered",
        Phase.COMPLETED,
        happenings=(
            Happening(at_gateway(50), 8, lambda world: world.edit(ceiling=25)),
            Happening(at_gateway(25), 60, lambda world: world.edit(ceiling=100)),
        ),
    ),
    Scenario(
        "tried in vain at first",
        Phase.COMPLETED,
        happenings=(
            Happening(lambda world: world.live is None, 0, dies),
            Happening(revision_at_gateway("a1-trial"), 20, eks_recovers),
        ),
    ),
    Scenario(
        "tried, suspended and deleted",
        None,
        happenings=(
            Happening(lambda world: world.live is None, 0, dies),
            Happening(revision_at_gateway("a1-trial"), 40, lambda world: world.edit(suspend=True)),
            Happening(revision_at_gateway("ended"), 8, lambda world: world.edit(suspend=False)),
            Happening(revision_at_gateway("a1-trial"), 8, lambda world: world.delete()),
        ),
    ),
    Scenario(
        "takeover undone, and tried again",
        Phase.COMPLETED,
        attempt=2,
        spec={
            "traffic": {
                "istio": {
                    "hosts": ["pdf.example.com"],
                    "gateways": ["istio-ingress/public"],
                    "ownership": "Delegate",
                    "virtualServiceRef": {"name": "pdf"},
                }
            }
        },
        happenings=(
            Happening(revision_at_gateway("a1-w0"), 0, heroku_dies),
            Happening(revision_at_gateway("a1-given-back"), 8, heroku_recovers),
            Happening(lambda world: world.stored.failed_takeover == 1, 8, lambda world: world.edit(attempt=2)),
        ),
    ),
    Scenario("deleted at 25 %", None, happenings=(Happening(at_gateway(25), 8, lambda world: world.delete()),)),
    Scenario(
        "errors at 25 %, with outages",
        Phase.ROLLED_BACK,
        happenings=(Happening(at_gateway(25), 8, fails),),
        trouble="away",
    ),
    Scenario(
        "errors at 25 %, with conflicts",
        Phase.ROLLED_BACK,
        happenings=(Happening(at_gateway(25), 8, fails),),
        trouble="conflicts",
    ),
    Scenario(
        "errors at 25 %, with lost answers",
        Phase.ROLLED_BACK,
        happenings=(Happening(at_gateway(25), 8, fails),),
        trouble="lost",
    ),
)


def begin(scenario: Scenario) -> KillableWorld:
    """Return the world in which a scenario begins: all is well."""
    world = KillableWorld(
        spec=plan_spec(**{**SPEC, **scenario.spec}),
        rate=1500.0,
        scenario=scenario,
        templates={TEMPLATE: template(0.25)},
    )
    world.values |= {"lag": 0.1, "throttling": 0.1}
    world.wrong["checkout"] = (0.01, 0.01)
    return world


_undisturbed: dict[str, Run] = {}


def undisturbed(scenario: Scenario) -> Run:
    """Return the run in which nothing else happens, with the world at each point; it is computed once."""
    if scenario.name not in _undisturbed:
        _undisturbed[scenario.name] = run(begin(scenario), most=LONGEST, keep=True)
    return _undisturbed[scenario.name]


def told(found: list[Comparison]) -> str:
    """Return how runs differ, for the message of an assertion."""
    differences = [difference for one in found for difference in one.differences]
    return "\n".join((f"{len(differences)} differences", *differences[:20]))
