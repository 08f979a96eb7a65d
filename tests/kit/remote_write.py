"""A real Prometheus with a history that is written by its remote-write protocol.

See https://prometheus.io/docs/specs/prw/remote_write_spec/.
"""

from __future__ import annotations

import contextlib
import struct
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import httpx
from tests.kit.real_prometheus import RealPrometheus

Series = dict[tuple[tuple[str, str], ...], list[tuple[float, float]]]

#: What one request covers. A Prometheus takes samples of its last hour in any order.
_REQUEST_SECONDS = 1800


def _varint(number: int) -> bytes:
    coded = bytearray()
    while number > 0x7F:
        coded.append(number & 0x7F | 0x80)
        number >>= 7
    coded.append(number)
    return bytes(coded)


def _field(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _write_request(series: Series) -> bytes:
    """Encode ``prometheus.WriteRequest``: series of labels (name, value) and samples (double, int64 milliseconds)."""
    request = bytearray()
    for labels, samples in series.items():
        one = bytearray()
        for name, text in sorted(labels):
            one += _field(1, _field(1, name.encode()) + _field(2, text.encode()))
        for at, value in samples:
            one += _field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(round(at * 1000)))
        request += _field(1, bytes(one))
    return bytes(request)


def _snappy(data: bytes) -> bytes:
    """Write Snappy's block format without compressing: the length, and literals of up to 64 KiB each."""
    parts = [_varint(len(data))]
    for start in range(0, len(data), 1 << 16):
        literal = data[start : start + (1 << 16)]
        parts += [b"\xf4", struct.pack("<H", len(literal) - 1), literal]
    return b"".join(parts)


def _in_time(series: Series) -> Iterator[Series]:
    """Yield what each request covers, the oldest first."""
    parts: defaultdict[int, Series] = defaultdict(dict)
    for labels, samples in series.items():
        for part, some in groupby(samples, key=lambda sample: int(sample[0] // _REQUEST_SECONDS)):
            parts[part][labels] = list(some)
    for part in sorted(parts):
        yield parts[part]


def write(http: httpx.Client, url: str, series: Series) -> None:
    """Write series to a Prometheus, in the order of time.

    Series after series would come out of order, and its compaction of such samples may end it (prometheus#16858).
    """
    headers = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    for part in _in_time(series):
        answer = http.post(f"{url}/api/v1/write", content=_snappy(_write_request(part)), headers=headers)
        assert answer.status_code in (200, 204), answer.text


@contextlib.contextmanager
def filled_prometheus(folder: Path, series: Series) -> Iterator[str]:
    """Run a Prometheus with nothing but a history; yield its URL."""
    prometheus = RealPrometheus(folder, [], "--web.enable-remote-write-receiver")
    try:
        prometheus.start()
        try:
            with httpx.Client(trust_env=False, timeout=30) as http:
                write(http, prometheus.url, series)
        except httpx.HTTPError as exc:
            raise AssertionError(prometheus.log()[-5000:]) from exc
        yield prometheus.url
    finally:
        prometheus.stop()
