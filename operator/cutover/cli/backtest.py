"""The command ``cutover-backtest``, which replays a plan's cutover on Heroku's recorded traffic in Prometheus."""

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

from pydantic import ValidationError

from cutover.adapters.dialects.heroku_drain.counters import HerokuDrainDialect
from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.adapters.prometheus.sources import Sources
from cutover.api.durations import span
from cutover.api.problems import problem_text
from cutover.cli.plan_file import PlanFileError, read_plan
from cutover.domain.backtest.forecast import Forecast, impossible, per_second, percent
from cutover.domain.backtest.replay import NotPossible
from cutover.domain.evidence.lengths import UNSEEN_SECONDS
from cutover.domain.plan import Plan
from cutover.domain.texts import plain
from cutover.ports.block_feed import BlockSubscription, Dialect
from cutover.ports.errors import Unavailable
from cutover.services.backtest import OnProgress, forecast
from cutover.settings import PrometheusServer, PrometheusServers, Settings, SettingsError, read_servers, read_settings

#: Exit codes: the false rollback rate is within the plan's, there is no forecast, the rate is above the plan's.
WITHIN, NO_FORECAST, ABOVE = 0, 1, 2
_DAY = 86_400.0
#: Seconds stay seconds for longer in a column, so that its rows can be compared.
_in_column = partial(span, minutes_from=1000)


async def _forecast(
    arguments: argparse.Namespace, environ: Mapping[str, str], plan: Plan
) -> tuple[Forecast, BlockSubscription]:
    """Replay the plan on the record of its Prometheus.

    Raises
    ------
    NotPossible, SettingsError, Unavailable
        With a text for people.
    """
    settings = read_settings(environ)
    servers = _servers(arguments.prometheus, settings)
    drain = tuple(arguments.drain_namespace)
    dialect: Dialect = HerokuDrainDialect(drain) if drain else IstioDialect()
    sources = Sources(servers)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(sources.close)
        name = "" if arguments.prometheus else plan.spec.gates.prometheus or ""
        if name and name not in sources.allowed(plan.namespace):
            raise NotPossible(f"gates.prometheus: plans of namespace {plan.namespace} may not choose {name!r}")
        prometheus = sources.get(name)
        end = time.time() - settings.settle - UNSEEN_SECONDS
        counted = dialect.subscription(plan)
        subscription = replace(
            counted,
            heroku=arguments.service or counted.heroku,
            eks="",
            observers=tuple(arguments.gateway_namespace) or counted.observers,
            since=end - arguments.days * _DAY,
        )
        return await forecast(
            plan,
            prometheus,
            dialect,
            subscription,
            end=end,
            runs=arguments.runs,
            seed=arguments.seed,
            split=arguments.split,
            on_progress=_tell(arguments.quiet),
        )


def _servers(url: str | None, settings: Settings) -> PrometheusServers:
    """Return the servers of the settings, or the one at the URL. Raises SettingsError."""
    if not url:
        return read_servers(settings)
    try:
        server = PrometheusServer(url=url, bearer_token_file=settings.prometheus_token_file)
    except ValidationError as error:
        raise SettingsError(problem_text(error, "--prometheus: ")) from error
    return PrometheusServers(default=server)


def table(predicted: Forecast, plan: Plan, subscription: BlockSubscription) -> str:
    """Return a forecast as a table."""
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
        f"{step.weight:>3} → {step.next_weight:>3} %   {step.requests:>12,.0f}   {_in_column(step.proven_seconds):>9}  "
        f"{_in_column(step.slowest_proven_seconds):>6}    {_in_column(step.seconds):>9}  {_in_column(step.slowest_seconds):>6}   "
        f"{step.rolled_back:>11}   {step.undecided + step.record_ended:>5}"
        for step in predicted.steps
    ]
    if predicted.notes:
        lines += ["", *predicted.notes]
    return "\n".join(lines)


def to_json(predicted: Forecast, code: int) -> dict[str, Any]:
    """Return the status and all figures; infinite times are null."""

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
        # argparse's exit code 2 has another meaning here.
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
        description="Replay a plan's cutover on Heroku's own traffic in Prometheus: how often would the gate roll back a"
        " healthy service, and how long will the cutover take? Prometheus and its credentials come from the operator's settings"
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
    parser.add_argument(
        "--drain-namespace",
        action="append",
        default=[],
        metavar="NAMESPACE",
        help="read the record of cutover-drain, which runs there, instead of the gateways'; --service is the app then",
    )
    parser.add_argument("--days", type=days, default=7.0, help="length of the record; default 7")
    parser.add_argument("--runs", type=number, default=200, help="cutovers to replay; default 200")
    parser.add_argument("--seed", type=int, default=1, help="the same seed and record give the same forecast")
    parser.add_argument("--split", choices=("instances", "time"), help="how the record becomes two legs")
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.add_argument("--nice", type=int, default=0, help="the process' nice value")
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
    """Turn the reasons for no forecast into one line and an exit code."""
    try:
        yield
    except (NotPossible, PlanFileError, SettingsError, Unavailable) as reason:
        text = plain(" ".join(str(reason).split()))
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
            predicted, subscription = asyncio.run(_forecast(arguments, os.environ, plan))
    except KeyboardInterrupt:
        sys.exit(130)
    code = WITHIN if predicted.within else ABOVE
    if predicted.seconds is None and predicted.within:
        code = NO_FORECAST  # no replayed cutover reached 100 %: no claim is possible
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
