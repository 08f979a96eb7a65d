"""Replay a plan's cutover on Heroku's own traffic in Prometheus: ``python -m cutover.services.backtest --plan plan.yaml``.

It is a command for people, and part of the Baseline phase: :class:`Backtests` runs it as a process of its own, because
minutes of arithmetic in the operator's process would delay the blocks and rollbacks of all plans.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import yaml
from pydantic import ValidationError

from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.adapters.prometheus.sources import Sources
from cutover.api.durations import span
from cutover.api.problems import problem_text
from cutover.api.v1alpha1 import KIND, BacktestStatus, BaselineStatus, MigrationPlan
from cutover.domain.backtest.replay import (
    Forecast,
    NotPossible,
    Record,
    backtest,
    impossible,
    per_second,
    percent,
)
from cutover.domain.baseline.thresholds import LEAST_REQUESTS, choose_thresholds
from cutover.domain.evidence.blocks import Block
from cutover.domain.evidence.counters import Counter, CounterLabels
from cutover.domain.evidence.counting import Reading
from cutover.domain.evidence.scrapes import REACH_IN_SCRAPES, Result
from cutover.domain.evidence.tolerances import thresholds, thresholds_wanted
from cutover.domain.observation import Plan
from cutover.ports import Dialect, Prometheus, Subscription, Unavailable, Understood
from cutover.services.sampler import LONGEST_REPLAY, Sampler, best_phase, blocks_of, heroku_samples
from cutover.settings import PrometheusServer, PrometheusServers, SettingsError, read_servers, read_settings

#: Exit codes: the plan's rate is not contradicted, there is no forecast, it is exceeded.
WITHIN, NO_FORECAST, ABOVE = 0, 1, 2
#: The most that is asked for at once is halved down to this where Prometheus does not answer, in seconds.
SHORTEST_READ = 300.0
#: Seconds after which the operator gives up a replay.
LONGEST_BACKTEST = 1800.0
#: How polite a replay beside the operator is.
NICENESS = 10
_DAY = 86_400.0

OnProgress = Callable[[str, int, int], None]
_Samples = tuple[Result, Sequence[Counter[CounterLabels]]]
_DIALECT: Dialect = IstioDialect()


# --- for the operator ------------------------------------------------------------------------------------------------


class Backtests:
    """Replays for the operator, one at a time, each in a process of its own that yields to everything else.

    Parameters
    ----------
    days
        How far a record reaches back at most. A plan's own ``baseline.window`` may be shorter.
    runs
        Cutovers to replay.
    timeout
        Seconds after which one is given up.
    """

    def __init__(self, *, days: float = 7.0, runs: int = 200, timeout: float = LONGEST_BACKTEST) -> None:
        self._days = days
        self._runs = runs
        self._timeout = timeout
        self._turn = asyncio.Semaphore(1)

    async def forecast(self, plan: Plan, subscription: Subscription) -> BacktestStatus:
        """Return what a replay predicts for a plan, or a status without runs that says why there is none.

        It takes minutes, and never raises but when it is cancelled: then the process ends too.

        Parameters
        ----------
        plan
            The plan; its baseline has the latency thresholds, if they are known.
        subscription
            Where Heroku's requests are counted.
        """
        days = min(self._days, plan.spec.baseline.window.total_seconds() / _DAY)
        arguments = [
            "--plan=-",
            "--json",
            "--quiet",
            f"--days={days}",
            f"--runs={self._runs}",
            f"--nice={NICENESS}",
            f"--service={subscription.heroku}",
            *(f"--gateway-namespace={namespace}" for namespace in subscription.observers),
        ]
        async with self._turn:
            try:
                async with asyncio.timeout(self._timeout):
                    return await _in_a_process(arguments, _manifest(plan))
            except TimeoutError:
                return impossible(f"the replay was not done within {span(self._timeout)}")
            except OSError as error:
                return impossible(f"the replay could not be started: {error.strerror}")


async def _in_a_process(arguments: Sequence[str], manifest: bytes) -> BacktestStatus:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cutover.services.backtest",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Nothing here is multiplied; a pool of threads would only take memory.
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    try:
        answer, problem = await process.communicate(manifest)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    try:
        return BacktestStatus.from_wire(json.loads(answer)["backtest"])
    except (KeyError, TypeError, ValueError):
        last = problem.decode(errors="replace").strip().splitlines()[-1:]
        return impossible(f"the replay ended with {process.returncode}: {''.join(last)[:300]}")


def _manifest(plan: Plan) -> bytes:
    status: dict[str, Any] = {}
    if plan.status.baseline is not None:  # its thresholds
        status = {"baseline": plan.status.baseline.model_copy(update={"backtest": None}).to_wire()}
    body = {
        "apiVersion": "cutover.dev/v1alpha1",
        "kind": KIND,
        "metadata": {"name": plan.name, "namespace": plan.namespace},
        "spec": plan.spec.to_wire(),
        "status": status,
    }
    return json.dumps(body).encode()


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Now:
    """A clock that stands still: a record ends where it ended when it was begun to be read."""

    at: float

    def now(self) -> float:
        """Return Unix seconds."""
        return self.at


async def read_thresholds(
    prometheus: Prometheus, plan: Plan, subscription: Subscription, *, end: float, interval: float
) -> Subscription:
    """Return the subscription with the latency thresholds that the plan names, its baseline has, or the last day gives.

    Raises
    ------
    NotPossible
        If there are too few requests to choose them from.
    Unavailable
        If Prometheus does not answer.
    """
    status = plan.status
    if thresholds_wanted(plan.spec) and (status.baseline is None or status.baseline.slow_ms is None):
        reader = Sampler(prometheus, _DIALECT, _Now(end), on_samples=lambda _: None, scrape_interval=interval)
        histogram = await reader.histogram(replace(subscription, since=max(subscription.since, end - _DAY)))
        if histogram.total < LEAST_REQUESTS:
            raise NotPossible(
                f"{histogram.total:,.0f} requests of {subscription.heroku} at the gateways of {_listed(subscription)} in the last day, "
                f"and choosing the latency thresholds takes {LEAST_REQUESTS:,}; name slowMs and verySlowMs in the latency "
                "gate, or the service that Heroku's requests are counted under, with --service"
            )
        try:
            slow, very_slow = choose_thresholds(histogram)
        except ValueError as problem:
            raise NotPossible(str(problem)) from problem
        chosen = BaselineStatus(since=datetime.fromtimestamp(end, UTC), slow_ms=slow, very_slow_ms=very_slow)
        status = status.model_copy(update={"baseline": chosen})
    slow_ms, very_slow_ms = thresholds(plan.spec, status)
    return replace(subscription, slow_ms=slow_ms, very_slow_ms=very_slow_ms)


async def read_record(
    prometheus: Prometheus, subscription: Subscription, *, end: float, interval: float, on_progress: OnProgress
) -> Record:
    """Read Heroku's counts at each gateway from ``subscription.since`` on, at most an hour at a time.

    Parameters
    ----------
    prometheus
        Where to ask.
    subscription
        What to read, with its thresholds.
    end
        Unix seconds.
    interval
        Seconds between two scrapes of the gateways.
    on_progress
        Told the seconds read and of how many.

    Raises
    ------
    Unavailable
        If Prometheus does not answer, not even for five minutes.
    """
    length, reach = subscription.block_seconds, REACH_IN_SCRAPES * interval
    record, position, longest = Record(length), subscription.since, LONGEST_REPLAY
    while position + 2 * length <= end:
        until = min(end, position + max(longest, 2 * length))
        try:
            samples = await heroku_samples(prometheus, _DIALECT, subscription, start=position, end=until, reach=reach)
            blocks, instances = _cut(samples, subscription, start=position, end=until, interval=interval)
        except Unavailable:
            if longest <= SHORTEST_READ:
                raise
            longest = max(longest / 2, SHORTEST_READ)
            continue
        record.add(blocks, instances)
        position = blocks[-1].end
        on_progress("read", round(min(position, end) - subscription.since), round(end - subscription.since))
    return record


def _cut(
    samples: _Samples, subscription: Subscription, *, start: float, end: float, interval: float
) -> tuple[list[Block], dict[str, list[Block]]]:
    """Cut the blocks of all gateways together, and of each: they end just after the scrapes, as live ones do."""
    with Understood(_DIALECT.labels.product):
        all_of_them = Reading.of_answers(*samples)
        by_gateway = {name: Reading.of_answers(*own) for name, own in _by_gateway(samples).items()}
    newest = (all_of_them.last_scrape(source, end, inclusive=True) for source in all_of_them.sources())
    phase = best_phase([at for at in newest if at > start], interval) or 0.0
    length = subscription.block_seconds
    first = math.ceil((start - phase) / length) * length + phase
    last = first + max(1, math.floor((end - first) / length)) * length

    def cut_all(reading: Reading) -> list[Block]:
        reach = REACH_IN_SCRAPES * interval
        return blocks_of(reading, subscription, start=first, end=last, length=length, reach=reach)

    return cut_all(all_of_them), {name: cut_all(reading) for name, reading in by_gateway.items()}


def _by_gateway(samples: _Samples) -> dict[str, _Samples]:
    found: dict[str, tuple[list[Mapping[str, Any]], list[Counter[CounterLabels]]]] = {}

    def parts(pod: str, instance: str) -> tuple[list[Mapping[str, Any]], list[Counter[CounterLabels]]]:
        return found.setdefault(pod or instance, ([], []))

    presence, counters = samples
    for item in presence:
        labels: Mapping[str, str] = item["metric"]
        parts(labels.get("pod", ""), labels.get("instance", ""))[0].append(item)
    for counter in counters:
        parts(counter.metric.pod, counter.metric.instance)[1].append(counter)
    return {name: parts for name, parts in found.items() if parts[1]}


def _listed(subscription: Subscription) -> str:
    return ", ".join(subscription.observers)


# --- the command -----------------------------------------------------------------------------------------------------


async def forecast(
    arguments: argparse.Namespace, environ: Mapping[str, str], plan: Plan, on_progress: OnProgress
) -> tuple[Forecast, Subscription]:
    """Read the record and replay the plan's cutover on it.

    Raises
    ------
    NotPossible, SettingsError, Unavailable
        With the reason for people.
    """
    settings = read_settings(environ)
    if arguments.prometheus:
        try:
            server = PrometheusServer(url=arguments.prometheus, bearer_token_file=settings.prometheus_token_file)
        except ValidationError as error:
            raise SettingsError(f"--prometheus: {problem_text(error)}") from error
        servers = PrometheusServers(default=server)
    else:
        servers = read_servers(settings)
    sources = Sources(servers, settings.scrape_interval)
    try:
        name = "" if arguments.prometheus else plan.spec.gates.prometheus or ""
        if name and name not in sources.allowed(plan.namespace):
            raise NotPossible(f"gates.prometheus: plans of namespace {plan.namespace} may not choose {name!r}")
        prometheus, interval = sources.get(name), sources.scrape_interval(name)
        end = time.time() - settings.settle - interval
        # No EKS leg: a plan that was tried before has not moved all of the record's requests.
        counted = _DIALECT.subscription(plan)
        subscription = replace(
            counted,
            heroku=arguments.service or counted.heroku,
            eks="",
            observers=tuple(arguments.gateway_namespace) or counted.observers,
            since=end - arguments.days * _DAY,
        )
        subscription = await read_thresholds(prometheus, plan, subscription, end=end, interval=interval)
        record = await read_record(prometheus, subscription, end=end, interval=interval, on_progress=on_progress)
    finally:
        await sources.close()
    if not record.requests:
        raise NotPossible(
            f"no requests of {subscription.heroku} at the gateways of {_listed(subscription)} in the last {span(arguments.days * _DAY)}; "
            "--service and --gateway-namespace say where Heroku's traffic is counted"
        )
    predicted = backtest(
        record,
        plan.spec,
        runs=arguments.runs,
        seed=arguments.seed,
        split=arguments.split,
        on_progress=lambda done, runs: on_progress("replayed", done, runs),
    )
    return predicted, subscription


def read_plan(path: str, name: str | None) -> Plan:
    """Read the MigrationPlan of a file, or of the standard input for ``-``.

    Raises
    ------
    NotPossible
        If there is none, more than one, or one that is not valid.
    """
    where = "the standard input" if path == "-" else path
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        documents = [json.loads(json.dumps(one, default=_isoformat)) for one in yaml.safe_load_all(text)]
    except OSError as error:
        raise NotPossible(f"{where} cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise NotPossible(f"{where} is not YAML{line}: {error.problem}") from None
    except (yaml.YAMLError, TypeError, ValueError, RecursionError):
        raise NotPossible(f"{where} is not YAML in UTF-8") from None
    plans = [one for one in documents if isinstance(one, dict) and one.get("kind") == KIND]
    if name is not None:
        plans = [one for one in plans if (one.get("metadata") or {}).get("name") == name]
    if len(plans) != 1:
        many = f"{len(plans)} plans; choose one with --name" if plans else f"no {KIND}"
        raise NotPossible(f"{where} has {many}" + (f" named {name}" if name and not plans else ""))
    try:
        plan = MigrationPlan.from_wire(plans[0])
        return Plan(
            namespace=plan.metadata.get("namespace", "default"),
            name=plan.metadata["name"],
            uid="",
            generation=0,
            spec=plan.spec,
            status=plan.status,
        )
    except ValidationError as error:
        raise NotPossible(f"{where}: {problem_text(error)}") from None
    except KeyError:
        raise NotPossible(f"{where}: metadata.name is missing") from None


def _isoformat(value: Any) -> str:
    return str(value.isoformat())


def table(predicted: Forecast, plan: Plan, subscription: Subscription) -> str:
    """Write a forecast as people read it."""
    by = f"by {predicted.instances} gateway instances" if predicted.split == "instances" else "by neighbouring blocks"
    latency = [f"{bound:g} ms" for bound in (subscription.slow_ms, subscription.very_slow_ms) if bound is not None]
    record = (
        f"{span(predicted.record_seconds)}, {per_second(predicted.rate)}, {percent(predicted.unusable)} of its blocks "
        "unusable"
    )
    false = (
        f"{predicted.false_rollbacks} of {predicted.runs}: {percent(predicted.rate_seen)}, 95 % interval "
        f"{percent(predicted.low)} to {percent(predicted.high)} (Clopper-Pearson), {percent(predicted.allowed)} allowed"
    )
    whole = (
        "nothing got through" if predicted.seconds is None else f"{span(predicted.seconds)} until 100 %, the median"
    )
    lines = [
        f"{plan.key}: {predicted.runs} cutovers replayed on what {subscription.heroku} did",
        "",
        f"record           {record}",
        f"split            {by}, requests thinned at random to each step's weight",
        *([f"slow, very slow  over {' and '.join(latency)}"] if latency else []),
        "",
        f"false rollbacks  {false}",
        f"stuck            {predicted.stuck} of {predicted.runs}",
        f"whole cutover    {whole}",
        "",
        "step           EKS requests   until proven safe   time at the weight",
        "                     median      median    90 %       median    90 %   rolled back   stuck",
    ]
    lines += [
        f"{step.weight:>3} → {step.next_weight:>3} %   {step.requests:>12,.0f}   {_time(step.proven_seconds):>9}  "
        f"{_time(step.slowest_proven_seconds):>6}    {_time(step.seconds):>9}  {_time(step.slowest_seconds):>6}   "
        f"{step.rolled_back:>11}   {step.undecided + step.record_ended:>5}"
        for step in predicted.steps
    ]
    if predicted.notes:
        lines += ["", *predicted.notes]
    return "\n".join(lines)


def _time(seconds: float) -> str:
    if math.isinf(seconds):
        return "never"
    return f"{seconds:.0f} s" if seconds < 1000 else span(seconds)


def to_json(predicted: Forecast, code: int) -> dict[str, Any]:
    """Return the status and all figures; times that never came are null."""

    def finite(value: Any) -> Any:
        match value:
            case dict():
                return {key: finite(one) for key, one in value.items()}
            case list() | tuple():
                return [finite(one) for one in value]
            case float() if not math.isfinite(value):
                return None
            case _:
                return value

    return {
        "code": code,
        "backtest": predicted.status().to_wire(),
        "forecast": finite(dataclasses.asdict(predicted)),
    }


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse's own 2 means something else here.
        self.exit(NO_FORECAST, f"{self.prog}: {message}; see --help\n")


def _parser() -> argparse.ArgumentParser:
    def number(text: str) -> int:
        value = int(text)
        if not 1 <= value <= 100_000:
            raise argparse.ArgumentTypeError(f"{text} is not between 1 and 100000")
        return value

    def days(text: str) -> float:
        value = float(text)
        if not 0 < value <= 90:
            raise argparse.ArgumentTypeError(f"{text} is not above 0 and up to 90")
        return value

    parser = _Parser(
        prog="cutover-backtest",
        description="Replay a plan's cutover on Heroku's own traffic in Prometheus: how often would the gate go back with"
        " nothing to find, and how long will it take? Prometheus and its credentials come from the operator's settings"
        " (CUTOVER_PROMETHEUS_URL and others).",
        epilog=f"Exits with {WITHIN} where the plan's falseRollbackRate is not contradicted, {ABOVE} where it is exceeded"
        f" and {NO_FORECAST} where there is no forecast.",
    )
    parser.add_argument(
        "--plan", required=True, metavar="FILE", help="YAML with the MigrationPlan; - reads it from stdin"
    )
    parser.add_argument("--name", help="the plan's name, where the file has several")
    parser.add_argument("--prometheus", metavar="URL", help="another Prometheus than that of the settings")
    parser.add_argument("--service", help="destination_service of Heroku's traffic; default spec.heroku.hostname")
    parser.add_argument(
        "--gateway-namespace",
        action="append",
        default=[],
        metavar="NAMESPACE",
        help="where the gateways run that count it; default the namespaces of the gateways in spec.traffic",
    )
    parser.add_argument("--days", type=days, default=7.0, help="length of the record; default 7")
    parser.add_argument("--runs", type=number, default=200, help="cutovers to replay; default 200")
    parser.add_argument("--seed", type=int, default=1, help="the same seed and record give the same forecast")
    parser.add_argument("--split", choices=("instances", "time"), help="how the record becomes two legs")
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.add_argument("--nice", type=int, default=0, help="lower the process' priority by so much")
    return parser


def _tell(quiet: bool) -> OnProgress:
    told: dict[str, int] = {}

    def on_progress(what: str, done: int, of: int) -> None:
        tenth = 10 * done // max(of, 1)
        if not quiet and told.get(what) != tenth:
            told[what] = tenth
            progress = f"{span(done)} of {span(of)}" if what == "read" else f"{done} of {of} cutovers"
            print(f"{what} {progress}", file=sys.stderr, flush=True)

    return on_progress


@contextlib.contextmanager
def _reasons(as_json: bool) -> Iterator[None]:
    """Turn what keeps from a forecast into one line and an exit code."""
    try:
        yield
    except (NotPossible, SettingsError, Unavailable) as reason:
        text = " ".join(str(reason).split())
        if as_json:
            print(json.dumps({"code": NO_FORECAST, "backtest": impossible(text).to_wire()}))
        print(f"cutover-backtest: {text}", file=sys.stderr)
        sys.exit(NO_FORECAST)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command."""
    arguments = _parser().parse_args(argv)
    if arguments.nice > 0:
        os.nice(arguments.nice)
    try:
        with _reasons(arguments.json):
            plan = read_plan(arguments.plan, arguments.name)
            predicted, subscription = asyncio.run(forecast(arguments, os.environ, plan, _tell(arguments.quiet)))
    except KeyboardInterrupt:
        sys.exit(130)
    code = WITHIN if predicted.within else ABOVE
    if predicted.seconds is None and predicted.within:
        code = NO_FORECAST  # nothing got through: that is no promise
    print(
        json.dumps(to_json(predicted, code), ensure_ascii=False)
        if arguments.json
        else table(predicted, plan, subscription)
    )
    if code == NO_FORECAST:
        print("cutover-backtest: no replayed cutover got through to 100 %", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
