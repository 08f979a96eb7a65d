"""Start the operator: read the settings, connect the adapters, hand over to Kopf."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import kopf
import prometheus_client
import structlog
from aiohttp import web

from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.discovery import OWN_KINDS, named, served, until_served
from cutover.adapters.kube.inventory import KubernetesInventories
from cutover.adapters.kube.lease import Election, LeaseLost
from cutover.adapters.kube.plans import KubernetesPlans
from cutover.adapters.kube.templates import TemplateCache
from cutover.adapters.masking import masked
from cutover.adapters.notify.notifier import HttpNotifier
from cutover.adapters.prometheus.sources import Sources
from cutover.adapters.traffic.istio.leg_probe import HttpGateway
from cutover.adapters.traffic.istio.provider import ROUTING_KINDS, DevelopmentHeroku, IstioTraffic, RouteCache
from cutover.api.v1alpha1 import BacktestStatus
from cutover.domain.observation import Plan
from cutover.domain.preflight.inventory import ClusterSettings
from cutover.domain.resources import PLANS, Resource
from cutover.kopf_app.handlers import Operator, kopf_settings, register
from cutover.metrics import OperatorCollector
from cutover.ports import Clock, Gateway, Metrics, Notifier, SloFeed, Subscription, Unavailable
from cutover.scale.garbage import collect_rarely
from cutover.services.backtest import Backtests
from cutover.services.plan_loop import Ports
from cutover.services.samplers import Samplers
from cutover.services.slo_feed import PrometheusSloFeed
from cutover.settings import (
    PrometheusServers,
    Receiver,
    Settings,
    SettingsError,
    read_receivers,
    read_servers,
    read_settings,
)

#: The kinds that Kopf watches for the operator.
WATCHED = OWN_KINDS | ROUTING_KINDS
#: Passes that may look at the world at the same time.
CONCURRENT_PASSES = 64
#: Seconds between two looks for kinds that were not served at the start.
KINDS_SECONDS = 10.0
#: Seconds between two logins of Kopf, which reads the files with the credentials for each.
LOGIN_SECONDS = 2.0
#: The exit code of a process that lost its lease.
EXIT_LEASE_LOST = 75
#: The exit code of a process that is to be started anew, as the API server serves other kinds by now.
EXIT_OTHER_KINDS = 76

log = structlog.get_logger("cutover")


class OtherKindsError(Exception):
    """The API server does not serve the kinds any more that Kopf watches, or more of those that it should; says which."""


@dataclass(frozen=True, slots=True)
class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return Unix seconds."""
        return time.time()


async def run(settings: Settings, servers: PrometheusServers, receivers: tuple[Receiver, ...]) -> None:
    """Run until a signal says to stop."""
    # Until Kopf has its own; a process that is the first of its container gets no signal that it does not ask for.
    waiting = asyncio.current_task()
    assert waiting is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, waiting.cancel)
    scope = f"{settings.selector or ''} {','.join(sorted(settings.namespaces))}"
    election = await Election.connect(settings.kubeconfig, settings.lease, scope=scope) if settings.lease else None
    leading: Callable[[], bool] = (lambda: election.leading) if election else (lambda: True)
    cluster = await Cluster.connect(settings.kubeconfig, may_write=leading)
    sources = Sources(servers, settings.scrape_interval)
    gateway, clock, waker = HttpGateway(cluster, settings.gateway_urls), SystemClock(), LoopWaker()
    notifier = HttpNotifier(receivers)
    samplers = Samplers(
        {name: sources.get(name) for name in sources.names},
        IstioDialect(settings.cluster_domain),
        clock,
        on_samples=waker,
        scrape_intervals={name: sources.scrape_interval(name) for name in sources.names},
        settle=settings.settle,
    )
    own = PrometheusSloFeed(sources.own, clock, on_news=waker)
    operator = waker.operator = assemble(
        settings,
        cluster,
        gateway,
        samplers,
        own,
        clock,
        sources=sources.allowed,
        backtest=Backtests().forecast,
        notifier=notifier,
    )
    if settings.metrics_port:
        collector = OperatorCollector(
            operator.loops.values,
            cluster,
            samplers,
            own,
            sources.skews,
            # Who waits for the plans' CRD looks after nobody.
            lambda: leading() and operator.serving,
            lambda: notifier.senders,
        )
        prometheus_client.REGISTRY.register(collector)
        prometheus_client.start_http_server(settings.metrics_port, settings.listen_address)

    async def act() -> None:
        notifier.start()
        services = (samplers.run(), own.run(), sources.run(), collect_rarely())
        background = [asyncio.create_task(service) for service in services]
        try:
            await look_after(settings, cluster, operator, at_end=election.release if election else None)
        finally:
            for task in background:
                task.cancel()

    try:
        await (elected(settings, election, act) if election else act())
    finally:
        await notifier.close()
        await gateway.close()
        await sources.close()
        await cluster.close()
        if election:
            await election.close()


async def elected(settings: Settings, election: Election, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Wait until it is this process that acts, and act; end the process at once when it may not any more.

    Nothing is stopped first, and the process does not wait for the lease again. A Kopf that stops takes seconds, and
    takes all tasks of its loop for its own; a process that has ended writes nothing, leaves nothing behind and cannot
    hang. All that matters is in the plans' status and in Prometheus. Kubernetes starts it anew.
    """
    health = await _answer_health(settings)

    async def lead() -> None:
        await health.cleanup()  # Kopf answers at the same port
        await act()

    try:
        await election.run(lead)
    except LeaseLost as lost:
        log.critical("lease lost: this process ends", lease=settings.lease, problem=str(lost), code=EXIT_LEASE_LOST)
        os._exit(EXIT_LEASE_LOST)
    finally:
        await health.cleanup()


async def _answer_health(settings: Settings) -> web.AppRunner:
    """Answer ``/healthz`` until :meth:`cleanup`."""

    async def alive(_: web.Request) -> web.Response:
        return web.json_response({})

    application = web.Application()
    application.router.add_get("/healthz", alive)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    if settings.health_port:
        await web.TCPSite(runner, settings.listen_address, settings.health_port).start()
    return runner


def assemble(
    settings: Settings,
    cluster: Cluster,
    gateway: Gateway,
    metrics: Metrics,
    own: SloFeed,
    clock: Clock,
    *,
    sources: Callable[[str], tuple[str, ...]],
    backtest: Callable[[Plan, Subscription], Coroutine[Any, Any, BacktestStatus]],
    notifier: Notifier,
) -> Operator:
    """Put the operator together on top of what asks the outside world."""
    routes, templates = RouteCache(), TemplateCache()
    development = DevelopmentHeroku(*settings.development_heroku) if settings.development_heroku else None
    ports = Ports(
        plans=KubernetesPlans(cluster, os.environ.get("HOSTNAME", ""), settings.selector),
        traffic=IstioTraffic(cluster, routes, development, settings.cluster_domain),
        inventories=KubernetesInventories(
            cluster, ClusterSettings(settings.gateway_namespaces, settings.cluster_domain)
        ),
        gateway=gateway,
        metrics=metrics,
        own=own,
        clock=clock,
        dialect=IstioDialect(settings.cluster_domain),
        templates=templates.of,
        sources=sources,
        backtest=backtest,
        slots=asyncio.Semaphore(CONCURRENT_PASSES),
        notifier=notifier,
    )
    return Operator(ports, routes, templates)


async def look_after(
    settings: Settings,
    cluster: Cluster,
    operator: Operator,
    *,
    at_end: Callable[[], Coroutine[Any, Any, None]] | None,
) -> None:
    """Let Kopf run the operator, once there are plans that it can watch.

    Kopf looks for kinds when it starts; see :func:`cutover.kopf_app.handlers.kopf_settings`. Without plans there is nothing to look
    after. Without any of the others there is, such as plans that say why they do not go on.

    Parameters
    ----------
    at_end
        As for :func:`serve`.

    Raises
    ------
    OtherKindsError
        When one of the others is there, or when one is not there any more.
    """
    health = await _answer_health(settings)
    try:
        there = await until_served(cluster, WATCHED, PLANS)
    finally:
        await health.cleanup()
    stop = asyncio.Event()
    if missing := WATCHED - there:
        log.warning(
            "not watched, as the API server does not serve them: are their CRDs installed?", kinds=named(missing)
        )
    come = asyncio.create_task(_until_more(cluster, there, stop))
    operator.serving = True
    try:
        await serve(settings, operator, stop, at_end=at_end)
    except Exception as failure:
        try:
            gone = there - await served(cluster, WATCHED)
        except Unavailable:
            raise failure from None
        if not gone:
            raise
        raise OtherKindsError(f"{named(gone)}: not served any more") from None
    finally:
        operator.serving = False
        come.cancel()
    if stop.is_set():
        raise OtherKindsError("some are served that were not before")


async def _until_more(cluster: Cluster, there: frozenset[Resource], stop: asyncio.Event) -> None:
    """Stop once the API server serves more of what is to be watched than at the start."""
    more: frozenset[Resource] = frozenset()
    while not more and there != WATCHED:
        await asyncio.sleep(KINDS_SECONDS)
        with contextlib.suppress(Unavailable):
            more = await served(cluster, WATCHED) - there
    if more:
        stop.set()


async def serve(
    settings: Settings,
    operator: Operator,
    stop: asyncio.Event | None = None,
    *,
    at_end: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Let Kopf run the operator until a signal, or ``stop``, says to stop.

    Parameters
    ----------
    at_end
        Done once no plan is looked after any more; Kopf itself takes seconds longer.
    """
    registry = kopf.OperatorRegistry()
    register(registry, operator)
    _register_login(registry, settings)
    if at_end is not None:

        @kopf.on.cleanup(registry=registry)
        async def ended(**_: Any) -> None:
            await at_end()

    health = f"http://{settings.listen_address}:{settings.health_port}/healthz" if settings.health_port else None
    await kopf.operator(
        registry=registry,
        settings=kopf_settings(selector=settings.selector),
        standalone=True,
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        liveness_endpoint=health,
        stop_flag=stop,
    )


class LoopWaker:
    """Wakes a plan whose blocks are there; the operator that has the loops comes after the sampler."""

    def __init__(self) -> None:
        self.operator: Operator | None = None

    def __call__(self, key: str) -> None:
        """Make the next pass of the plan ``namespace/name`` now."""
        if self.operator is not None:
            self.operator.wake(key)


@dataclass(frozen=True, eq=False, kw_only=True)
class Login(kopf.ConnectionInfo):
    """Credentials that are equal to no others.

    Kopf takes equal ones that were refused once for refused for ever, and ends the process. But an API server refuses
    good tokens too, as while it starts or cannot ask whoever checks them, and then Kubernetes would start the process
    anew at ever longer intervals.
    """

    __eq__ = object.__eq__
    __hash__ = object.__hash__


def _register_login(registry: kopf.OperatorRegistry, settings: Settings) -> None:
    last = -math.inf

    @kopf.on.login(registry=registry, errors=kopf.ErrorsMode.TEMPORARY, backoff=LOGIN_SECONDS)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        nonlocal last
        # Kopf logs in whenever its credentials are refused, at once.
        await asyncio.sleep(max(0.0, last + LOGIN_SECONDS - time.monotonic()))
        last = time.monotonic()
        if settings.kubeconfig is not None:
            found = kopf.login_with_kubeconfig(**kwargs)
        else:
            found = kopf.login_with_service_account(**kwargs)
        return None if found is None else Login(**vars(found))


def configure_logging(level: str) -> None:
    """Log JSON, one object a line, also what libraries log."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(sort_keys=False),
                # Kopf quotes what an API server, or a proxy before it, answers.
                lambda _, __, line: masked(str(line)),
            ],
            # Kopf's own lines do not name the object that they are about.
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(allow=["k8s_ref"]), *shared],
        )
    )
    handler.addFilter(_without_traceback)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    # They tell of every object and request, whole bodies at DEBUG, and nothing of a decision.
    for name in ("kopf", "httpx", "httpcore", "aiohttp.access"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # It tells of every attempt; adapters/kube/lease.py tells of what changes.
    logging.getLogger("kubernetes.aio.leaderelection").setLevel(logging.CRITICAL)


def _without_traceback(record: logging.LogRecord) -> bool:
    """Take the traceback off what Kopf says of a kind that is gone, which is no fault of the program's."""
    # Kopf's own exceptions are not for others to import.
    if record.name.startswith("kopf.") and record.exc_info and type(record.exc_info[1]).__name__ == "APINotFoundError":
        record.exc_info = None
    return True


def main() -> None:
    """Run the operator as a process."""
    try:
        settings = read_settings(os.environ)
        servers, receivers = read_servers(settings), read_receivers(settings)
    except SettingsError as error:
        sys.exit(f"settings: {error}")
    configure_logging(settings.log_level)
    if settings.kubeconfig is not None:
        os.environ["KUBECONFIG"] = str(settings.kubeconfig)  # where Kopf looks
    try:
        with contextlib.suppress(asyncio.CancelledError):  # a signal, before Kopf handles them
            asyncio.run(run(settings, servers, receivers))
    except SettingsError as error:
        sys.exit(f"settings: {error}")
    except OtherKindsError as other:
        log.critical("other kinds: this process ends", problem=str(other), code=EXIT_OTHER_KINDS)
        sys.exit(EXIT_OTHER_KINDS)


if __name__ == "__main__":
    main()
