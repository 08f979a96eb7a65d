"""The judge's whole state, and its form in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from cutover.domain.evidence.blocks import Counts
from cutover.domain.evidence.purse import STEP_MONEY, WATCH_MONEY, Purse
from cutover.domain.evidence.wager import BETTER, DEAD, WORSE_ANSWERS, Bag, strengths

SHORT_MONEY = (0.5, 0.5)
"""Money of the bet that EKS gets less than its share; all of it is there when a step begins."""

VERSION = 4
"""Version of the stored evidence: another form has another number, and evidence of an older one begins anew."""

_LARGEST = 1e15
"""No number that the judge stores comes near it."""

_FIELDS = len(Counts._fields)
"""Numbers of a leg's counts."""

_NOTHING = Counts()

_UNTOUCHED = Purse()

_ALIVE_UNTOUCHED = Purse(0.0, STEP_MONEY + WATCH_MONEY)
"""Little money is enough to find a dead leg, so *alive* has no lump at the beginning of a step."""


@dataclass(frozen=True, slots=True)
class Recent:
    """Counts of both legs in one slot of the recent window. ``slow`` is not kept."""

    slot: int
    heroku: Counts
    eks: Counts


_NO_BAGS: Mapping[str, Bag] = MappingProxyType({})

_NO_CODES: Mapping[str, float] = MappingProxyType({})


class Evidence(NamedTuple):
    """The judge's whole state. It is immutable; treat the mappings as such.

    It is a tuple because each block makes a dozen of them, and a dataclass with as many fields takes seven times as long
    to replace.

    Parameters
    ----------
    alive, heroku
        Bags of the bets that EKS, or Heroku, is dead.
    harm, safety
        Bags per metric: of the rollback test, over the whole cutover (in stakes of its money), and of the advance test, in
        this step.
    observed
        Bags of the rollback test of observed metrics, each as if it were alone.
    alive_purse, heroku_purse, harm_purse
        Money not yet put in; ``harm_purse`` is shared by all metrics.
    share_odds, unanswered
        Log odds that EKS has got its whole share in this step, until they are enough; and the requests that were expected
        of it since it answered any, until then.
    short
        Bag of the bet that EKS gets less than its share in this step.
    safety_money
        Money of the advance test that is not yet put in, the same for each metric.
    proven
        Metrics whose bag of the advance test has reached its limit in this step.
    lately
        Counts that were judged for safety in this step (Heroku, EKS), fading with age.
    pool, pool_seconds
        Thin blocks that wait to be judged together (Heroku, EKS), and their seconds.
    pool_trusted
        Whether the pool may be bet on safety, which was decided when it began.
    clumps
        By metric, what was learned of clumps (:mod:`cutover.domain.evidence.clumps`): spread and bad requests of Heroku, then of
        EKS.
    last_pool, pools
        The last pool of each leg (Heroku, EKS), and how many there were.
    reference
        Heroku's counts while it was healthy, for comparison at 100 %, where there is no control.
    unknown
        Timed requests of the reference that say nothing of a latency, because they were counted by another threshold.
    limits
        By metric, the tolerances under which its evidence was earned: ratio and margin of harm, then of advance.
    thresholds
        X1 and X2, milliseconds, by which the latencies were counted; 0 before any was.
    record
        Heroku's counts at weight 0, before EKS had any request.
    recent
        The last minute, in slots.
    total
        This step's counts (Heroku, EKS), and their seconds.
    blocks, empty, gaps
        This step's usable blocks, the usable blocks without a request, and the unusable blocks.
    unequal
        Bags of the bets that the legs do not give the same answers, in this step.
    equal_money
        Money of these bets that is not yet put in, the same for each.
    codes
        This step's answers by HTTP status (Heroku, EKS), for people.
    counted
        Which codes counted as refused or redirected, in words.
    silent_seconds, silent_expected
        Seconds in which Heroku has answered nothing, and the answers expected by its weight.
    last_end
        Unix seconds of the end of the last block. Blocks that are not later are not counted again.
    """

    alive: Bag = (0.0,) * len(DEAD)
    heroku: Bag = (0.0,) * len(DEAD)
    harm: Mapping[str, Bag] = _NO_BAGS
    safety: Mapping[str, Bag] = _NO_BAGS
    observed: Mapping[str, Bag] = _NO_BAGS
    alive_purse: Purse = _ALIVE_UNTOUCHED
    heroku_purse: Purse = _ALIVE_UNTOUCHED
    harm_purse: Purse = _UNTOUCHED
    share_odds: float = 0.0
    unanswered: float = 0.0
    short: Bag = SHORT_MONEY
    safety_money: float = 1.0
    proven: frozenset[str] = frozenset()
    lately: tuple[Counts, Counts] = (_NOTHING, _NOTHING)
    pool: tuple[Counts, Counts] = (_NOTHING, _NOTHING)
    pool_seconds: float = 0.0
    pool_trusted: bool = True
    clumps: Mapping[str, tuple[float, ...]] = MappingProxyType({})
    last_pool: tuple[Counts, Counts] = (_NOTHING, _NOTHING)
    pools: tuple[float, float] = (0.0, 0.0)
    reference: Counts = _NOTHING
    unknown: Mapping[str, float] = MappingProxyType({})
    limits: Mapping[str, tuple[float, ...]] = MappingProxyType({})
    thresholds: tuple[float, float] = (0.0, 0.0)
    record: Counts = _NOTHING
    recent: tuple[Recent, ...] = ()
    total: tuple[Counts, Counts] = (_NOTHING, _NOTHING)
    total_seconds: float = 0.0
    blocks: int = 0
    empty: int = 0
    gaps: int = 0
    unequal: Mapping[str, Bag] = _NO_BAGS
    equal_money: float = 1.0
    codes: tuple[Mapping[str, float], Mapping[str, float]] = (_NO_CODES, _NO_CODES)
    counted: str = ""
    silent_seconds: float = 0.0
    silent_expected: float = 0.0
    last_end: float = 0.0

    @classmethod
    def start(cls, reference: Counts | None = None) -> Evidence:
        """Return the evidence at the start of a cutover.

        Parameters
        ----------
        reference
            Heroku's counts over a time when it was healthy, such as the baseline.
        """
        return cls(reference=reference or Counts())

    def dump(self) -> dict[str, Any]:
        """Return plain JSON, mostly below 2 KiB. Numbers are rounded to 6 significant digits, counts to 12."""
        data: dict[str, Any] = {
            "v": VERSION,
            "end": self.last_end,
            "alive": _short(self.alive),
            "heroku": _short(self.heroku),
            "share": [*_short((self.share_odds, self.unanswered)), *_short(self.short)],
            "harm": {name: _short(bag) for name, bag in self.harm.items()},
            "safety": {name: _short(bag) for name, bag in self.safety.items()},
            "observed": {name: _short(bag) for name, bag in self.observed.items()},
            "purses": [
                *_short((self.alive_purse.steps, self.alive_purse.watch)),
                *_short((self.heroku_purse.steps, self.heroku_purse.watch)),
                *_short((self.harm_purse.steps, self.harm_purse.watch)),
                *_short((self.safety_money,)),
            ],
            "proven": sorted(self.proven),
            "lately": [*_short(self.lately[0]), *_short(self.lately[1])],
            "pool": [
                *_short_counts(self.pool[0]),
                *_short_counts(self.pool[1]),
                *_short((self.pool_seconds, float(self.pool_trusted))),
            ],
            "clumps": {name: _short(learned) for name, learned in self.clumps.items()},
            "last": [*_short_counts(self.last_pool[0]), *_short_counts(self.last_pool[1]), *_short(self.pools)],
            "ref": _short_counts(self.reference),
            "unknown": dict(self.unknown),
            # Not rounded: a tolerance that came back different would look edited.
            "limits": {name: list(limits) for name, limits in self.limits.items()},
            "thresholds": list(self.thresholds),
            "total": [*_short_counts(self.total[0]), *_short_counts(self.total[1]), *_short((self.total_seconds,))],
            "blocks": [self.blocks, self.empty, self.gaps],
            "silent": _short((self.silent_seconds, self.silent_expected)),
            "recent": [[r.slot, *_short_counts(r.heroku), *_short_counts(r.eks)] for r in self.recent],
        }
        # A custom SLO has none of these, and a status has a dozen of them.
        if self.record != _NOTHING:
            data["record"] = _short_counts(self.record)
        if self.unequal:
            data["unequal"] = {name: _short(bag) for name, bag in self.unequal.items()}
            data["equal"] = _short((self.equal_money,))
        if any(self.codes):
            data["codes"] = [
                {code: _short((count,), digits=12)[0] for code, count in leg.items()} for leg in self.codes
            ]
        if self.counted:
            data["counted"] = self.counted
        return data

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Evidence:
        """Return the evidence that `dump` gave.

        Raises
        ------
        ValueError
            If the data is not such a dump; the message says what is wrong.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"stored evidence is {type(data).__name__}, not an object")  # noqa: TRY004
        if data.get("v") != VERSION:
            raise ValueError(f"stored evidence has version {data.get('v')!r}, this judge reads version {VERSION}")
        purses = _numbers(data, "purses", 7)
        pool, total = _numbers(data, "pool", 2 * _FIELDS + 2), _numbers(data, "total", 2 * _FIELDS + 1)
        lately, proven = _numbers(data, "lately", 2 * _FIELDS), data.get("proven")
        last = _numbers(data, "last", 2 * _FIELDS + 2)
        share, thresholds = _numbers(data, "share", 2 + len(SHORT_MONEY)), _numbers(data, "thresholds", 2)
        blocks, silent = _numbers(data, "blocks", 3), _numbers(data, "silent", 2)
        data = {
            "record": _short_counts(_NOTHING),
            "unequal": {},
            "equal": [1],
            "codes": [{}, {}],
            "counted": "",
            **data,
        }
        recent, counted = data.get("recent"), data.get("counted")
        if not isinstance(counted, str):
            raise ValueError(f"stored evidence: 'counted' must be a text, not {counted!r}")  # noqa: TRY004
        if not isinstance(recent, list):
            raise ValueError("stored evidence: 'recent' must be a list")  # noqa: TRY004
        if not isinstance(proven, list) or not all(isinstance(name, str) for name in proven):
            raise ValueError(f"stored evidence: 'proven' must be a list of names, not {proven!r}")
        return cls(
            alive=_numbers(data, "alive", len(DEAD)),
            heroku=_numbers(data, "heroku", len(DEAD)),
            harm=_bags(data, "harm"),
            safety=_bags(data, "safety", BETTER),
            observed=_bags(data, "observed"),
            share_odds=share[0],
            unanswered=share[1],
            short=share[2:],
            alive_purse=Purse(purses[0], purses[1]),
            heroku_purse=Purse(purses[2], purses[3]),
            harm_purse=Purse(purses[4], purses[5]),
            safety_money=purses[6],
            proven=frozenset(proven),
            lately=_pair(lately),
            pool=_pair(pool),
            pool_seconds=pool[-2],
            pool_trusted=bool(pool[-1]),
            clumps=_fours(data, "clumps"),
            last_pool=_pair(last),
            pools=(last[-2], last[-1]),
            reference=Counts(*_numbers(data, "ref", _FIELDS)),
            unknown=_by_metric(data, "unknown"),
            limits=_fours(data, "limits"),
            thresholds=(thresholds[0], thresholds[1]),
            record=Counts(*_numbers(data, "record", _FIELDS)),
            recent=tuple(_load_recent({"recent": item}) for item in recent),
            total=_pair(total),
            total_seconds=total[-1],
            blocks=int(blocks[0]),
            empty=int(blocks[1]),
            gaps=int(blocks[2]),
            unequal=_bags(data, "unequal", WORSE_ANSWERS),
            equal_money=_numbers(data, "equal", 1)[0],
            codes=_load_codes(data),
            counted=counted,
            silent_seconds=silent[0],
            silent_expected=silent[1],
            last_end=_numbers({"end": [data.get("end")]}, "end", 1)[0],
        )


def _short(numbers: Sequence[float], digits: int = 6) -> list[float]:
    """Round to some significant digits; whole numbers become integers, which JSON writes shorter."""
    most = 10**digits
    return [_rounded(number, digits) if number % 1 or number >= most else int(number) for number in numbers]


def _rounded(number: float, digits: int) -> float:
    rounded = float(f"{number:.{digits}g}")
    return int(rounded) if rounded.is_integer() and rounded < 10**digits else rounded


def _short_counts(counts: Counts) -> list[float]:
    # With fewer digits, the counts of weeks would swallow the requests of the next block, but not its errors.
    return _short(counts, digits=12)


def _load_recent(item: Mapping[str, Any]) -> Recent:
    slot, *counts = _numbers(item, "recent", 2 * _FIELDS + 1)
    return Recent(int(slot), *_pair(counts))


def _pair(numbers: Sequence[float]) -> tuple[Counts, Counts]:
    """Return the counts of both legs from the beginning of a list."""
    return Counts(*numbers[:_FIELDS]), Counts(*numbers[_FIELDS : 2 * _FIELDS])


def _load_codes(data: Mapping[str, Any]) -> tuple[Mapping[str, float], Mapping[str, float]]:
    codes = data.get("codes")
    if not isinstance(codes, list) or len(codes) != 2 or not all(isinstance(leg, Mapping) for leg in codes):
        raise ValueError(f"stored evidence: 'codes' must be two objects, not {codes!r}")
    heroku, eks = (
        {str(code): _numbers({"codes": [count]}, "codes", 1)[0] for code, count in leg.items()} for leg in codes
    )
    return heroku, eks


def _bags(data: Mapping[str, Any], key: str, psis: tuple[float, ...] = ()) -> dict[str, Bag]:
    """Read a bag per metric, with as many parts as strengths; by default those of the metric's bets on harm."""
    bags = data.get(key)
    if not isinstance(bags, Mapping):
        raise ValueError(f"stored evidence: {key!r} must be an object of lists")  # noqa: TRY004
    return {str(name): _numbers(bags, name, len(psis or strengths(name))) for name in bags}


def _by_metric(data: Mapping[str, Any], key: str) -> dict[str, float]:
    numbers = data.get(key)
    if not isinstance(numbers, Mapping):
        raise ValueError(f"stored evidence: {key!r} must be an object of numbers")  # noqa: TRY004
    return {str(name): _numbers({key: [number]}, key, 1)[0] for name, number in numbers.items()}


def _fours(data: Mapping[str, Any], key: str) -> dict[str, tuple[float, ...]]:
    found = data.get(key)
    if not isinstance(found, Mapping):
        raise ValueError(f"stored evidence: {key!r} must be an object of lists")  # noqa: TRY004
    return {str(name): _numbers(found, name, 4) for name in found}


def _numbers(data: Mapping[str, Any], key: str, count: int) -> tuple[float, ...]:
    """Read a list of ``count`` finite numbers, none negative."""
    values = data.get(key)
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"stored evidence: {key!r} must be a list of {count} numbers, not {values!r}")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST:
            raise ValueError(f"stored evidence: {key!r} has {value!r} where a number of 0 or more is expected")
    return tuple(float(value) for value in values)
