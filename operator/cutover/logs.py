"""How the process logs: JSON, one object a line, also what libraries log."""

from __future__ import annotations

import logging
import sys

import structlog

from cutover.adapters.masking import masked


def configure_logging(level: str) -> None:
    """Log JSON, one object a line, also what libraries log."""
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
                # Kopf quotes what an API server, or a proxy before it, answers.
                lambda _, __, line: masked(str(line)),
            ],
            # Kopf's own lines do not name the object that they are about.
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(allow=["k8s_ref"]), *shared],
        )
    )
    handler.addFilter(_without_traceback)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    # They tell of every object and request, whole bodies at DEBUG, and nothing of a decision.
    for name in ("kopf", "httpx", "httpcore", "aiohttp.access"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # It tells of every attempt; adapters/kube/lease.py tells of what changes.
    logging.getLogger("kubernetes.aio.leaderelection").setLevel(logging.CRITICAL)


def _without_traceback(record: logging.LogRecord) -> bool:
    """Take the traceback off what Kopf says of a kind that is gone, which is no fault of the program's."""
    # Kopf's own exceptions are not for others to import.
    if record.name.startswith("kopf.") and record.exc_info and type(record.exc_info[1]).__name__ == "APINotFoundError":
        record.exc_info = None
    return True
