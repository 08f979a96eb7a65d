"""Reads the bodies of OTLP/HTTP: protobuf or JSON, maybe compressed, each up to a bound of what it takes to read it."""

from __future__ import annotations

import zlib

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

PROTOBUF, JSON = "application/x-protobuf", "application/json"
#: Bytes of a body once it is inflated. A message of protobuf takes some 40 times its least size in memory.
MOST_INFLATED = 1024 * 1024
#: Bytes and values of JSON, which takes twenty times as long to read.
MOST_JSON, MOST_VALUES = 256 * 1024, 20_000
_GZIP = 16 + zlib.MAX_WBITS


class LargeBody(Exception):
    """The body is too large to be read."""


class BrokenBody(Exception):
    """The body is not what it says to be."""


def read_export(body: bytes, content_type: str, *, gzip: bool) -> ExportMetricsServiceRequest:
    """Return the message of a body.

    Parameters
    ----------
    body
        As it was sent.
    content_type
        :data:`PROTOBUF` or :data:`JSON`.
    gzip
        Whether it is compressed.

    Raises
    ------
    LargeBody, BrokenBody
        Where it cannot be read.
    """
    if gzip:
        body = _inflated(body)
    if len(body) > MOST_INFLATED:
        raise LargeBody
    export = ExportMetricsServiceRequest()
    try:
        if content_type == PROTOBUF:
            export.ParseFromString(body)
        elif len(body) > MOST_JSON or body.count(b",") + body.count(b"{") + body.count(b"[") > MOST_VALUES:
            raise LargeBody
        else:
            json_format.Parse(body, export, ignore_unknown_fields=True)
    except (DecodeError, json_format.ParseError, ValueError, RecursionError):
        raise BrokenBody from None
    return export


def _inflated(body: bytes) -> bytes:
    reader = zlib.decompressobj(_GZIP)
    try:
        found = reader.decompress(body, MOST_INFLATED + 1)
    except zlib.error:
        raise BrokenBody from None
    if len(found) > MOST_INFLATED:
        raise LargeBody
    if not reader.eof or reader.unused_data:
        raise BrokenBody
    return found


def answer(content_type: str, refused: int) -> bytes:
    """Return the body of the answer to an export whose points were counted, but for so many."""
    message = ExportMetricsServiceResponse()
    if refused:
        message.partial_success.rejected_data_points = refused
        message.partial_success.error_message = "see heroku_drain_dropped_messages_total"
    if content_type == JSON:
        return str(json_format.MessageToJson(message, indent=None)).encode()
    return bytes(message.SerializeToString())
