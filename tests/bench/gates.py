"""What the gate decides, and what others would have: ``python tests/bench/gates.py [--runs 100] [--only nulls]``.

Simulated cutovers of 10, 25 and 50 % are shown to our judge and to the rules of Flagger, Argo Rollouts, a z-test that is
looked at again and again, and Kayenta: the same ones to each. Counted are

- rollbacks of healthy cutovers, under several kinds of disturbance that hit both legs alike or each as often;
- the time from the onset of a regression (at 10 %) until the rollback is decided, and the requests harmed until then;
- cutovers that never got on in the time allowed.

Our judge alone is also shown an hour at 100 %, where there is no control.

Nothing is asserted; at the end stands which of the project's own criteria were reached. ``--ours`` leaves the others out,
for more runs in the same time, ``--caps`` compares caps of our judge instead.
"""

from __future__ import annotations

import argparse
import math
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from gate_rivals import Argo, Ending, Flagger, Kayenta, Rule, ZTest
from gate_worlds import EKS, HEROKU, Conditions, Regression, Trace, trace

from cutover.domain.backtest.forecast import clopper_pearson
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.judge import DEFAULT_METRICS, Evidence, GateRules, Judgement, begin_step, consume, judge

WEIGHTS = (10.0, 25.0, 50.0)
HOLD = 600
#: Before the decision is taken: reading the block.
READ_SECONDS = 1.5
RATES = (5.0, 50.0, 500.0)

NULLS = {
    "calm": Conditions(),
    "bursts": Conditions(bursts=0.7),
    "clumps on one leg": Conditions(bursts=0.5, clumps=0.5),
    "restarts of one leg": Conditions(bursts=0.5, restarts=5.0),
    "clumps on EKS alone": Conditions(bursts=0.5, clumps=0.5, only_eks=True),
    "restarts of EKS alone": Conditions(bursts=0.5, restarts=5.0, only_eks=True),
    "shared incidents": Conditions(bursts=0.5, incidents=0.1, ragged=1.0),
    "latency drifts": Conditions(bursts=0.5, drift=6.0),
    "skewed scrapes": Conditions(bursts=0.5, skew=5),
    "missing data": Conditions(bursts=0.5, lost=0.05),
    "all of it": Conditions(bursts=0.5, clumps=0.3, incidents=0.1, ragged=1.0, drift=3.0, skew=2, lost=0.03),
}
#: Of these, the record before the first step, and the beginning of it, show nothing.
LATER = ("clumps on one leg", "restarts of one leg")
QUIET_SECONDS = 1200
#: An hour at 100 %.
FULL_SECONDS = 3600
FULL = {
    "bursts": Conditions(bursts=0.7),
    "clumps": Conditions(bursts=0.5, clumps=0.5),
    "restarts of up to 5 s": Conditions(bursts=0.5, restarts=5.0),
    "restarts of up to 12 s": Conditions(bursts=0.5, restarts=12.0),
    "shared incidents": Conditions(bursts=0.5, incidents=0.1),
    "latency drifts": Conditions(bursts=0.5, drift=3.0),
}
QUIET_RATES = (0.2, 1.0)

#: Regressions come on top of traffic like this.
USUAL = Conditions(bursts=0.5)
REGRESSIONS = {
    "refuses all": Regression(fault="refuse"),
    "hangs": Regression(fault="hang"),
    "5 % errors": Regression(errors=0.049),
    "2 % errors": Regression(errors=0.019),
    "1 % errors": Regression(errors=0.009),
    "2 % very slow": Regression(very_slow=0.019),
    "twice as many slow": Regression(slow=0.04),
}
TOTAL = ("refuses all", "hangs")


class Gate:
    """Our judge on the ladder."""

    def __init__(self, rules: GateRules) -> None:
        self.rules = rules
        self.evidence = Evidence.start()
        self.said: Judgement | None = None

    def step(self, trace: Trace, hold: int) -> tuple[Ending, int]:
        for seconds in self._consumed(trace):
            if not (self._may_be_worse() or (seconds >= hold and self._may_be_safe())):
                continue
            self.said = judge(self.evidence, rules=self.rules, weight=trace.weight, next_weight=trace.next_weight)
            if self.said.worse:
                return "rollback", seconds
            if seconds >= hold and self.said.safe:
                return "advance", seconds
        return "stuck", trace.blocks * trace.block

    def worse_after(self, trace: Trace) -> Iterator[int]:
        """Yield the ends of the blocks after which EKS is worse."""
        for seconds in self._consumed(trace):
            if self._may_be_worse():
                self.said = judge(self.evidence, rules=self.rules, weight=trace.weight, next_weight=trace.next_weight)
                if self.said.worse:
                    yield seconds

    def _consumed(self, trace: Trace) -> Iterator[int]:
        """Take in block after block; yield their ends, in seconds of the step."""
        weights = {"weight": trace.weight, "next_weight": trace.next_weight}
        start = self.evidence.last_end
        self.evidence = begin_step(self.evidence)
        heroku, eks = trace.counts[HEROKU].T.tolist(), trace.counts[EKS].T.tolist()
        for number, lost in enumerate(trace.lost):
            seconds = (number + 1) * trace.block
            block = Block(
                start + seconds - trace.block,
                start + seconds,
                Counts(*heroku[number]),
                Counts(*eks[number]),
                "missed scrape" if lost else "",
            )
            self.evidence = consume(self.evidence, block, rules=self.rules, observed_at=start, **weights)
            yield seconds

    # Judging takes longer than consuming, so that it is done only where it can say something.

    def _may_be_worse(self) -> bool:
        # Harm is at most the sum of these.
        evidence = self.evidence
        alive = self.rules.alive_stake * (evidence.alive_purse.total + sum(evidence.alive))
        return alive + evidence.harm_purse.total + sum(map(sum, evidence.harm.values())) >= self.rules.harm_limit

    def _may_be_safe(self) -> bool:
        evidence = self.evidence
        least = min((sum(bag) for bag in evidence.safety.values()), default=0.0)
        return evidence.safety_money + least >= self.rules.safety_limit


Rules = dict[str, Callable[[], Rule]]


def everybody(block: int) -> Rules:
    """Return all that are compared, ours first."""
    rules = GateRules(block_seconds=block)
    return {
        "ours": lambda: Gate(rules),
        "Flagger": Flagger,
        "Argo, limit 0": Argo,
        "Argo, limit 3": lambda: Argo(3),
        "z-test": ZTest,
        "Kayenta": Kayenta,
    }


def caps(block: int) -> Rules:
    """Return our judge with several caps of the evidence of harm, as shares of the way to the limit."""

    def make(divisor: float) -> Callable[[], Rule]:
        rules = GateRules(block_seconds=block, harm_cap=math.log(100) / divisor)
        return lambda: Gate(rules)

    return {f"1/{divisor:g}": make(divisor) for divisor in (4, 4.5, 5, 6)}


@dataclass(frozen=True)
class Outcome:
    """How one cutover ended.

    Parameters
    ----------
    ending
        ``advance`` where it went through to the end.
    seconds
        From its beginning.
    harmed
        Requests that the regression harmed.
    steps
        Completed steps.
    why
        What our judge blamed.
    """

    ending: Ending
    seconds: float
    harmed: float
    steps: int
    why: str = ""


def run(rule: Rule, steps: Sequence[Trace], hold: int) -> Outcome:
    """Take one cutover through its steps."""
    seconds, harmed = 0.0, 0.0
    for number, step in enumerate(steps):
        ending, took = rule.step(step, hold)
        seconds += took
        harmed += float(step.harmed[min(int(took + READ_SECONDS), len(step.harmed)) - 1])
        if ending != "advance":
            why = rule.said.main_metric if isinstance(rule, Gate) and rule.said else ""
            return Outcome(ending, seconds + READ_SECONDS, harmed, number, why)
    return Outcome("advance", seconds, harmed, len(steps))


def allowed(rate: float, hold: int) -> int:
    """Return the longest that a step may take, in seconds."""
    return hold + (6600 if rate < 5 else 3000 if rate < 20 else 1200)


def simulate(
    name: str,
    world: Conditions,
    rate: float,
    rules: Rules,
    *,
    runs: int,
    block: int,
    regression: Regression | None = None,
    hold: int = HOLD,
) -> dict[str, list[tuple[float, Outcome]]]:
    """Return, for each rule, the onset and the outcome of each cutover."""
    found: dict[str, list[tuple[float, Outcome]]] = {rule: [] for rule in rules}
    for number in range(runs):
        rng = np.random.default_rng([zlib.crc32(name.encode()), int(rate * 10), number])
        onset = rng.uniform(120, 420)
        steps = [
            trace(
                rng,
                world,
                rate,
                weight=weight,
                next_weight=next_weight,
                seconds=allowed(rate, hold),
                block=block,
                regression=regression,
                onset=0.0 if step else onset,
            )
            for step, (weight, next_weight) in enumerate(zip(WEIGHTS, (*WEIGHTS[1:], 100.0), strict=True))
        ]
        for rule, make in rules.items():
            found[rule].append((onset, run(make(), steps, hold)))
    return found


def surprised(name: str, world: Conditions, rate: float, *, runs: int, block: int, hold: int) -> int:
    """Return how many cutovers our judge rolls back whose first 20 minutes at 10 % are calm, and teach it so."""
    rules, bad = GateRules(block_seconds=block), 0
    for number in range(runs):
        rng = np.random.default_rng([zlib.crc32(f"later {name}".encode()), int(rate * 10), number])
        ours = Gate(rules)
        calm, *steps = [
            trace(rng, one, rate, weight=weight, next_weight=next_weight, seconds=seconds, block=block)
            for one, weight, next_weight, seconds in (
                (USUAL, 10.0, 25.0, QUIET_SECONDS),
                *((world, w, n, allowed(rate, hold)) for w, n in zip(WEIGHTS, (*WEIGHTS[1:], 100.0), strict=True)),
            )
        ]
        ours.step(calm, QUIET_SECONDS + 1)
        bad += run(ours, steps, hold).ending == "rollback"
    return bad


def limit_seconds(regression: Regression, rate: float, weight: float = 10.0) -> float | None:
    """Return the least time in which any test with so few false rollbacks finds a regression, on average.

    ``ln(100)/KL`` requests of EKS: KL is the divergence, per EKS request, of what both legs do from the nearest that is
    tolerated (Wald). Requests are independent; of the three metrics the one that tells most.
    """
    if regression.fault:
        return None
    world, least = USUAL, math.inf
    for rule, usual, extra in zip(
        DEFAULT_METRICS[:3],
        (world.errors, world.slow, world.very_slow),
        (regression.errors, regression.slow + regression.very_slow, regression.very_slow),
        strict=True,
    ):
        if extra:
            nearest = min(
                _divergence(usual + extra, rule.harm.ratio * p + rule.harm.margin)
                + (100.0 - weight) / weight * _divergence(usual, p)
                for p in np.geomspace(usual, usual + extra, 2000)
                if rule.harm.ratio * p + rule.harm.margin < usual + extra
            )
            least = min(least, math.log(100.0) / nearest)
    return least / (rate * weight / 100.0)


def _divergence(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


# --- saying it -------------------------------------------------------------------------------------------------------


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(some: int, all_of: int) -> str:
    """Return a share, in words as short as they are honest."""
    share = 100 * some / all_of
    return "0" if not some else f"{share:.0f}" if share >= 10 else f"{share:.1f}"


def intervals(counts: Iterable[int], runs: int) -> str:
    """Return what each count of rollbacks leaves possible."""
    said = (
        f"{count} of {runs}: {100 * low:.1f} to {100 * high:.1f} %"
        for count in sorted({0, *counts})
        for low, high in [clopper_pearson(count, runs)]
    )
    return f"95 % intervals (Clopper-Pearson): {', '.join(said)}"


def span(seconds: float) -> str:
    """Return a time, short."""
    return "–" if math.isinf(seconds) else f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that this share of them does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@dataclass(frozen=True)
class Criterion:
    """Something that was to be reached."""

    text: str
    reached: bool
    figure: str


def nulls(rules: Rules, runs: int, block: int, hold: int = HOLD) -> list[Criterion]:
    """Print rollbacks of healthy cutovers; return what was to be reached."""
    rolled: list[list[str]] = []
    stuck: list[list[str]] = []
    lasted: list[list[str]] = []
    worst = (0, "")
    seen: set[int] = set()
    blamed: dict[str, int] = {}
    wrong, total = 0, 0
    ours = next(iter(rules))
    for name, world in NULLS.items():
        shares: dict[str, list[str]] = {rule: [] for rule in rules}
        stuck_shares: dict[str, list[str]] = {rule: [] for rule in rules}
        minutes: dict[str, list[str]] = {rule: [] for rule in rules}
        for rate in RATES:
            found = simulate(name, world, rate, rules, runs=runs, block=block, hold=hold)
            for rule, outcomes in found.items():
                bad = [outcome for _, outcome in outcomes if outcome.ending == "rollback"]
                waits = sum(outcome.ending == "stuck" for _, outcome in outcomes)
                shares[rule].append(percent(len(bad), runs))
                stuck_shares[rule].append(percent(waits, runs))
                through = [outcome.seconds / 60 for _, outcome in outcomes if outcome.ending == "advance"]
                minutes[rule].append(f"{np.median(through):.0f}" if through else "–")
                seen.add(len(bad))
                if rule == ours:
                    for outcome in bad:
                        key = f"{name}: {outcome.why}"
                        blamed[key] = blamed.get(key, 0) + 1
                    total += runs
                    wrong += len(bad)
                    worst = max(worst, (len(bad), f", most with {name} at {rate:g}/s: {len(bad)} of {runs}"))
        rolled.append([name, *(" / ".join(shares[rule]) for rule in rules)])
        stuck.append([name, *(" / ".join(stuck_shares[rule]) for rule in rules)])
        lasted.append([name, *(" / ".join(minutes[rule]) for rule in rules)])
    if len(rules) == 1:
        for name in LATER:
            cells = [f"{name}, after a quiet record of {QUIET_SECONDS / 60:.0f} min"]
            for rate in RATES:
                bad = surprised(name, NULLS[name], rate, runs=runs, block=block, hold=hold)
                cells.append(f"{bad}")
                seen.add(bad)
                total, wrong = total + runs, wrong + bad
                worst = max(worst, (bad, f", most with later {name} at {rate:g}/s: {bad} of {runs}"))
            rolled.append([cells[0], " / ".join(percent(int(bad), runs) for bad in cells[1:])])
    print(f"\n% of healthy cutovers rolled back, at 5 / 50 / 500 requests/s ({runs} of each)\n")
    print(table(["both legs alike", *rules], rolled))
    print(f"\n{intervals(seen, runs)}")
    longest = " / ".join(f"{allowed(rate, hold) / 60:.0f}" for rate in RATES)
    print(f"\n% of them stuck: a step that was not over in {longest} min\n")
    print(table(["both legs alike", *rules], stuck))
    print(f"\nminutes that those took which went through, median; the holds are {3 * hold / 60:.0f}\n")
    print(table(["both legs alike", *rules], lasted))
    print(f"\nwhat ours blamed: {blamed or 'nothing'}")
    text = "at most 1 % false rollbacks under each disturbance at 5, 50, 500/s"
    return [Criterion(text, worst[0] <= 0.01 * runs, f"{wrong} of {total}" + (worst[1] if wrong else ""))]


def quiet(rules: Rules, runs: int, block: int) -> list[Criterion]:
    """Print what happens with hardly any traffic."""
    cells: list[list[str]] = []
    moved = 0
    ours = next(iter(rules))
    for name, world in (("calm", Conditions()), ("bursts and clumps", Conditions(bursts=0.5, clumps=0.5))):
        for rate in QUIET_RATES:
            found = simulate(f"quiet {name}", world, rate, rules, runs=runs, block=block)
            row = [f"{name}, {rate:g}/s"]
            for rule, outcomes in found.items():
                bad = sum(outcome.ending == "rollback" for _, outcome in outcomes)
                on = sum(outcome.steps > 0 for _, outcome in outcomes)
                row.append(f"{percent(bad, runs)} / {percent(on, runs)}")
                if rule == ours and rate == QUIET_RATES[0]:
                    moved += bad + on
            cells.append(row)
    print(f"\nhardly any traffic, 2 h per step: % rolled back / % advanced at least once ({runs} of each)\n")
    print(table(["healthy", *rules], cells))
    return [Criterion("nothing advances or rolls back at 0.2/s", moved == 0, f"{moved} of {2 * runs} did")]


def regressions(rules: Rules, runs: int, block: int) -> list[Criterion]:
    """Print how regressions are found; return what was to be reached."""
    times: list[list[str]] = []
    harmed: list[list[str]] = []
    endings: list[list[str]] = []
    criteria: list[Criterion] = []
    ours = next(iter(rules))
    for name, regression in REGRESSIONS.items():
        for rate in RATES:
            found = simulate(name, USUAL, rate, rules, runs=runs, block=block, regression=regression)
            rows: list[list[str]] = [[f"{name}, {rate:g}/s"] for _ in range(3)]
            for rule, outcomes in found.items():
                # What was rolled back before anything was wrong is a false rollback, not a fast one.
                real = [(onset, o) for onset, o in outcomes if o.ending != "rollback" or o.seconds > onset]
                waits = [o.seconds - onset if o.ending == "rollback" else math.inf for onset, o in real]
                if not waits:
                    for row in rows:
                        row.append("–")
                    continue
                middle, late = quantile(waits, 0.5), quantile(waits, 0.95)
                least = limit_seconds(regression, rate) if rule == ours else None
                times_limit = f"; {middle / least:.1f} × {span(least)}" if least and middle < math.inf else ""
                rows[0].append(f"{span(middle)} ({span(late)}){times_limit}" if middle < math.inf else "–")
                rows[1].append(f"{np.median([o.harmed for _, o in real]):,.0f}")
                through = sum(o.ending == "advance" for _, o in real)
                held = sum(o.ending == "stuck" for _, o in real)
                rows[2].append(f"{percent(through, len(real))} / {percent(held, len(real))}")
                if rule == ours and name in TOTAL:
                    text = f"total failure ({name}) found in 60 s at {rate:g}/s"
                    figure = f"median {span(middle)}, 95 % {span(late)}"
                    criteria.append(Criterion(text, late <= 60, figure))
                if rule == ours and name == "2 % errors" and rate == 50:
                    text = "0.1 to 2 % errors at 50/s found in 205 s, median"
                    criteria.append(Criterion(text, middle <= 205, f"median {span(middle)}, 95 % {span(late)}"))
                if rule == ours and name == "2 % errors" and rate == 500:
                    text = "0.1 to 2 % errors at 500/s found in 2 min, median"
                    criteria.append(Criterion(text, middle <= 120, f"median {span(middle)}, 95 % {span(late)}"))
            for printed, row in zip((times, harmed, endings), rows, strict=True):
                printed.append(row)
    print(
        f"\ntime from the onset, at 10 %, to the rollback: median (95 %), – where not rolled back ({runs} of each)\n"
    )
    print(table(["regression", *rules], times))
    print("\nrequests harmed until the rollback or the end, median\n")
    print(table(["regression", *rules], harmed))
    print("\n% that went through to the end in spite of it / that were held\n")
    print(table(["regression", *rules], endings))
    return criteria


#: What a rollback at 100 % asks of the probes of Heroku: seconds for which they must have been good, none at all first.
PROBED = {"on evidence alone": None, "with a good probe of Heroku": 0, "with good probes for a minute": 60}


def alone(
    key: str, world: Conditions, rate: float, *, runs: int, block: int, regression: Regression | None = None
) -> list[list[float]]:
    """Return, for each rule on probes, the seconds from the onset to the rollback at 100 %, infinite without one."""
    rules = GateRules(block_seconds=block)
    found: list[list[float]] = [[math.inf] * runs for _ in PROBED]
    for number in range(runs):
        rng = np.random.default_rng([zlib.crc32(key.encode()), int(rate * 10), number])
        onset = rng.uniform(300, 900)
        judge_of_run = Gate(rules)
        first = trace(rng, world, rate, weight=50.0, next_weight=100.0, seconds=HOLD, block=block)
        step = trace(
            rng,
            world,
            rate,
            weight=100.0,
            next_weight=100.0,
            seconds=FULL_SECONDS,
            block=block,
            regression=regression,
            onset=onset,
        )
        judge_of_run.step(first, HOLD + 1)
        for seconds in judge_of_run.worse_after(step):
            for waits, good in zip(found, PROBED.values(), strict=True):
                # What a block says stands until the next, and a probe in between may be good again.
                moments = range(seconds, min(seconds + block, FULL_SECONDS))
                if good is None or any(not step.shared[max(0, at - good) : at + 1].any() for at in moments):
                    waits[number] = min(waits[number], seconds + READ_SECONDS - onset)
            if all(waits[number] < math.inf for waits in found):
                break
    return found


def full(runs: int, block: int) -> None:
    """Print what our judge does at 100 %, ten minutes at 50 % before it."""
    wrong, rolled_back = [], set[int]()
    for name, world in FULL.items():
        shares: list[list[str]] = [[] for _ in PROBED]
        for rate in RATES:
            for share, waits in zip(shares, alone(name, world, rate, runs=runs, block=block), strict=True):
                rolled_back.add(sum(wait < math.inf for wait in waits))
                share.append(percent(sum(wait < math.inf for wait in waits), runs))
        wrong.append([name, *(" / ".join(share) for share in shares)])
    print(f"\n% of healthy hours at 100 % rolled back, at 5 / 50 / 500 requests/s ({runs} of each)\n")
    print(table(["EKS alone", *PROBED], wrong))
    found = []
    for name in (*TOTAL, "5 % errors"):
        cells = []
        for rate in RATES:
            waits = alone(name, USUAL, rate, runs=runs, block=block, regression=REGRESSIONS[name])[0]
            cells.append(f"{span(quantile(waits, 0.5))} ({span(quantile(waits, 0.95))})")
        found.append([name, *cells])
    print(f"\n{intervals(rolled_back, runs)}")
    print("\ntime from the onset at 100 % to the rollback: median (95 %)\n")
    print(table(["regression", *(f"{rate:g}/s" for rate in RATES)], found))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="cutovers of each kind")
    parser.add_argument("--block", type=int, default=15, choices=(5, 15), help="length of a block, seconds")
    parser.add_argument("--only", choices=("nulls", "quiet", "regressions", "full"), help="one part")
    parser.add_argument("--ours", action="store_true", help="our judge alone")
    parser.add_argument("--hold", type=int, default=HOLD // 60, help="of each step of the healthy cutovers, minutes")
    parser.add_argument("--caps", action="store_true", help="compare caps of our judge, not judges")
    arguments = parser.parse_args()
    rules = caps(arguments.block) if arguments.caps else everybody(arguments.block)
    if arguments.ours:
        rules = {"ours": rules["ours"]}
    begun = time.monotonic()
    criteria: list[Criterion] = []
    if arguments.only in (None, "nulls"):
        criteria += nulls(rules, arguments.runs, arguments.block, arguments.hold * 60)
    if arguments.only in (None, "quiet"):
        criteria += quiet(rules, max(1, arguments.runs // 4), arguments.block)
    if arguments.only in (None, "regressions"):
        criteria += regressions(rules, arguments.runs, arguments.block)
    if arguments.only in (None, "full") and not arguments.caps:
        full(arguments.runs, arguments.block)
    print("\ncriteria" + (f", of {next(iter(rules))}" if arguments.caps else "") + "\n")
    answers = [[c.text, "yes" if c.reached else "**no**", c.figure] for c in criteria]
    print(table(["criterion", "reached", "figure"], answers))
    print(f"\n{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
