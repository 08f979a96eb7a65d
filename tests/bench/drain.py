"""What the drain costs: ``make bench-drain``, or ``python tests/bench/drain.py [--lines 200000]``.

Lines per second of CPU of one core: of the parser and the counting, beside a naive parser in the same run, and of a whole
process that real requests come to. CPU time holds on a machine that others use, too; the ratio holds on others.

The naive parser is what one writes first: a regular expression for the header, one for the pairs of the line, and the client
library's metrics, asked for by their labels for each line.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from measuring import Memory, cpu_seconds
from prometheus_client import CollectorRegistry, Counter, Histogram
from tests.kit.drain_process import PASSWORD, TOKENS, USER, DrainProcess, drains_file
from tests.kit.logplex import frame, head, message, read_answer, request_line

from cutover.drain.counts import BOUNDS
from cutover.drain.frames import Frame, Record

APP = "acme-pdf"
#: Bytes of a frame of Logplex, about.
FRAME = 100 * 1024
CONNECTIONS = 8


def body(seed: int) -> tuple[int, bytes]:
    """Return the count and the bytes of a frame: the router's lines, and a fifth of other lines, as a busy app has."""
    draw, lines, size = random.Random(seed), list[bytes](), 0
    others = (
        message("app", "web.1", b'INFO rendered template="pdf/show" in 12.3 ms'),
        message(
            "heroku", "web.1", b"source=web.1 dyno=heroku.1.x sample#memory_total=384.00MB sample#memory_rss=380.10MB"
        ),
    )
    while size < FRAME:
        if draw.random() < 0.8:
            code = draw.choices((200, 302, 404, 503), (90, 5, 4, 1))[0]
            error = "H12" if code == 503 else ""
            line = request_line(
                code, code=error, service=draw.randrange(900), path=f"/documents/{draw.randrange(9999)}"
            )
        else:
            line = draw.choice(others)
        lines.append(line)
        size += len(line)
    return frame(lines)


class Naive:
    """A parser of regular expressions, and the client library's metrics."""

    _HEADER = re.compile(r"<(\d+)>1 (\S+) (\S+) (\S+) (\S+) (\S+) (.*)", re.DOTALL)
    _PAIR = re.compile(r'([\w#-]+)=("[^"]*"|\S*)')

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._requests = Counter("requests", "", ["app", "code", "error"], registry=registry)
        self._lines = Counter("lines", "", ["app", "kind"], registry=registry)
        buckets = [bound / 1000 for bound in BOUNDS]
        self._service = Histogram("service", "", ["app"], registry=registry, buckets=buckets)
        self._connect = Histogram("connect", "", ["app"], registry=registry, buckets=buckets)

    def take(self, app: str, content: bytes) -> None:
        """Count a frame."""
        position = 0
        while position < len(content):
            space = content.index(b" ", position)
            position = space + 1 + int(content[position:space])
            found = self._HEADER.match(content[space + 1 : position].decode())
            assert found
            self._lines.labels(app, found[5]).inc()
            if found[5] == "router":
                pairs = dict(self._PAIR.findall(found[7]))
                self._requests.labels(app, pairs["status"], pairs.get("code", "")).inc()
                self._service.labels(app).observe(int(pairs["service"].removesuffix("ms")) / 1000)
                self._connect.labels(app).observe(int(pairs["connect"].removesuffix("ms")) / 1000)


def rate(frames: Sequence[tuple[int, bytes]], lines: int, take: Callable[[int, int, bytes], None]) -> float:
    """Return lines per second of CPU."""
    done, began = 0, time.process_time()
    while done < lines:
        for count, content in frames:
            take(done, count, content)
            done += count
    return done / (time.process_time() - began)


async def over_http(port: int, frames: Sequence[tuple[int, bytes]], lines: int) -> int:
    """Send frames on several connections; return the lines."""
    left, sent = lines, 0
    identities = iter(range(2**32))

    async def node(seed: int) -> None:
        nonlocal left, sent
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while left > 0:
            count, content = frames[seed % len(frames)]
            left -= count
            writer.write(head(TOKENS[APP], f"{USER}:{PASSWORD}", f"{next(identities):032x}", count, content) + content)
            assert (await read_answer(reader)).status == 200
            sent += count
            seed += 1
        writer.close()

    await asyncio.gather(*(node(seed) for seed in range(CONNECTIONS)))
    return sent


def whole_process(frames: Sequence[tuple[int, bytes]], lines: int) -> tuple[float, Memory]:
    """Return lines per second of CPU of a real process, with HTTP, and its memory."""
    with tempfile.TemporaryDirectory() as folder:
        process = DrainProcess(Path(folder), drains_file(Path(folder)), {})
        try:
            process.start()
            assert process.process is not None
            before = cpu_seconds(process.process.pid)
            sent = asyncio.run(over_http(process.port, frames, lines))
            spent = cpu_seconds(process.process.pid) - before
            memory = Memory.of(process.process.pid)
            counted = sum(
                value for name, value in process.samples().items() if name.startswith("heroku_drain_lines_total")
            )
            assert counted == sent, (counted, sent)
            return sent / spent, memory
        finally:
            process.kill()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--lines", type=int, default=200_000)
    lines = parser.parse_args().lines
    frames = [body(seed) for seed in range(10)]
    record, naive = Record(time.time, time.monotonic), Naive()
    print(
        f"{sum(count for count, _ in frames) / 10:.0f} lines in a frame of {sum(len(one) for _, one in frames) / 10:,.0f} bytes"
    )
    slow = rate(frames, lines // 10, lambda _, __, content: naive.take(APP, content))
    fast = rate(frames, lines, lambda done, count, content: record.take(APP, Frame(f"{done}", count, content)))
    assert not record.of(APP).dropped
    print(f"naive parser     {slow:>9,.0f} lines/s of CPU")
    print(f"parser, counting {fast:>9,.0f} lines/s of CPU, {fast / slow:.1f} times as many")
    through, memory = whole_process(frames, lines * 2)
    print(f"whole process    {through:>9,.0f} lines/s of CPU over HTTP; at most {memory.peak:.0f} MiB resident")


if __name__ == "__main__":
    main()
