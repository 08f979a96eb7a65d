"""What the bound of false rollbacks is worth where users are drawn and not requests (``traffic.affinity``).

``python tests/bench/gates_users.py [--runs 300] [--rate 50]``. Both legs are equally good, and users are not: some send more
requests than others, and some have trouble of their own on either leg, such as a client that repeats what fails. With a draw
for each request both legs get the same mix of users at any moment. With a draw for each user they do not, and it stays so for as
long as the users stay. Nothing is asserted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from gate_worlds import EKS, ERRORS, HEROKU, REDIRECTED, REFUSED, REQUESTS, SLOW, TIMED, VERY_SLOW, Array, Trace
from gates import HOLD, WEIGHTS, Gate, intervals, percent, run, table

from cutover.domain.evidence.judge import GateRules
from cutover.domain.evidence.tolerances import between_users

BLOCK = 15
#: Longest that a step may take after its hold, seconds.
PATIENCE = 600
#: Mean length of a visit, seconds.
VISIT = 900.0
#: Standard deviation of the logarithm of users' activity: the busiest tenth makes half of the requests.
ACTIVITY = 1.3
#: Kinds of requests beside the good ones, and how many of all they are.
KINDS = (ERRORS, SLOW, VERY_SLOW, REFUSED, REDIRECTED)
USUAL = {ERRORS: 0.001, SLOW: 0.04, VERY_SLOW: 0.001, REFUSED: 0.01, REDIRECTED: 0.01}


@dataclass(frozen=True)
class Users:
    """How unlike users are.

    Parameters
    ----------
    spread
        Standard deviation of a user's ratio of each kind of request, as a multiple of its mean over all users. With 0 all
        users are alike. With 3 half of the errors come from the worst hundredth to tenth of the users.
    """

    spread: float


WORLDS = {"users alike": Users(0.0), "users differ": Users(1.0), "some in trouble": Users(3.0)}


class Crowd:
    """Users who come and go."""

    def __init__(self, rng: np.random.Generator, world: Users, users: int, rate: float) -> None:
        self.rng, self.world, self.rate = rng, world, rate
        self.activity = self._activity(users)
        self.ratios = self._ratios(users)
        self.draw = rng.random(users)

    def _activity(self, users: int) -> Array:
        return np.exp(self.rng.normal(0.0, ACTIVITY, users) - ACTIVITY**2 / 2)

    def _ratios(self, users: int) -> Array:
        means = np.array([USUAL[kind] for kind in KINDS])[:, None]
        if not self.world.spread:
            return np.repeat(means, users, axis=1)
        shape = 1 / self.world.spread**2
        return np.minimum(1.0, self.rng.gamma(shape, means / shape, (len(KINDS), users)))

    def pass_by(self, seconds: float) -> None:
        """Have some leave, and others come."""
        gone = self.rng.random(len(self.draw)) < 1 - np.exp(-seconds / VISIT)
        number = int(gone.sum())
        self.activity[gone] = self._activity(number)
        self.ratios[:, gone] = self._ratios(number)
        self.draw[gone] = self.rng.random(number)

    def counted(self, weight: float, *, by_user: bool) -> Array:
        """Return what both legs count in a block, by leg and kind."""
        # Poisson counts of a user's requests, each kind for itself, add up to Poisson counts of their sums.
        each = self.rate / len(self.draw) * BLOCK * self.activity
        eks = (self.draw < weight / 100).astype(float) if by_user else np.full(len(each), weight / 100)
        counts = np.zeros((2, 7))
        for leg, part in ((HEROKU, 1 - eks), (EKS, eks)):
            requests = float(self.rng.poisson((each * part).sum()))
            counts[leg, [REQUESTS, TIMED]] = requests
            mean = (self.ratios * each * part).sum(axis=1)
            for kind, number in zip(KINDS, self.rng.poisson(mean), strict=True):
                counts[leg, kind] = min(number, requests / 4)
            counts[leg, SLOW] = max(counts[leg, SLOW], counts[leg, VERY_SLOW])
        return counts


def steps(rng: np.random.Generator, world: Users, users: int, rate: float, *, by_user: bool) -> list[Trace]:
    """Return one cutover's steps."""
    crowd, found = Crowd(rng, world, users, rate), []
    for weight, next_weight in zip(WEIGHTS, (*WEIGHTS[1:], 100.0), strict=True):
        seconds = HOLD + PATIENCE
        counts = np.zeros((2, 7, seconds // BLOCK))
        for number in range(counts.shape[2]):
            counts[:, :, number] = crowd.counted(weight, by_user=by_user)
            crowd.pass_by(BLOCK)
        lost = np.zeros(counts.shape[2], bool)
        found.append(Trace(weight, next_weight, BLOCK, counts, lost, np.zeros(seconds), np.zeros(seconds, bool)))
    return found


def simulated(
    world: Users, users: int, rate: float, rules: GateRules, *, runs: int, by_user: bool
) -> tuple[int, int, str]:
    """Return how many cutovers were rolled back, how many never got on, and what was blamed."""
    back, stuck, blamed = 0, 0, dict[str, int]()
    for number in range(runs):
        rng = np.random.default_rng([users, int(world.spread * 10), int(rate * 10), number])
        ended = run(Gate(rules), steps(rng, world, users, rate, by_user=by_user), HOLD)
        back, stuck = back + (ended.ending == "rollback"), stuck + (ended.ending == "stuck")
        if ended.ending == "rollback":
            blamed[ended.why] = blamed.get(ended.why, 0) + 1
    return back, stuck, ", ".join(f"{name} {count}" for name, count in sorted(blamed.items(), key=lambda one: -one[1]))


def main(argv: Sequence[str] | None = None) -> None:
    """Print how many healthy cutovers are rolled back."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--users", type=int, nargs="+", default=[100, 1000, 10_000])
    given = parser.parse_args(argv)
    by_request = GateRules(block_seconds=BLOCK)
    by_user = replace(by_request, requests_drawn=False, metrics=tuple(map(between_users, by_request.metrics)))
    narrow = replace(by_user, metrics=by_request.metrics)
    rows, counts = [], []
    for name, world in WORLDS.items():
        for users in given.users:
            row = [name, f"{users:,}"]
            for rules, drawn in ((by_request, False), (narrow, True), (by_user, True)):
                back, stuck, blamed = simulated(world, users, given.rate, rules, runs=given.runs, by_user=drawn)
                counts.append(back)
                row.append(
                    f"{percent(back, given.runs)} % back" + (f" ({blamed})" if blamed else "") + f", {stuck} stuck"
                )
            print(row, flush=True)
            rows.append(row)
    print(
        table(
            [
                "users",
                "at once",
                "requests are drawn",
                "users are, tolerances as usual",
                "users are, as they are judged",
            ],
            rows,
        )
    )
    print(intervals(counts, given.runs))


if __name__ == "__main__":
    main()
