"""The four services of the demo, and the faults that hit them."""

from __future__ import annotations

from dataclasses import dataclass

from demoapps.knobs import KnobChanges

#: Users' requests per second to each service: more would hardly be quicker, as the judge caps what a moment may tell.
RATE = 40.0
#: Seconds after which users count as harmed although they got an answer. Healthy answers take milliseconds.
SLOW_SECONDS = 2.0
#: The weights that the plans go through.
STEPS = (10, 25, 50, 100)


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong on the EKS leg, and when.

    Parameters
    ----------
    weight
        It begins once this weight has been observed at the gateway.
    knobs
        What is turned on the EKS app.
    words
        The same for people.
    """

    weight: int
    knobs: KnobChanges
    words: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """One service and its fault, if it has one."""

    service: str
    fault: Fault | None = None

    @property
    def words(self) -> str:
        """What is special about the service."""
        return self.fault.words if self.fault else "healthy"

    @property
    def expected_phase(self) -> str:
        """The phase that its plan has to end in."""
        return "RolledBack" if self.fault else "Completed"

    @property
    def expected_path(self) -> tuple[int, ...]:
        """The weights that its plan has to go through."""
        if self.fault is None:
            return STEPS
        return (*(weight for weight in STEPS if weight <= self.fault.weight), 0)


SCENARIOS = (
    Scenario("pdf"),
    Scenario("images", Fault(25, {"error_ratio": 0.03}, "EKS fails 3 %, from weight 25 on")),
    Scenario(
        "search",
        Fault(50, {"slow_ratio": 0.02, "slow_ms": 8000.0}, "EKS slows 2 % by 8 s, from weight 50 on"),
    ),
    Scenario("account", Fault(10, {"status": 401}, "EKS knows no session (401), from weight 10 on")),
)
