"""Both demo legs for a test, a demo or a benchmark: start them, turn their knobs, stop them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from .child import Child, call
from .heroku_sim import H12_SECONDS
from .knobs import KnobChanges, Knobs, Leg, knobs_of


class KnobHandle:
    """The knobs of one running app."""

    def __init__(self, admin_port: int, leg: Leg, app: str) -> None:
        self._admin_port = admin_port
        self._leg: Leg = leg
        self._path = f"/knobs/{app}"

    def set(self, **changes: Unpack[KnobChanges]) -> float:
        """Turn some knobs, see `Knobs`; the others stay.

        Returns
        -------
        float
            When they were in force, in unix seconds.

        Raises
        ------
        ChildError
            If a change is not possible; nothing is turned then.

        """
        return self._put(changes)

    def reset(self) -> float:
        """Make the app well again; returns when, in unix seconds."""
        well = Knobs()
        return self._put({name: getattr(well, name) for name in knobs_of(self._leg)})

    def get(self) -> Knobs:
        """Return the knobs as they are."""
        return Knobs(**call(self._admin_port, self._path)["knobs"])

    def _put(self, changes: Mapping[str, object]) -> float:
        return float(call(self._admin_port, self._path, changes)["at"])


class DemoApps:
    """Both legs, each as a process.

    They end with this process, however it ends, unless `outlive_parent` is set.

    Parameters
    ----------
    state_dir
        Directory for logs, ready files (JSON with pid and ports) and certificates.
    heroku_apps
        Hostnames of each app on Heroku, by the app's name.
    eks_services
        Names of the services on EKS, with fixed ports if it is a mapping.
    heroku_port, heroku_admin_port, eks_admin_port
        Ports; 0 takes free ones.
    h12_s
        Seconds that an app on Heroku has for its first byte.
    namespace
        Label of the container metrics.
    metrics_names
        What apps on Heroku call themselves in their own metrics, by the app's
        name; by default that name.
    seed
        Seed of the apps' dice.
    outlive_parent
        Leave them running when this process ends without `stop`.

    """

    def __init__(
        self,
        state_dir: Path,
        heroku_apps: Mapping[str, Sequence[str]],
        eks_services: Sequence[str] | Mapping[str, int],
        *,
        heroku_port: int = 0,
        heroku_admin_port: int = 0,
        eks_admin_port: int = 0,
        h12_s: float = H12_SECONDS,
        namespace: str = "demo",
        metrics_names: Mapping[str, str] | None = None,
        seed: int | None = None,
        outlive_parent: bool = False,
    ) -> None:
        self._state_dir = state_dir
        self._heroku_apps = {name: list(hostnames) for name, hostnames in heroku_apps.items()}
        self._apps_file = state_dir / "heroku-apps.json"
        seeded = [] if seed is None else ["--seed", str(seed)]
        self._heroku = Child(
            "demoapps.heroku_sim",
            [
                *("--apps", str(self._apps_file)),
                *("--cert-dir", str(state_dir / "certs")),
                *("--port", str(heroku_port)),
                *("--admin-port", str(heroku_admin_port)),
                *("--h12-seconds", str(h12_s)),
                *(f"--metrics-name={app}={name}" for app, name in (metrics_names or {}).items()),
                *seeded,
            ],
            state_dir=state_dir,
            name="heroku-sim",
            outlive_parent=outlive_parent,
        )
        ports = eks_services if isinstance(eks_services, Mapping) else dict.fromkeys(eks_services, 0)
        services = [f"--service={name}={port}" for name, port in ports.items()]
        self._eks = Child(
            "demoapps.eks_app",
            [
                *services,
                *("--admin-port", str(eks_admin_port)),
                *("--namespace", namespace),
                *seeded,
            ],
            state_dir=state_dir,
            name="eks-app",
            outlive_parent=outlive_parent,
        )
        #: TLS port of the Heroku leg, its certificates' authority, and its admin port.
        self.heroku_port = 0
        self.ca_file = Path()
        self.heroku_admin_port = 0
        #: Port of each service on EKS, and the admin port. Both admin ports serve `/metrics` too.
        self.eks_ports: dict[str, int] = {}
        self.eks_admin_port = 0

    def start(self) -> None:
        """Start both and wait until they listen.

        Raises
        ------
        ChildError
            If one cannot, with what it said.

        """
        self._state_dir.mkdir(parents=True, exist_ok=True)
        self._apps_file.write_text(json.dumps(self._heroku_apps))
        try:
            heroku = self._heroku.start()
            eks = self._eks.start()
        except BaseException:
            self.stop()
            raise
        self.heroku_port, self.heroku_admin_port = heroku["port"], heroku["admin_port"]
        self.ca_file = Path(heroku["ca_file"])
        self.eks_ports, self.eks_admin_port = eks["services"], eks["admin_port"]

    def stop(self) -> None:
        """Stop both."""
        self._heroku.stop()
        self._eks.stop()

    def __enter__(self) -> Self:
        """Start both."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop both."""
        self.stop()

    def knobs(self, leg: Leg, app: str) -> KnobHandle:
        """Return the knobs of an app or a service."""
        return KnobHandle(self._admin_port(leg), leg, app)

    def stats(self, leg: Leg) -> dict[str, dict[str, Any]]:
        """Return a leg's own count of its answers: by app, `requests`, `statuses`, `checkouts` and others."""
        stats: dict[str, dict[str, Any]] = call(self._admin_port(leg), "/stats")
        return stats

    def refuse_heroku(self, *, refuse: bool) -> float:
        """Make the whole router refuse connections, or take them again; returns when (unix s)."""
        return float(call(self.heroku_admin_port, "/router", {"refuse": refuse})["at"])

    def label_pod(self, service: str, pod: str) -> None:
        """Give the container metrics of a service the name of a pod that exists."""
        call(self.eks_admin_port, f"/pods/{service}", {"pod": pod})

    def _admin_port(self, leg: Leg) -> int:
        return self.heroku_admin_port if leg == "heroku" else self.eks_admin_port
