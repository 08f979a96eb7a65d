"""A real API server without what is around it in a stack."""

from __future__ import annotations

from pathlib import Path

from cutover.domain.preflight.checks.istio.kinds import DESTINATION_RULES, GATEWAYS, SERVICE_ENTRIES, VIRTUAL_SERVICES
from devstack.build import Programs
from devstack.stack import Stack
from devstack.support import documents

#: All of Istio's kinds that the operator reads or writes. The API server computes long for each CRD, at each change of any.
_KINDS = {kind.plural for kind in (VIRTUAL_SERVICES, SERVICE_ENTRIES, DESTINATION_RULES, GATEWAYS)}


class ControlPlane(Stack):
    """etcd and the API server, with some of Kubernetes' controllers.

    Parameters
    ----------
    state_dir
        As for `Stack`.
    controllers
        Which ones; none have no process.
    """

    def __init__(self, state_dir: Path, *controllers: str) -> None:
        super().__init__(state_dir)
        self._controllers = controllers

    @property
    def process_names(self) -> tuple[str, ...]:
        manager = ("kube-controller-manager",) if self._controllers else ()
        return ("etcd", "kube-apiserver", *manager)

    def _command(self, name: str) -> tuple[list[str | Path], dict[str, str]]:
        command, environment = super()._command(name)
        if name == "kube-apiserver":
            # As in a cluster: the chart has a priority level.
            command = [part for part in command if part != "--enable-priority-and-fairness=false"]
            # There are few of them, and none lives long: memory is cheaper than looking for what is free of it.
            environment = {**environment, "GOGC": "400"}
        if name == "kube-controller-manager":
            command = [part for part in command if not str(part).startswith("--controllers=")]
            command.append(f"--controllers={','.join(self._controllers)}")
        return command, environment

    def _start_all(self, programs: Programs) -> None:
        for name in self.process_names:
            self._spawn(name)
            self._wait_healthy(name)

    def install_istio(self) -> None:
        """Install Istio's CRDs, as far as the operator has to do with them."""
        crds = documents(self.programs.istio_crds.read_text(encoding="utf-8"))
        self.install_crds([crd for crd in crds if crd["spec"]["names"]["plural"] in _KINDS])
