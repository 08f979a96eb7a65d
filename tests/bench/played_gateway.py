"""A gateway that is played: what ``scale.py`` has in place of istiod, Envoy, apps and users of a thousand plans.

It reads the weights from the VirtualServices by a watch, counts requests in keeping with them as two gateway pods would,
answers the operator's probes as the routes say, and notes when a plan's weight became 0. Run it as a program:
``python tests/bench/played_gateway.py KUBECONFIG PLANS RATE PORT PORT PORT`` (control and probes, then the pods).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from measuring import mesh_labels

from cutover.adapters.traffic.istio.rendering import SPLIT_ROUTE
from cutover.domain.preflight.checks.istio.names import LEG_HEADER, PROBE_HEADER
from cutover.domain.revision import HEADER
from sandbox import manifests

INGRESS = "istio-ingress"
PODS = ("istio-ingress-7d9c5b6f4-k2x8p", "istio-ingress-7d9c5b6f4-w9qtz")
#: Response codes with Envoy's flags, and the part of requests that has each where all is well.
CODES = (("200", "-"), ("503", "UC"))
HEALTHY = (0.998, 0.002)
BROKEN = (0.0, 1.0)
#: Bounds of the histogram that the plans ask for, and the part of requests that is not slower.
BOUNDS = (("100", 0.97), ("1000", 0.9995), ("+Inf", 1.0))
_WATCH = "/apis/networking.istio.io/v1/virtualservices"


def service(number: int) -> str:
    """Return the name of a plan, and of its service."""
    return f"service-{number}"


def eks_leg(name: str) -> str:
    """Return the EKS leg of a plan as Istio's metrics have it."""
    return f"{name}.{manifests.NAMESPACE}.svc.cluster.local"


@dataclass(slots=True)
class Played:
    """One plan's users and legs.

    Parameters
    ----------
    weight
        Percent to EKS, as routed.
    revision
        Of the route; ``""`` without one.
    counts
        Requests so far by leg (Heroku, EKS) and code.
    broken
        Whether the EKS leg answers nothing but errors.
    home_at
        Unix seconds at which the weight became 0 last.
    """

    weight: int = 0
    revision: str = ""
    counts: tuple[list[float], list[float]] = ((), ())  # type: ignore[assignment]
    broken: bool = False
    home_at: float = 0.0

    def advance(self, requests: float) -> None:
        """Let users make requests."""
        for leg, part in zip(self.counts, (100 - self.weight, self.weight), strict=True):
            codes = BROKEN if self.broken and leg is self.counts[1] else HEALTHY
            for index, share in enumerate(codes):
                leg[index] += requests * part / 100 * share


class PlayedTraffic:
    """All plans' users and legs.

    Parameters
    ----------
    plans
        How many.
    rate
        Requests per second to each.
    """

    def __init__(self, plans: int, rate: float) -> None:
        self.rate = rate
        self.plans = {
            service(number): Played(counts=([0.0] * len(CODES), [0.0] * len(CODES))) for number in range(plans)
        }
        self.hosts = {manifests.public_host(name): played for name, played in self.plans.items()}
        self._heads = {
            name: [list(_heads(leg)) for leg in (manifests.heroku_hostname(name), eks_leg(name))]
            for name in self.plans
        }
        self._at = time.time()

    def advance(self) -> None:
        """Let time pass until now."""
        now = time.time()
        seconds, self._at = now - self._at, now
        for played in self.plans.values():
            if played.revision:
                played.advance(self.rate * seconds)

    def routed(self, kind: str, body: dict[str, Any]) -> None:
        """Take in a VirtualService."""
        if kind not in ("ADDED", "MODIFIED"):
            return
        played = self.plans.get(body["metadata"]["labels"]["cutover.dev/plan"])
        if played is None:
            return
        self.advance()
        split = next((route for route in body["spec"]["http"] if route["name"] == SPLIT_ROUTE), None)
        if split is None:  # a trial: the probes' routes alone
            played.revision = body["spec"]["http"][0]["headers"]["response"]["set"][HEADER]
            return
        weight = sum(
            leg.get("weight", 0) for leg in split["route"] if leg["destination"]["host"].endswith("cluster.local")
        )
        if weight == 0 and played.weight:
            played.home_at = time.time()
        played.weight, played.revision = weight, split["headers"]["response"]["set"][HEADER]

    def exposition(self) -> bytes:
        """Return the counters of one pod, which serves half of the users."""
        self.advance()
        lines: dict[str, list[str]] = {"requests": [], "buckets": []}
        for name, played in self.plans.items():
            for heads, counts in zip(self._heads[name], played.counts, strict=True):
                for (requests, buckets), count in zip(heads, counts, strict=True):
                    half = count // 2
                    if count:
                        lines["requests"].append(f"{requests} {half:.0f}")
                        lines["buckets"] += [
                            f"{head} {half * part // 1:.0f}" for head, (_, part) in zip(buckets, BOUNDS, strict=True)
                        ]
        return ("\n".join((*lines["requests"], *lines["buckets"])) + "\n").encode()


def _heads(leg: str) -> list[tuple[str, list[str]]]:
    """Return name and labels of a leg's series: of each code the requests, and the buckets."""
    common = mesh_labels(leg, INGRESS)
    found = []
    for code, flags in CODES:
        values = {**common, "response_code": code, "response_flags": flags}
        labels = ",".join(f'{label}="{value}"' for label, value in values.items())
        buckets = [f'istio_request_duration_milliseconds_bucket{{{labels},le="{bound}"}}' for bound, _ in BOUNDS]
        found.append((f"istio_requests_total{{{labels}}}", buckets))
    return found


async def watch(world: PlayedTraffic, config: dict[str, Any]) -> None:
    """Follow the VirtualServices as a kubeconfig says, for ever."""
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cafile=cluster["certificate-authority"])
    headers = {"Authorization": f"Bearer {user['token']}"}
    async with aiohttp.ClientSession(
        cluster["server"], headers=headers, connector=aiohttp.TCPConnector(ssl=context), read_bufsize=1 << 22
    ) as session:
        while True:
            options = {"watch": "1", "labelSelector": "cutover.dev/plan", "timeoutSeconds": "3600"}
            # Whatever breaks off is begun anew, with all objects.
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(_WATCH, params=options, timeout=aiohttp.ClientTimeout()) as answer:
                    answer.raise_for_status()
                    async for line in answer.content:
                        event = json.loads(line)
                        world.routed(event["type"], event["object"])
            await asyncio.sleep(0.2)


async def play(config: dict[str, Any], plans: int, rate: float, control: int, pods: list[int]) -> None:
    """Serve for ever."""
    world = PlayedTraffic(plans, rate)

    async def probe(request: web.Request) -> web.Response:
        played = world.hosts.get(request.host)
        if played is None or not played.revision:
            return web.Response(status=404)
        leg = request.headers[PROBE_HEADER].partition("-")[0]
        return web.Response(text="ok", headers={HEADER: played.revision, LEG_HEADER: leg})

    async def break_legs(request: web.Request) -> web.Response:
        world.advance()
        for name in await request.json():
            world.plans[name].broken = True
        return web.json_response(time.time())

    async def state(_: web.Request) -> web.Response:
        return web.json_response({name: [one.weight, one.home_at] for name, one in world.plans.items()})

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=world.exposition(), content_type="text/plain")

    async def serve(application: web.Application, port: int) -> None:
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()

    gateway = web.Application()
    gateway.router.add_post("/-/break", break_legs)
    gateway.router.add_get("/-/state", state)
    gateway.router.add_get("/{path:.*}", probe)
    await serve(gateway, control)
    for port in pods:
        pod = web.Application()
        pod.router.add_get("/metrics", metrics)
        await serve(pod, port)
    await watch(world, config)


if __name__ == "__main__":
    _, _kubeconfig, _plans, _rate, _control, *_pods = sys.argv
    asyncio.run(
        play(
            yaml.safe_load(Path(_kubeconfig).read_text()),
            int(_plans),
            float(_rate),
            int(_control),
            [int(port) for port in _pods],
        )
    )
