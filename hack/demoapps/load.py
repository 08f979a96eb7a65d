"""Open-loop load: Poisson arrivals to many hosts through one gateway, all on record.

Arrivals come by the clock, whatever became of those before them, and latency
counts from when a request was *due*: a leg that stalls is seen by all the
requests that came meanwhile, as its users would see it.

Run as ``python -m demoapps.load --config load.json --record load.jsonl``; from
Python use `Load`, which does that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import aiohttp
from aiohttp import web
from yarl import URL

from .child import Child, call
from .records import Record, RecordLog, Summary, digest_of
from .serving import (
    add_process_options,
    announce,
    json_object,
    run,
    serve_admin,
    until_told_to_stop,
)

#: Record lines are written this often (seconds).
FLUSH_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Target:
    """Where load goes, and how much.

    Attributes
    ----------
    host
        Host header, and server name where the URL is HTTPS.
    rate
        Mean arrivals per second; 0 is a pause.
    path
        Path of the requests.
    url
        Base URL in place of the gateway's, to reach a leg without the mesh.

    """

    host: str
    rate: float
    path: str = "/"
    url: str | None = None

    def __post_init__(self) -> None:
        """Refuse a rate that is not one."""
        if not (math.isfinite(self.rate) and self.rate >= 0):
            raise ValueError(f"{self.host}: a rate is a number from 0 up, not {self.rate!r}")


@dataclass(frozen=True, slots=True)
class Config:
    """All that a load needs to start.

    Attributes
    ----------
    gateway
        Base URL that requests are sent to.
    targets
        First targets; more can be added while it runs.
    timeout_s
        Seconds from sending after which a request is given up.
    max_in_flight
        Requests that *one target* may have open. More are not sent but put on
        record as `shed`; other targets are not touched by it.
    drain_s
        Seconds that open requests get when the load is stopped.
    ca_file
        Certificates to verify HTTPS with.
    seed
        Seed of the arrivals, None for different ones each time.
    new_connection_ratio
        Fraction of requests that close their connection, 0 to 1: so users come
        and go, and where several gateways share a port, each gets its part.

    """

    gateway: str
    targets: tuple[Target, ...] = ()
    timeout_s: float = 35.0
    max_in_flight: int = 2000
    drain_s: float = 1.0
    ca_file: str | None = None
    seed: int | None = None
    new_connection_ratio: float = 0.0

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Read a configuration from JSON."""
        values: dict[str, Any] = json.loads(text)
        targets = tuple(Target(**target) for target in values.pop("targets", ()))
        return cls(targets=targets, **values)


@dataclass(slots=True)
class _Stream:
    """Arrivals of one target."""

    target: Target
    url: URL
    dice: random.Random
    due: float = 0.0
    timer: asyncio.TimerHandle | None = None
    scheduled: int = 0
    completed: int = 0
    open: dict[asyncio.Task[None], float] = field(default_factory=dict)


class Generator:
    """Sends the requests and writes the record; lives in one event loop."""

    def __init__(self, config: Config, record: IO[str]) -> None:
        self._config = config
        self._record = record
        self._lines: list[str] = []
        self._loop = asyncio.get_running_loop()
        # One anchor for all times: the wall clock may be set while we run.
        self._epoch = time.time() - self._loop.time()
        self._streams: dict[str, _Stream] = {}
        self._dice = random.Random(config.seed)
        self._stopping = False
        self._tls: ssl.SSLContext | bool = True
        if config.ca_file is not None:
            self._tls = ssl.create_default_context(cafile=config.ca_file)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._tls, keepalive_timeout=30),
            # Else timeouts are rounded up to whole seconds.
            timeout=aiohttp.ClientTimeout(total=config.timeout_s, ceil_threshold=math.inf),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        # A request is sent once: a retry behind our back would be one more at the
        # gateway than on record. aiohttp has no public switch for it.
        self._session._retry_connection = False  # noqa: SLF001
        for target in config.targets:
            self.put(target)
        self._flusher = self._loop.create_task(self._keep_flushing())

    def put(self, target: Target) -> None:
        """Add a target, or change the one of its host from now on."""
        url = URL((target.url or self._config.gateway).rstrip("/") + target.path, encoded=True)
        stream = self._streams.get(target.host)
        if stream is None:
            seed = None if self._config.seed is None else f"{self._config.seed}/{target.host}"
            stream = self._streams[target.host] = _Stream(target, url, random.Random(seed))
        elif stream.timer is not None:
            # What is due already came at the old rate.
            stream.timer.cancel()
            stream.timer = None
            self._send_due(stream)
        stream.target, stream.url = target, url
        if target.rate > 0 and not self._stopping:
            # Poisson arrivals have no memory: drawing afresh is exact.
            stream.due = self._loop.time() + stream.dice.expovariate(target.rate)
            stream.timer = self._loop.call_at(stream.due, self._on_timer, stream)

    def target(self, host: str) -> Target | None:
        """Return the target of a host."""
        stream = self._streams.get(host)
        return stream.target if stream else None

    def status(self) -> dict[str, object]:
        """Return counts by host; all that is completed is in the file by then."""
        for stream in self._streams.values():
            if stream.timer is not None:
                # A timer may be a moment late; "now" must not be ahead of the sending.
                self._send_due(stream)
        self.flush()
        return {
            "now": self._epoch + self._loop.time(),
            "targets": {
                host: {
                    "rate": stream.target.rate,
                    "scheduled": stream.scheduled,
                    "completed": stream.completed,
                    "in_flight": len(stream.open),
                    "oldest_at": self._epoch + min(stream.open.values()) if stream.open else None,
                }
                for host, stream in self._streams.items()
            },
        }

    async def stop(self) -> None:
        """Send nothing more, give open requests their time, and finish the record."""
        self._stopping = True
        open_requests: list[asyncio.Task[None]] = []
        for stream in self._streams.values():
            if stream.timer is not None:
                stream.timer.cancel()
            open_requests += stream.open
        if open_requests:
            _, late = await asyncio.wait(open_requests, timeout=self._config.drain_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._flusher.cancel()
        self.flush()
        await self._session.close()

    def flush(self) -> None:
        """Write what is on record to the file."""
        if self._lines:
            self._record.write("\n".join(self._lines) + "\n")
            self._lines.clear()
            self._record.flush()

    async def _keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self.flush()

    def _on_timer(self, stream: _Stream) -> None:
        self._send_due(stream)
        stream.timer = self._loop.call_at(stream.due, self._on_timer, stream)

    def _send_due(self, stream: _Stream) -> None:
        """Send all that is due; after a stall that is more than one, each with its own time."""
        now = self._loop.time()
        while stream.due <= now:
            stream.scheduled += 1
            if len(stream.open) >= self._config.max_in_flight:
                self._write(stream, stream.due, now, reason="shed")
            else:
                task = self._loop.create_task(self._send(stream, stream.due))
                stream.open[task] = stream.due
                task.add_done_callback(stream.open.pop)
            stream.due += stream.dice.expovariate(stream.target.rate)

    async def _send(self, stream: _Stream, due: float) -> None:
        sent = self._loop.time()
        leg, revision, status, reason, got = "none", "", 0, "", ""
        host = stream.target.host
        headers = {"Host": host, "User-Agent": "demoapps-load"}
        if self._dice.random() < self._config.new_connection_ratio:
            headers["Connection"] = "close"
        try:
            async with self._session.get(
                stream.url,
                headers=headers,
                allow_redirects=False,
                server_hostname=host if stream.url.scheme == "https" else None,
            ) as response:
                answer = response.headers
                leg = answer.get("x-leg") or answer.get("x-cutover-leg") or "none"
                revision = answer.get("x-cutover-revision", "")
                body = await response.read()
                status = response.status
                got = digest_of(status, answer.items(), body)
        except TimeoutError:
            reason = "timeout"
        except asyncio.CancelledError:
            reason = "stopped"
        except aiohttp.ClientConnectorError:
            reason = "connect"
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError):
            reason = "disconnected"
        except aiohttp.ClientError as error:
            reason = type(error).__name__
        self._write(stream, due, sent, leg=leg, revision=revision, status=status, reason=reason, answer=got)

    def _write(
        self,
        stream: _Stream,
        due: float,
        sent: float,
        *,
        leg: str = "none",
        revision: str = "",
        status: int = 0,
        reason: str = "",
        answer: str = "",
    ) -> None:
        now = self._loop.time()
        stream.completed += 1
        record = Record(
            at=round(self._epoch + due, 6),
            host=stream.target.host,
            leg=leg,
            revision=revision,
            status=status,
            reason=reason,
            latency=round(now - due, 6),
            sent_latency=round(now - sent, 6),
            answer=answer,
        )
        self._lines.append(record.to_json())


def control_app(generator: Generator) -> web.Application:
    """Build the control port: GET `/status`, PUT `/targets/<host>`."""

    async def status(_: web.Request) -> web.Response:
        return web.json_response(generator.status())

    async def put_target(request: web.Request) -> web.Response:
        host = request.match_info["host"]
        change = await json_object(request)
        now = generator.target(host) or Target(host, 0.0)
        try:
            target = Target(**{**asdict(now), **change, "host": host})
            generator.put(target)
        except (TypeError, ValueError) as error:
            raise web.HTTPBadRequest(
                text=json.dumps({"error": str(error)}), content_type="application/json"
            ) from error
        return web.json_response({"target": asdict(target), "at": time.time()})

    control = web.Application()
    control.router.add_get("/status", status)
    control.router.add_put("/targets/{host}", put_target)
    return control


async def generate(options: argparse.Namespace, config: Config) -> None:
    """Run a load until told to stop."""
    with options.record.open("w") as record:
        generator = Generator(config, record)
        runner, port = await serve_admin(control_app(generator), options.bind, options.control_port)
        announce(options.ready_file, control_port=port)
        await until_told_to_stop(lifeline=options.lifeline)
        await generator.stop()
        await runner.cleanup()


class Load:
    """A load in a process of its own, and its record.

    Parameters
    ----------
    state_dir
        Directory for the record, the log and the configuration.
    gateway
        Base URL that requests are sent to.
    targets
        First targets.
    name
        Stem of the files, where several loads share a directory.
    timeout_s, max_in_flight, drain_s, ca_file, seed, new_connection_ratio
        As in `Config`.
    outlive_parent
        Leave it running when this process ends without `stop`.

    """

    def __init__(
        self,
        state_dir: Path,
        gateway: str,
        targets: Iterable[Target] = (),
        *,
        name: str = "load",
        timeout_s: float = 35.0,
        max_in_flight: int = 2000,
        drain_s: float = 1.0,
        ca_file: Path | None = None,
        seed: int | None = None,
        new_connection_ratio: float = 0.0,
        outlive_parent: bool = False,
    ) -> None:
        self._config = Config(
            gateway=gateway,
            targets=tuple(targets),
            timeout_s=timeout_s,
            max_in_flight=max_in_flight,
            drain_s=drain_s,
            ca_file=None if ca_file is None else str(ca_file),
            seed=seed,
            new_connection_ratio=new_connection_ratio,
        )
        self._config_file = state_dir / f"{name}.config.json"
        self._port = 0
        self.log = RecordLog(state_dir / f"{name}.jsonl")
        self._child = Child(
            "demoapps.load",
            ["--config", str(self._config_file), "--record", str(self.log.path)],
            state_dir=state_dir,
            name=name,
            outlive_parent=outlive_parent,
        )

    def start(self) -> None:
        """Start sending, on a new record."""
        self._config_file.parent.mkdir(parents=True, exist_ok=True)
        self._config_file.write_text(json.dumps(asdict(self._config)))
        self.log = RecordLog(self.log.path)
        self._port = self._child.start()["control_port"]

    def stop(self) -> None:
        """Stop sending. The record can still be queried."""
        self._child.stop(timeout_s=self._config.drain_s + 10)

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()

    def set_rate(self, host: str, rate: float) -> float:
        """Change the arrivals per second of a host; 0 pauses it.

        Returns
        -------
        float
            When that came into force, in unix seconds.

        """
        at = call(self._port, f"/targets/{host}", {"rate": rate})["at"]
        return float(at)

    def put(self, target: Target) -> float:
        """Add a target, or change that of its host; returns when, in unix seconds."""
        return float(call(self._port, f"/targets/{target.host}", asdict(target))["at"])

    def status(self) -> Mapping[str, Mapping[str, Any]]:
        """Return `rate`, `scheduled`, `completed`, `in_flight` and `oldest_at` by host."""
        targets: dict[str, dict[str, Any]] = call(self._port, "/status")["targets"]
        return targets

    def settle(self, until: float, host: str | None = None, timeout_s: float = 60.0) -> None:
        """Wait until no request that was due before `until` (unix seconds) is open.

        Only finished requests are on record: without this, those that a sick
        leg still keeps waiting would be missing from a count.

        Raises
        ------
        TimeoutError
            If there still is one after `timeout_s` seconds.

        """
        deadline = time.monotonic() + timeout_s
        while True:
            answer = call(self._port, "/status")
            oldest = [
                status["oldest_at"]
                for name, status in answer["targets"].items()
                if host in (None, name) and status["oldest_at"] is not None
            ]
            if answer["now"] >= until and min(oldest, default=math.inf) >= until:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"requests due before {until} are open after {timeout_s} s")
            time.sleep(0.1)

    def records(self, host: str | None = None, since: float = -math.inf, until: float = math.inf) -> list[Record]:
        """Return finished requests, as `RecordLog.records`."""
        return self.log.records(host, since, until)

    def summary(
        self,
        host: str | None = None,
        since: float = -math.inf,
        until: float = math.inf,
        *,
        slow_s: float = math.inf,
    ) -> Summary:
        """Count finished requests, as `RecordLog.summary`."""
        return self.log.summary(host, since, until, slow_s=slow_s)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m demoapps.load", description=__doc__)
    parser.add_argument(
        "--config",
        type=Path,
        required=True,
        help='JSON: {"gateway": "http://127.0.0.1:18080", '
        '"targets": [{"host": "pdf.example.com", "rate": 50}]}; see Config',
    )
    parser.add_argument("--record", type=Path, required=True, help="JSON lines are written here")
    parser.add_argument("--control-port", type=int, default=0)
    add_process_options(parser)
    options = parser.parse_args()
    try:
        config = Config.from_json(options.config.read_text())
    except (TypeError, ValueError, OSError) as error:
        parser.error(f"--config: {error}")
    run(lambda: generate(options, config))


if __name__ == "__main__":
    main()
