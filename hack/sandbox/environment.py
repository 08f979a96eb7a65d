"""Starts and stops a whole cutover environment, and gives tests and the demo its handles."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from demoapps.apps import DemoApps, KnobHandle
from demoapps.load import Load, Target
from devstack.api import KubeApi
from devstack.stack import Stack
from sandbox import manifests
from sandbox.guard import Guard
from sandbox.manifests import NAMESPACE, OPERATOR_ACCOUNT, OPERATOR_NAMESPACE, Json
from sandbox.operator_process import OperatorProcess

#: Of a request when all is well. Next to it the machine's own unevenness is small, and no bound of the histogram is near.
_LATENCY_MS = 75.0
_PLANS = f"/apis/cutover.dev/v1alpha1/namespaces/{NAMESPACE}/migrationplans"


class Timeout(AssertionError):
    """Something that was waited for did not come."""


class Environment:
    """A cluster with both legs of some services, load on them, and the operator.

    Parameters
    ----------
    state_dir
        The folder for data and logs.
    services
        Names of the services; each has an app on Heroku and a Deployment on EKS.
    scrape_interval
        Seconds between two scrapes.
    gateways
        Proxies of the ingress gateway.
    settings
        Further settings of each operator, by the name of the environment variable.
    backfill
        How old samples may be that a test writes to Prometheus, as for the stack.
    log
        Called with a line for each step of starting.
    """

    def __init__(
        self,
        state_dir: Path,
        services: Sequence[str],
        *,
        scrape_interval: float = 5.0,
        gateways: int = 1,
        detached: bool = False,
        settings: Mapping[str, str] | None = None,
        backfill: str = "",
        log: Callable[[str], None] | None = None,
    ) -> None:
        self._settings = dict(settings or {})
        self.state_dir = state_dir.absolute()
        self.services = tuple(services)
        self._log = log or (lambda _: None)
        self.stack = Stack(
            self.state_dir / "stack",
            scrape_interval_seconds=scrape_interval,
            gateways=gateways,
            backfill=backfill,
            detached=detached,
            log=log,
        )
        self.apps = DemoApps(
            self.state_dir / "apps",
            {f"acme-{name}": manifests.domains(name) for name in services},
            services,
            namespace=NAMESPACE,
            metrics_names={f"acme-{name}": name for name in services},
            outlive_parent=detached,
        )
        self.load: Load | None = None
        self.operator = OperatorProcess(self.stack, "operator", self._operator_settings)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --------------------------------------------------------------------------------------------------- everything

    def start(self) -> None:
        """Start the stack, the demo apps and the operator, and apply what a team would have there already."""
        self.stack.start()
        try:
            self.apps.start()
            for service in self.services:
                for leg in ("heroku", "eks"):
                    self.knobs(leg, service).set(latency_ms=_LATENCY_MS)
            self.stack.add_scrape_target("eks-app", f"http://127.0.0.1:{self.apps.eks_admin_port}/metrics")
            self.stack.add_scrape_target("heroku-app", f"http://127.0.0.1:{self.apps.heroku_admin_port}/metrics")
            self.install()
            self.start_operator()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything."""
        if self.load is not None:
            self.load.stop()
        self.apps.stop()
        self.stack.stop()

    def install(self) -> None:
        """Apply the CRDs, the operator's rights and the services."""
        self._log("applying the CRDs, the operator's rights and the services")
        self.stack.install_crds(manifests.crds())
        self.stack.apply(manifests.operator_rights(manifests.chart_rules()))
        objects: list[Json] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}]
        for service in self.services:
            objects += manifests.target(service, self.apps.eks_ports[service])
        self.stack.apply(objects)

    # ------------------------------------------------------------------------------------------------- the operator

    def start_operator(self, **settings: str) -> None:
        """Start the operator as its own process, under its ServiceAccount.

        Parameters
        ----------
        settings
            Further settings, by the name of the environment variable.
        """
        self._log("starting the operator")
        self.operator.start(**settings)

    def another_operator(self, name: str) -> OperatorProcess:
        """Return a further operator, to be started beside the first or instead of it.

        Parameters
        ----------
        name
            Its name among several.
        """
        return OperatorProcess(self.stack, name, self._operator_settings)

    def _operator_settings(self) -> dict[str, str]:
        account = self.stack.service_account_kubeconfig(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT)
        return {
            "CUTOVER_KUBECONFIG": str(account),
            "CUTOVER_PROMETHEUS_URL": self.stack.prometheus_url,
            # A scrape of this one small gateway is stored within milliseconds.
            "CUTOVER_SETTLE": "0.25",
            "CUTOVER_GATEWAY_URLS": json.dumps({"istio-ingress/public": self.stack.gateway_url}),
            "CUTOVER_DEVELOPMENT_HEROKU": json.dumps(["127.0.0.1", self.apps.heroku_port]),
            "CUTOVER_CACHE": "",
            **self._settings,
        }

    def restart_operator(self, **settings: str) -> None:
        """Stop the operator in good order and start it with these further settings."""
        self.stop_operator(signal.SIGTERM)
        self.start_operator(**settings)

    def guard(self, token: str) -> Guard:
        """Return a proxy before Prometheus that asks for a token, not yet started."""
        return Guard(self.state_dir, self.stack.prometheus_url, token)

    @property
    def metrics_port(self) -> int:
        """The loopback port of the operator's metrics."""
        return self.operator.metrics_port

    def operator_pid(self) -> int | None:
        """Return the operator's process id, or ``None`` when it does not run."""
        return self.operator.pid

    def stop_operator(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send the operator a signal and wait until it is gone."""
        self.operator.stop(number)

    def operator_log(self) -> str:
        """Return all that the operator has logged."""
        return self.operator.log()

    # ----------------------------------------------------------------------------------------------------- the world

    @cached_property
    def api(self) -> KubeApi:
        """A client of the API server, as the administrator."""
        return self.stack.api()

    def knobs(self, leg: str, service: str) -> KnobHandle:
        """Return the knobs of one leg of a service."""
        return self.apps.knobs("eks", service) if leg == "eks" else self.apps.knobs("heroku", f"acme-{service}")

    def start_load(self, rates: Mapping[str, float], *, timeout_s: float = 35.0, outlive_parent: bool = False) -> Load:
        """Start users' requests, per second and service."""
        targets = [Target(manifests.public_host(name), rate) for name, rate in rates.items()]
        self.load = Load(
            self.state_dir / "load",
            self.stack.gateway_url,
            targets,
            timeout_s=timeout_s,
            # For users who still come by Heroku's own address.
            ca_file=self.apps.ca_file,
            # Two gateways on one port share connections, not requests.
            new_connection_ratio=0.1 if self.stack.gateways > 1 else 0.0,
            outlive_parent=outlive_parent,
        )
        self.load.start()
        return self.load

    def apply(self, plan: Json) -> None:
        """Apply a plan as Flux would."""
        self.stack.apply([plan], field_manager="kustomize-controller")

    def plan(self, name: str) -> Json:
        """Read a plan."""
        found: Json = self.api.call(f"{_PLANS}/{name}")
        return found

    def status(self, name: str) -> Json:
        """Read a plan's status."""
        status: Json = self.plan(name).get("status", {})
        return status

    def patch(self, name: str, body: Json) -> None:
        """Change a plan, as a person would with ``kubectl patch``."""
        self.api.merge(f"{_PLANS}/{name}", body, "kubectl-patch")

    def virtual_service(self, name: str) -> Json:
        """Read the VirtualService that carries a plan's weights."""
        found: Json = self.api.call(
            f"/apis/networking.istio.io/v1/namespaces/{NAMESPACE}/virtualservices/cutover-{name}"
        )
        return found

    def routed_weight(self, name: str) -> int:
        """Return the percent of requests that the VirtualService sends to EKS."""
        split = next(route for route in self.virtual_service(name)["spec"]["http"] if route["name"] == "split")
        return sum(
            leg.get("weight", 0) for leg in split["route"] if leg["destination"]["host"].endswith("cluster.local")
        )

    def events(self, name: str) -> list[Json]:
        """Return the Events about a plan, oldest first."""
        items = self.api.call(f"/api/v1/namespaces/{NAMESPACE}/events")["items"]
        mine = [item for item in items if item["involvedObject"]["name"] == name]
        return sorted(mine, key=lambda item: item["metadata"]["creationTimestamp"])

    def until(self, what: str, condition: Callable[[], bool], seconds: float, every: float = 0.5) -> float:
        """Wait for a condition; return the Unix time at which it was seen.

        Raises
        ------
        Timeout
            When it does not come within ``seconds``.
        """
        end = time.time() + seconds
        while True:
            try:
                if condition():
                    return time.time()
            except OSError:  # an API server that is away on purpose
                pass
            if time.time() > end:
                raise Timeout(f"{what}: not within {seconds:g} s{self._states()}")
            time.sleep(every)

    def until_status(self, name: str, seconds: float, **wanted: Any) -> float:
        """Wait until fields of a plan's status have these values."""
        what = f"{name}: " + ", ".join(f"{field} is {value}" for field, value in wanted.items())
        return self.until(
            what, lambda: all(self.status(name).get(field) == value for field, value in wanted.items()), seconds
        )

    def _states(self) -> str:
        try:
            plans = self.api.call(_PLANS)["items"]
        except OSError:
            return ""
        return "".join(
            f"\n  {item['metadata']['name']}: "
            + " ".join(str(item.get("status", {}).get(field)) for field in ("phase", "weight", "reason", "message"))
            for item in plans
        )
