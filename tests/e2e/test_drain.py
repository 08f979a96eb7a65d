"""The drain behind the real gateway, set up as its page says."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.kit.chart import rendered
from tests.kit.drain_process import PASSWORD, TOKENS, USER, DrainProcess, drains_file
from tests.kit.logplex import Node, frame, head, read_answer, request_line

from cutover.listening import METRICS_SECONDS
from sandbox.environment import Environment

NAMESPACE, APP = "cutover-system", "acme-pdf"
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "drain.md").read_text(encoding="utf-8")
FRAMES = 60


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[list[DrainProcess]]:
    made = [DrainProcess(tmp_path, drains_file(tmp_path), {}) for _ in range(2)]
    try:
        for replica in made:
            replica.start()
        yield made
    finally:
        for replica in made:
            replica.kill()


def install(environment: Environment, replicas: list[DrainProcess]) -> None:
    """Apply the chart's Service and DestinationRule, the page's VirtualService, and what stands for the Pods."""
    chart = {
        (item["kind"], item["metadata"]["name"]): item
        for item in rendered(
            "drain.yaml", namespace=NAMESPACE, drain={"enabled": True, "secret": "drains", "destinationRule": True}
        )
    }
    documented = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    (route,) = [item for item in documented if item.get("kind") == "VirtualService"]
    labels = chart["Deployment", "cutover-drain"]["spec"]["template"]["metadata"]["labels"]
    environment.stack.apply(
        [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            chart["Service", "cutover-drain"],
            chart["DestinationRule", "cutover-drain"],
            route,
            *(
                {
                    "apiVersion": "networking.istio.io/v1",
                    "kind": "WorkloadEntry",
                    "metadata": {"name": f"cutover-drain-{number}", "namespace": NAMESPACE},
                    "spec": {"address": "127.0.0.1", "labels": labels, "ports": {"logplex": replica.port}},
                }
                for number, replica in enumerate(replicas)
            ),
        ]
    )


def frames(replica: DrainProcess) -> dict[str, float]:
    samples = replica.samples()
    return {
        result: samples[f'heroku_drain_frames_total{{app="{APP}",result="{result}"}}']
        for result in ("counted", "duplicate")
    }


@pytest.mark.uses("app-name")
async def test_behind_the_gateway_a_frame_comes_to_one_replica_and_a_dead_one_costs_nothing(
    alone: Environment, replicas: list[DrainProcess]
) -> None:
    install(alone, replicas)
    gateway = ("127.0.0.1", alone.stack.gateway_port)
    count, body = frame([request_line()])
    identities = [uuid.uuid4().hex for _ in range(FRAMES)]

    async def send(identity: str) -> int:
        reader, writer = await asyncio.open_connection(*gateway)
        writer.write(head(TOKENS[APP], f"{USER}:{PASSWORD}", identity, count, body) + body)
        try:
            return (await asyncio.wait_for(read_answer(reader), 10)).status
        finally:
            writer.transport.abort()

    # Until the gateway has both replicas: the ids decide which gets a frame.
    answers = list[int]()
    for _ in range(300):
        answers.append(await send(uuid.uuid4().hex))
        if min(frames(replica)["counted"] for replica in replicas) > 0:
            break
        await asyncio.sleep(0.1)
    else:
        raise AssertionError(answers)
    await asyncio.sleep(METRICS_SECONDS)  # its metrics are made once in that time
    before = [frames(replica) for replica in replicas]
    assert {await send(identity) for identity in identities * 3} == {200}
    await asyncio.sleep(METRICS_SECONDS)
    after = [frames(replica) for replica in replicas]
    new, again = (
        [now[result] - then[result] for then, now in zip(before, after, strict=True)]
        for result in ("counted", "duplicate")
    )
    assert sum(new) == FRAMES
    assert min(new) > 0
    assert again == [2 * number for number in new], "each came to the replica that had it"

    # A replica that is gone, and of which the gateway has not heard: nearly all of its frames go to the other one. Envoy draws a
    # host five times, and where each draw is the dead one the frame is lost, and told.
    node = Node(lambda: gateway, TOKENS[APP], f"{USER}:{PASSWORD}", most=5)
    node.write(request_line() for _ in range(100))
    replicas[0].kill()
    ended = asyncio.Event()
    ended.set()
    await asyncio.wait_for(node.run(ended), 60)
    await asyncio.sleep(METRICS_SECONDS)
    told = replicas[1].samples().get(f'heroku_drain_dropped_messages_total{{app="{APP}",reason="L10"}}', 0.0)
    assert node.acknowledged + told == 100, node.seen
    assert node.acknowledged >= 70, node.seen
    assert set(node.seen) <= {"200", "503"}
