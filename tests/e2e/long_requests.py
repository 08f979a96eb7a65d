"""Users whose requests take long: event streams, downloads on slow lines, and uploads."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp

from demoapps.contents import downloaded, streamed
from sandbox.environment import Environment

from .crowd import Crowd

#: Size of a download (MiB): more than the buffers on its way hold, so that it lasts as long as its user takes.
_SIZE = 16
_FILE = downloaded(_SIZE)
#: Parts of an upload. Together they are more than a proxy keeps for a retry (1 MiB).
_PARTS = [bytes([number]) * (512 << 10) for number in range(8)]
_DIGEST = hashlib.sha256(b"".join(_PARTS)).hexdigest()


@dataclass(frozen=True)
class Ended:
    """How a long request ended.

    Parameters
    ----------
    what
        ``stream``, ``download`` or ``upload``.
    leg, revision
        Who answered, by which route; ``""`` if nobody did.
    problem
        What was wrong with it; ``""`` if it came whole, byte for byte.
    """

    what: str
    leg: str
    revision: str
    problem: str


class LongRequests(Crowd):
    """Users who begin long requests, many at a time.

    Parameters
    ----------
    seconds
        How long an answer lasts, and an upload.
    """

    def __init__(self, environment: Environment, service: str, seconds: int) -> None:
        super().__init__(environment, service, pause=1.0, patience=seconds + 60)
        self.ended: list[Ended] = []
        self._seconds = seconds

    async def _use(self, session: aiohttp.ClientSession, number: int) -> None:
        kinds = (self._stream, self._download, self._upload)
        await kinds[number % len(kinds)](session)

    async def _stream(self, session: aiohttp.ClientSession) -> None:
        leg = revision = ""
        try:
            async with session.get(f"/stream/{self._seconds}") as response:
                leg, revision = _by(response)
                problem = "" if response.status == 200 else f"HTTP {response.status}"
                if await response.read() != streamed(self._seconds):
                    problem = problem or "another body"
        except (aiohttp.ClientError, TimeoutError) as error:
            problem = repr(error)
        self.ended.append(Ended("stream", leg, revision, problem))

    async def _download(self, session: aiohttp.ClientSession) -> None:
        leg = revision = ""
        digest, most = hashlib.sha256(), 1 << 20
        try:
            async with session.get(f"/download/{_SIZE}") as response:
                leg, revision = _by(response)
                async for part in response.content.iter_chunked(most):
                    digest.update(part)
                    await asyncio.sleep(self._seconds * len(part) / (_SIZE << 20))
                whole = (response.status, digest.hexdigest()) == (200, _FILE)
                problem = "" if whole else f"HTTP {response.status}, another file"
        except (aiohttp.ClientError, TimeoutError) as error:
            problem = repr(error)
        self.ended.append(Ended("download", leg, revision, problem))

    async def _upload(self, session: aiohttp.ClientSession) -> None:
        leg = revision = ""
        try:
            async with session.post("/", data=self._parts()) as response:
                leg, revision = _by(response)
                seen = response.headers.get("x-seen-body")
                problem = "" if (response.status, seen) == (200, _DIGEST) else f"HTTP {response.status}, body {seen}"
        except (aiohttp.ClientError, TimeoutError) as error:
            problem = repr(error)
        self.ended.append(Ended("upload", leg, revision, problem))

    async def _parts(self) -> AsyncIterator[bytes]:
        for part in _PARTS:
            yield part
            await asyncio.sleep(self._seconds / len(_PARTS))


def _by(response: aiohttp.ClientResponse) -> tuple[str, str]:
    return response.headers.get("x-leg", ""), response.headers.get("x-cutover-revision", "")
