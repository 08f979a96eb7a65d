"""What is frozen is looked at again, or what refers to itself would never go."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Iterator

import pytest

from cutover.scale import garbage


class Circle:
    """Refers to itself."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(garbage, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(garbage, "LATER_SECONDS", 0.01)
    thresholds = gc.get_threshold()
    gc.unfreeze()  # what tests/conftest.py has frozen
    yield
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*thresholds)


async def test_garbage_that_was_frozen_goes_the_next_time() -> None:
    circle, gone = Circle(), asyncio.Event()
    weakref.finalize(circle, gone.set)
    collecting = asyncio.create_task(garbage.collect_rarely())
    try:
        await asyncio.sleep(0)
        assert gc.get_freeze_count() > 0
        del circle
        assert not gone.is_set()
        async with asyncio.timeout(120):
            await gone.wait()
    finally:
        collecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await collecting


async def test_young_garbage_goes_by_itself() -> None:
    collecting = asyncio.create_task(garbage.collect_rarely())
    await asyncio.sleep(0)
    collecting.cancel()
    gone = weakref.ref(Circle())
    kept = [[number] for number in range(3 * garbage.YOUNG)]
    assert gone() is None, f"after {len(kept)} new objects"
