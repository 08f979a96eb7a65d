"""Configures logging: one JSON object per line, for libraries, too."""

from __future__ import annotations

import logging
import sys

import structlog

from cutover.adapters.masking import masked


def configure_logging(level: str) -> None:
    """Log one JSON object per line, for libraries, too."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(sort_keys=False),
                # Kopf quotes answers of the API server, or of a proxy before it.
                lambda _, __, line: masked(str(line)),
            ],
            # Kopf's messages do not name their object, which is in an extra field.
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(allow=["k8s_ref"]), *shared],
        )
    )
    handler.addFilter(_without_traceback)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    # They log every object and request, with whole bodies at DEBUG, and no decision.
    for name in ("kopf", "httpx", "httpcore", "aiohttp.access"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # It logs every attempt; adapters/kube/lease.py logs changes.
    logging.getLogger("kubernetes.aio.leaderelection").setLevel(logging.CRITICAL)


def _without_traceback(record: logging.LogRecord) -> bool:
    """Remove the traceback from Kopf's error about a kind that is gone, which is no bug."""
    # Compared by name: Kopf does not export its exceptions.
    if record.name.startswith("kopf.") and record.exc_info and type(record.exc_info[1]).__name__ == "APINotFoundError":
        record.exc_info = None
    return True
