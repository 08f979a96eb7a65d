"""``init``: a first plan for a service, from what is there, and Flux' files for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from cutover.adapters.kube.answers import NotServed
from cutover.cli.drafts import Draft, gateways_of, kustomization_text, plan_text, service_of, with_workload
from cutover.cli.exits import CliError, Exit
from cutover.cli.session import Session, tell, write
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS
from cutover.domain.resources import DEPLOYMENTS, PLANS, SERVICES
from cutover.ports.errors import Conflict, Gone, Unavailable

_PLACE = Annotated[str, typer.Argument(metavar="NAME", help="Name of the plan, and by default of the Deployment.")]


def init(
    session: Session,
    name: _PLACE,
    hostname: Annotated[
        str, typer.Option("--hostname", help="The app's own name at Heroku, such as acme-pdf-1a2b3c.herokuapp.com.")
    ],
    hosts: Annotated[list[str], typer.Option("--host", help="Name that users ask for; may be given several times.")],
    app: Annotated[
        str, typer.Option("--app", help="Heroku's name of the app; by default NAME.", show_default=False)
    ] = "",
    deployment: Annotated[
        str, typer.Option("--deployment", help="The Deployment on EKS; by default NAME.", show_default=False)
    ] = "",
    service: Annotated[
        str,
        typer.Option("--service", help="Its Service; by default the one that selects its Pods.", show_default=False),
    ] = "",
    port: Annotated[int, typer.Option("--port", help="The Service's port.", show_default=False)] = 0,
    gateways: Annotated[
        list[str] | None,
        typer.Option("--gateway", help="Istio Gateway as namespace/name; by default the one that serves the hosts."),
    ] = None,
    paths: Annotated[
        list[str] | None, typer.Option("--probe-path", help="Path to probe; by default the readiness probe's, or /.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", min=1e-6, help="Requests a second of the service, for steps that suit it."),
    ] = None,
    manual: Annotated[bool, typer.Option("--manual", help="A person approves each step.")] = False,
    flux: Annotated[
        Path | None,
        typer.Option("--flux", metavar="DIR", help="Write Flux' files into this folder of a fleet repository, too."),
    ] = None,
    source: Annotated[str, typer.Option("--source", help="With --flux: name of the GitRepository.")] = "fleet",
) -> None:
    """Make a plan, with comments, from a Heroku app and a Deployment and Service that exist. Nothing is applied."""
    draft = Draft(
        name=name,
        namespace=session.namespace,
        app=app or name,
        hostname=hostname,
        hosts=tuple(hosts),
        gateways=tuple(gateways or ()),
        workload=deployment or name,
        service=service,
        port=port,
        paths=tuple(paths or ("/",)),
        rate=rate,
        manual=manual,
        flux=flux is not None,
    )
    text = plan_text(_completed(session, draft))
    _judged(session, text)
    if flux is None:
        write(text)
        tell("Save it, then: kubectl cutover audit -f FILE; kubectl apply -f FILE")
        return
    folder = f"{name}-migration"
    files = {
        flux / folder / "plan.yaml": text,
        flux / "clusters" / f"{folder}.yaml": kustomization_text(draft, source=source, path=f"./{folder}"),
    }
    _write_files(files)


def _completed(session: Session, draft: Draft) -> Draft:
    """Take from the cluster what was not said. Raises CliError."""
    cluster, namespace = session.cluster, draft.namespace
    try:
        workload = cluster.get(DEPLOYMENTS, namespace, draft.workload)
    except Gone:
        there = ", ".join(sorted(one["metadata"]["name"] for one in cluster.objects(DEPLOYMENTS, namespace))) or "none"
        raise CliError(
            f"namespace {namespace} has no Deployment {draft.workload}; there are: {there}; choose one by --deployment"
        ) from None
    draft = service_of(with_workload(draft, workload), workload, cluster.objects(SERVICES, namespace))
    if draft.gateways:
        return draft
    try:
        return gateways_of(draft, cluster.objects(GATEWAYS))
    except NotServed:
        raise CliError("this cluster has no Istio (gateways.networking.istio.io); the operator needs it") from None
    except Unavailable as error:
        raise CliError(f"the Gateways cannot be read ({error}); choose one by --gateway") from None


def _judged(session: Session, text: str) -> None:
    """Have the API server judge the plan without storing it; say so where it cannot."""
    try:
        session.cluster.create(PLANS, yaml.safe_load(text), dry_run=True)
    except Conflict:
        tell("A plan of this name exists already; applying this one would change it.")
    except Unavailable as error:
        if "refused:" in str(error):
            raise CliError(f"the API server refuses the plan: {error}") from None
        tell(f"The API server has not judged it: {error}")


def _write_files(files: dict[Path, str]) -> None:
    for path in files:
        if path.exists():
            raise CliError(f"{path} exists already; nothing was written", Exit.ERROR)
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise CliError(f"{path} cannot be written: {error.strerror}") from None
        tell(f"written: {path}")
    tell("Look at dependsOn, commit, and point the hosts' DNS at the gateway after the takeover.")
