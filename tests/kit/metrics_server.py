"""A port that answers scrapes with whatever a test makes up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class MetricsServer:
    """Answers scrapes until it is stopped.

    Parameters
    ----------
    text
        Returns the metrics, by the path that is asked for; ``None`` fails the scrape.
    port
        Port on the loopback interface; 0 for a free one.

    Attributes
    ----------
    port
        The port that it listens on.
    """

    def __init__(self, text: Callable[[str], str | None], port: int = 0) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = text(self.path)
                body = (found or "").encode()
                self.send_response(500 if found is None else 200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.handle_error = lambda *args: None  # type: ignore[method-assign]  # a scrape that timed out
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
