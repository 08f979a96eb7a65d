"""What the gate makes of the mix of answers: ``python tests/bench/gates_answers.py [--runs 300]``.

Healthy cutovers of 10, 25 and 50 % whose answers drift, with bots that scan for what is not there, and with storms of
sign-ins; and legs that refuse or redirect some or all requests. Answers with 304 that differ between the legs are good
answers on both, so that they make no case of their own. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import math
import time
import zlib

import numpy as np
from gate_worlds import Conditions, Regression, trace
from gates import HOLD, RATES, WEIGHTS, Gate, allowed, percent, quantile, run, span, table

from cutover.domain.evidence.judge import GateRules
from cutover.domain.evidence.mix import differences

NULLS = {
    "5 % refused, 10 % redirected": Conditions(bursts=0.5, refused=0.05, redirected=0.1),
    "the mix drifts, fourfold": Conditions(bursts=0.5, refused=0.05, redirected=0.1, mix_drift=4.0),
    "a bot a minute, by request": Conditions(bursts=0.5, refused=0.02, scans=1.0),
    "a bot a minute, all on one leg": Conditions(bursts=0.5, refused=0.02, scans=1.0, loyal=True),
    "storms of sign-ins": Conditions(bursts=0.5, refused=0.05, storms=True),
    "30 % refused, 30 % redirected": Conditions(bursts=0.5, refused=0.3, redirected=0.43),
}
USUAL = Conditions(bursts=0.5, refused=0.05, redirected=0.05)
FAULTS = {
    "refuses": lambda share: Regression(refused=share),
    "redirects": lambda share: Regression(redirected=share),
    "fails": lambda share: Regression(errors=share),
}
SHARES = (1.0, 0.1, 0.01)
#: Longest that a regression is looked for, hours at 10 %.
LIMIT_HOURS = {5.0: 6, 50.0: 3, 500.0: 1}


class Watched(Gate):
    """The gate, with the largest evidence that the answers differ."""

    largest = 0.0

    def _may_be_worse(self) -> bool:
        self.largest = max(self.largest, differences(self.evidence, self.rules).largest)
        return super()._may_be_worse()


def nulls(runs: int, block: int) -> None:
    """Print what happens to healthy cutovers."""
    rules, rows = GateRules(block_seconds=block), []
    for name, world in NULLS.items():
        rolled, held, stuck, blamed = [], [], [], dict[str, int]()
        for rate in RATES:
            bad = differ = waits = 0
            for number in range(runs):
                rng = np.random.default_rng([zlib.crc32(name.encode()), int(rate * 10), number])
                steps = [
                    trace(rng, world, rate, weight=weight, next_weight=upper, seconds=allowed(rate, HOLD), block=block)
                    for weight, upper in zip(WEIGHTS, (*WEIGHTS[1:], 100.0), strict=True)
                ]
                gate = Watched(rules)
                outcome = run(gate, steps, HOLD)
                bad += outcome.ending == "rollback"
                waits += outcome.ending == "stuck"
                differ += gate.largest >= rules.harm_limit
                if outcome.ending == "rollback":
                    blamed[outcome.why] = blamed.get(outcome.why, 0) + 1
            rolled.append(percent(bad, runs))
            held.append(percent(differ, runs))
            stuck.append(percent(waits, runs))
        print(f"{name}: rolled back {rolled}, held {held}, stuck {stuck} {blamed}", flush=True)
        rows.append([name, *(" / ".join(cells) for cells in (rolled, held, stuck))])
    print(f"\n% of healthy cutovers, at 5 / 50 / 500 requests/s ({runs} of each)\n")
    print(table(["both legs alike", "rolled back", "held by AnswersDiffer", "stuck"], rows))


def found(name: str, share: float, rate: float, *, runs: int, block: int) -> list[float]:
    """Return the seconds from the onset to the rollback at 10 %, infinite without one."""
    rules, waits = GateRules(block_seconds=block), []
    hours = LIMIT_HOURS[rate] if share < 0.1 else 1
    for number in range(runs):
        rng = np.random.default_rng([zlib.crc32(name.encode()), int(rate * 10), int(share * 100), number])
        onset = rng.uniform(300, 600)
        step = trace(
            rng,
            USUAL,
            rate,
            weight=10.0,
            next_weight=25.0,
            seconds=int(onset) + hours * 3600,
            block=block,
            regression=FAULTS[name](share),
            onset=onset,
        )
        gate = Gate(rules)
        waits.append(next((seconds + 1.5 - onset for seconds in gate.worse_after(step)), math.inf))
    return waits


def regressions(runs: int, block: int) -> None:
    """Print how long it takes to find them."""
    rows = []
    for name in FAULTS:
        for share in SHARES:
            cells = []
            for rate in RATES:
                waits = found(name, share, rate, runs=runs, block=block)
                early = sum(wait < 0 for wait in waits)
                middle, late = quantile(waits, 0.5), quantile(waits, 0.95)
                cells.append(f"{span(middle)} ({span(late)})" + (f", {early} before" if early else ""))
            print(name, share, cells, flush=True)
            rows.append([f"{name} {share:.0%}", *cells])
    print(f"\ntime from the onset at 10 % to the rollback: median (95 %), {runs} of each\n")
    print(table(["EKS", *(f"{rate:g}/s" for rate in RATES)], rows))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", type=int, default=300, help="cutovers of each kind; a tenth of that of each regression"
    )
    parser.add_argument("--block", type=int, default=15, choices=(5, 15), help="length of a block, seconds")
    parser.add_argument("--only", choices=("nulls", "regressions"), help="one part")
    arguments = parser.parse_args()
    begun = time.monotonic()
    if arguments.only in (None, "nulls"):
        nulls(arguments.runs, arguments.block)
    if arguments.only in (None, "regressions"):
        regressions(max(1, arguments.runs // 10), arguments.block)
    print(f"\n{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
