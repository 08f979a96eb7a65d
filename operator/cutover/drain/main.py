"""Starts the process ``cutover-drain``: settings, signals, the order of its end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import prometheus_client
import structlog
from pydantic import Field, Json
from pydantic_settings import SettingsConfigDict

from cutover.drain.access import AccessFile
from cutover.drain.exposition import Exposition
from cutover.drain.frames import Record
from cutover.drain.otlp_names import OtlpNames
from cutover.drain.server import Port, Receiver
from cutover.listening import MetricsPage, Page, alive, listening
from cutover.logs import configure_logging
from cutover.settings import SettingsError
from cutover.settings.variables import Variables, read_variables

PREFIX = "CUTOVER_DRAIN_"

log = structlog.get_logger("cutover.drain")


class DrainSettings(Variables):
    """The settings; a variable's name is ``CUTOVER_DRAIN_`` and the field in capitals."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX, enable_decoding=False)

    file: Path = Field(
        default=Path("/etc/cutover/drain/drains.yaml"), description="File with credentials and drain tokens, YAML."
    )
    port: int = Field(default=8000, ge=1, le=65535, description="Port for Logplex, HTTP.")
    health_port: int = Field(default=8080, ge=0, le=65535, description="Port of /healthz; 0 for none.")
    metrics_port: int = Field(default=9090, ge=0, le=65535, description="Port of /metrics; 0 for none.")
    otlp: Json[OtlpNames] | OtlpNames | None = Field(
        default=None,
        description="Names of the router's metrics in OTLP, of Fir's apps; without them no OTLP is taken.",
    )
    listen_address: str = Field(default="0.0.0.0", description="Address of all three.")
    leave_seconds: float = Field(
        default=5.0, ge=0, le=120, description="Seconds for which a process that ends still accepts connections."
    )
    last_scrape_seconds: float = Field(
        default=35.0,
        ge=0,
        le=600,
        description="Seconds for which its final counts can be scraped then; more than the scrape interval.",
    )
    log_level: str = Field(
        default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR."
    )


async def run(settings: DrainSettings, file: AccessFile) -> None:
    """Run until a signal arrives, and then until the last counts can have been scraped. Raises OSError for a port in use."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def end() -> None:
        ended.set()
        for number in (signal.SIGINT, signal.SIGTERM):  # the second one ends the process at once
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    record = Record(time.time, time.monotonic)
    exposition = Exposition(record)
    prometheus_client.REGISTRY.register(exposition)
    pages: dict[tuple[int, str], Page] = {
        (settings.health_port, "/healthz"): alive,
        (settings.metrics_port, "/metrics"): MetricsPage(),
    }
    async with listening(settings.listen_address, pages):
        receiver = Receiver(
            file,
            record,
            on_configuration=lambda good: setattr(exposition, "configured", good),
            names=settings.otlp.names() if settings.otlp is not None else None,
        )
        port = await Port(receiver).open(settings.listen_address, settings.port)
        log.info("waiting for frames", port=settings.port, apps=len(file.access.apps))
        await ended.wait()
        log.info("ending: no more frames are taken")
        await port.close(settings.leave_seconds)
        exposition.ending = True
        await asyncio.sleep(settings.last_scrape_seconds)
    log.info("ended")


def main() -> None:
    """Run the process."""
    try:
        settings = read_variables(DrainSettings, os.environ)
        file = AccessFile(settings.file)
    except SettingsError as error:
        sys.exit(f"settings: {error}")
    configure_logging(settings.log_level)
    try:
        asyncio.run(run(settings, file))
    except OSError as error:
        sys.exit(f"cutover-drain: {error.strerror}")


if __name__ == "__main__":
    main()
