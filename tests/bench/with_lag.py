"""The operator, with a file that says how long its event loop was held: the longest time, and the sum of those over 50 ms."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from cutover import main

#: Seconds between two looks, and seconds from which on it counts as held.
LOOK, HELD = 0.005, 0.05


async def watch(path: Path) -> None:
    """Compare when the loop wakes with when it should."""
    longest = over = 0.0
    written = 0.0
    while True:
        before = time.monotonic()
        await asyncio.sleep(LOOK)
        lag = time.monotonic() - before - LOOK
        longest, over = max(longest, lag), over + (lag if lag > HELD else 0.0)
        if before - written > 1:
            written = before
            path.write_text(f"{longest:.4f} {over:.4f}")  # noqa: ASYNC240 -- a small file, in memory


_run = main.run


async def run(*arguments: object) -> None:
    """Run the operator beside the watch."""
    task = asyncio.create_task(watch(Path(os.environ["BENCH_LAG"])))
    try:
        await _run(*arguments)  # type: ignore[arg-type]
    finally:
        task.cancel()


if __name__ == "__main__":
    main.run = run  # type: ignore[assignment]
    main.main()
