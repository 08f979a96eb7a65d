"""A background service that fails ends the process, with a line in the log and an exit code of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog

from cutover import main
from cutover.services.supervision import ServiceFailed, running


async def never_ending(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("cancelled")


async def failing() -> None:
    await asyncio.sleep(0)
    raise ValueError("a surprise")


async def returning() -> None:
    await asyncio.sleep(0)


async def test_services_end_with_the_body() -> None:
    ended = list[str]()
    async with running({"block feed": never_ending(ended)}):
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert ended == ["cancelled"]


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize(("service", "text"), [(failing, "ValueError\\('a surprise'\\)"), (returning, "ended")])
async def test_the_body_ends_with_a_service(service: Any, text: str) -> None:
    others = list[str]()
    with pytest.raises(ServiceFailed, match=f"^block feed: {text}$"):
        async with running({"SLO feed": never_ending(others), "block feed": service()}):
            await asyncio.sleep(10)
    await asyncio.sleep(0)
    assert others == ["cancelled"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.usefixtures("virtual_time")
async def test_a_body_that_fails_or_is_cancelled_by_others_is_no_failed_service() -> None:
    with pytest.raises(KeyError):
        async with running({"block feed": never_ending([])}):
            raise KeyError
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), running({"block feed": never_ending([])}):
            await asyncio.sleep(10)


def test_the_process_ends_with_a_line_and_a_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(*_: object) -> None:
        async with running({"block feed": failing()}):
            await asyncio.sleep(10)

    monkeypatch.setattr(main, "run", run)
    monkeypatch.setattr(main, "configure_logging", lambda level: None)
    monkeypatch.setenv("CUTOVER_PROMETHEUS_URL", "http://unused.example")
    with structlog.testing.capture_logs() as logged, pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == main.EXIT_SERVICE_FAILED
    (line,) = [line for line in logged if line["log_level"] == "critical"]
    assert line["event"] == "background service failed: this process ends"
    assert (line["problem"], line["code"]) == ("block feed: ValueError('a surprise')", main.EXIT_SERVICE_FAILED)
