"""Wires adapters to ports, and owns their lifetimes."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from cutover.adapters.clocks import SystemClock
from cutover.adapters.dialects.heroku_drain.counters import HerokuDrainDialect
from cutover.adapters.dialects.heroku_drain.record import DrainRecord
from cutover.adapters.dialects.heroku_drain.usage import DrainUsage
from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.adapters.dialects.istio.history import IstioHistory
from cutover.adapters.dialects.kubernetes.usage import ClusterUsage, PodUsage
from cutover.adapters.heroku.client import HerokuClient
from cutover.adapters.heroku.keys import KeyedHerokuApi
from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.inventory import KubernetesInventories
from cutover.adapters.kube.plans import KubernetesPlans
from cutover.adapters.kube.reports import ConfigMapReports
from cutover.adapters.kube.templates import TemplateCache
from cutover.adapters.notify.notifier import HttpNotifier
from cutover.adapters.prometheus.sources import Sources
from cutover.adapters.report_folder import FolderReports
from cutover.adapters.resolver import DnsResolver
from cutover.adapters.traffic.istio.answers import HttpAnswers
from cutover.adapters.traffic.istio.leg_probe import HttpLegProbe
from cutover.adapters.traffic.istio.live import RouteCache
from cutover.adapters.traffic.istio.provider import IstioTraffic
from cutover.adapters.traffic.istio.rendering import DevelopmentHeroku
from cutover.api.v1alpha1 import BacktestStatus
from cutover.domain.fingerprints import Fingerprints
from cutover.domain.journal.reports import ReportLinks
from cutover.domain.plan import Plan
from cutover.domain.preflight.inventory import ClusterSettings
from cutover.domain.resources import CONFIG_MAPS
from cutover.metrics import OperatorCollector
from cutover.ports.all import Ports
from cutover.ports.answers import Answers
from cutover.ports.block_feed import BlockFeed, BlockSubscription
from cutover.ports.clock import Clock
from cutover.ports.heroku import HerokuApi
from cutover.ports.heroku_record import HerokuRecord
from cutover.ports.leg_probe import LegProbe
from cutover.ports.notifier import Notifier
from cutover.ports.records import Records
from cutover.ports.reports import Reports, ReportStore
from cutover.ports.resolver import Resolver
from cutover.ports.slo_feed import SloFeed
from cutover.report.record import Record
from cutover.scale.garbage import collect_rarely
from cutover.services.backtest_process import Backtests
from cutover.services.history import with_history
from cutover.services.operator import Operator
from cutover.services.records import PrometheusRecords
from cutover.services.reports import ReportWriter
from cutover.services.samplers import Samplers
from cutover.services.slo_feed import PrometheusSloFeed
from cutover.services.supervision import running
from cutover.settings import PrometheusServers, Receiver, Settings

#: Reconciles that may read from the outside world at the same time.
CONCURRENT_RECONCILES = 64


@dataclass(frozen=True, slots=True, eq=False)
class Wired:
    """The connected operator.

    Parameters
    ----------
    cluster
        The API server.
    operator
        The loops of all plans.
    collector
        The metrics of ``/metrics``.
    at_work
        Returns a context in which blocks are read, queries asked and notifications sent. Raises ServiceFailed.
    """

    cluster: Cluster
    operator: Operator
    collector: OperatorCollector
    at_work: Callable[[], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def wired(
    settings: Settings, servers: PrometheusServers, receivers: tuple[Receiver, ...], leading: Callable[[], bool]
) -> AsyncIterator[Wired]:
    """Connect everything; close it at the end, in reverse order.

    Parameters
    ----------
    settings, servers, receivers
        From the environment, and from the files that it names.
    leading
        Whether this process may act.

    Raises
    ------
    SettingsError
        Where the credentials for the API server cannot be read.
    """
    async with AsyncExitStack() as stack:
        cluster = await Cluster.connect(settings.kubeconfig, may_write=leading)
        stack.push_async_callback(cluster.close)
        sources = Sources(servers)
        stack.push_async_callback(sources.close)
        gateways = {name: gateway.url for name, gateway in settings.gateway_urls.items()}
        proxied = [name for name, gateway in settings.gateway_urls.items() if gateway.proxy_protocol]
        leg_probe = HttpLegProbe(cluster, gateways, proxied=proxied)
        stack.push_async_callback(leg_probe.close)
        fingerprints = Fingerprints(secrets.token_bytes(32))
        heroku = HerokuClient(settings.heroku_api_url, fingerprints=fingerprints)
        stack.push_async_callback(heroku.close)
        answers = HttpAnswers(cluster, gateways, proxied=proxied)
        stack.push_async_callback(answers.close)
        notifier = HttpNotifier(receivers, reports=ReportLinks(settings.reports, settings.reports_url or ""))
        stack.push_async_callback(notifier.close)

        clock, waker = SystemClock(), LoopWaker()
        dialect = IstioDialect(settings.cluster_domain)
        samplers = Samplers(
            {name: sources.get(name) for name in sources.names},
            dialect,
            clock,
            on_samples=waker,
            settle=settings.settle,
        )
        slo_feed = PrometheusSloFeed(sources.for_slos, clock, on_news=waker)
        reports = report_writer(settings, cluster, sources, clock)
        heroku_api = KeyedHerokuApi(heroku, cluster, settings.heroku_key_files)
        drain = HerokuDrainDialect((settings.drain_namespace,)) if settings.drain_namespace else None
        operator = waker.operator = assemble(
            settings,
            cluster,
            leg_probe,
            answers,
            samplers,
            slo_feed,
            clock,
            sources=sources.allowed,
            backtest=Backtests(drain_namespace=settings.drain_namespace).forecast,
            notifier=notifier,
            heroku=heroku_api,
            fingerprints=fingerprints,
            reports=reports,
            resolver=DnsResolver(),
            heroku_record=DrainRecord(sources.for_slos, samplers.now),
            records=PrometheusRecords(
                sources.for_slos,
                gateway=IstioDialect(settings.cluster_domain),
                drain=drain,
                create=partial(cluster.create, CONFIG_MAPS),
                now=samplers.now,
                usage=[*([DrainUsage(drain)] if drain is not None else []), ClusterUsage()],
                heroku=heroku_api,
            ),
        )
        collector = OperatorCollector(
            operator.loops.values,
            cluster,
            samplers,
            slo_feed,
            sources.skews,
            # A process that waits for the plans' CRD reconciles no plan.
            lambda: leading() and operator.serving,
            lambda: notifier.senders,
            counted=dialect.subscription,
            heroku=heroku,
            reports=reports,
        )

        def at_work() -> AbstractAsyncContextManager[None]:
            notifier.start()
            return running(
                {
                    "block feed": samplers.run(),
                    "SLO feed": slo_feed.run(),
                    "comparison of clocks": sources.run(),
                    "garbage collection": collect_rarely(),
                    **({"reports": reports.run()} if reports is not None else {}),
                }
            )

        yield Wired(
            cluster,
            operator,
            collector,
            at_work,
        )


def assemble(
    settings: Settings,
    cluster: Cluster,
    leg_probe: LegProbe,
    answers: Answers,
    block_feed: BlockFeed,
    slo_feed: SloFeed,
    clock: Clock,
    *,
    sources: Callable[[str], tuple[str, ...]],
    backtest: Callable[[Plan, BlockSubscription], Coroutine[Any, Any, BacktestStatus]],
    notifier: Notifier,
    heroku: HerokuApi | None = None,
    fingerprints: Fingerprints | None = None,
    reports: Reports | None = None,
    resolver: Resolver | None = None,
    heroku_record: HerokuRecord | None = None,
    records: Records | None = None,
) -> Operator:
    """Build the operator on top of the feeds and adapters."""
    routes, templates = RouteCache(), TemplateCache()
    development = DevelopmentHeroku(*settings.development_heroku) if settings.development_heroku else None
    ports = Ports(
        plans=KubernetesPlans(cluster, os.environ.get("HOSTNAME", ""), settings.selector),
        traffic=IstioTraffic(cluster, routes, development, settings.cluster_domain),
        inventories=KubernetesInventories(
            cluster,
            ClusterSettings(settings.gateway_namespaces, settings.cluster_domain),
            fingerprints=fingerprints,
        ),
        leg_probe=leg_probe,
        answers=answers,
        block_feed=block_feed,
        slo_feed=slo_feed,
        clock=clock,
        dialect=IstioDialect(settings.cluster_domain),
        templates=templates.of,
        sources=sources,
        backtest=backtest,
        slots=asyncio.Semaphore(CONCURRENT_RECONCILES),
        notifier=notifier,
        heroku=heroku,
        reports=reports,
        resolver=resolver,
        heroku_record=heroku_record,
        records=records,
    )
    return Operator(ports, routes, templates)


def report_writer(settings: Settings, cluster: Cluster, sources: Sources, clock: Clock) -> ReportWriter | None:
    """Return what keeps the reports of plans that end, with what the plan's own Prometheus has; ``None`` where nobody wants it."""
    stores: list[ReportStore] = []
    if settings.reports:
        stores.append(ConfigMapReports(cluster))
    if settings.reports_folder is not None:
        stores.append(FolderReports(settings.reports_folder))
    if not stores:
        return None
    queries = IstioHistory(settings.cluster_domain)

    async def history(record: Record) -> Record:
        plan = record.plan
        name = plan.spec.gates.prometheus or ""
        if name and name not in sources.allowed(plan.namespace):
            return record
        # The connections of custom SLOs: blocks wait for no report.
        return await with_history(record, sources.for_slos(name), queries, PodUsage())

    plans = KubernetesPlans(cluster, os.environ.get("HOSTNAME", ""), settings.selector)
    return ReportWriter(stores, plans, history, clock)


class LoopWaker:
    """Wakes a plan that has new blocks. The feeds need it before the operator, which has the loops, is built."""

    def __init__(self) -> None:
        self.operator: Operator | None = None

    def __call__(self, key: str) -> None:
        """Make the next reconcile of the plan ``namespace/name`` now."""
        if self.operator is not None:
            self.operator.wake(key)
