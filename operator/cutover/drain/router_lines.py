"""Lines of Heroku's router, one for each request.

A line has text that users choose: the method, the path (which Router 2.0 decodes, so with spaces and quotes), the host, the
request id and ``fwd``; H31 has an agent at its end. So the error's code is read at the line's beginning, and the numbers at
its end. Nothing is searched for in between.

https://devcenter.heroku.com/articles/http-routing, https://devcenter.heroku.com/articles/error-codes
"""

from __future__ import annotations

import re
from typing import NamedTuple

_WITHOUT_ERROR = b"at=info method="
#: ``sock=`` may come before ``at=``, and H31 has ``error`` in its place.
_ERROR = re.compile(rb"(?:sock=\w+ )?(?:at=\w+ |error )?code=(H\d\d) ")
#: Later versions may add fields, but quoted text is no number.
_NUMBERS = re.compile(
    rb" dyno=\S* connect=(\d{0,9})(?:ms)? service=(\d{0,9})(?:ms)? status=(\d{0,3}) bytes=(\d{0,15})(?: \w+=[\w.]*)*\n?\Z"
)
_CODES = {b"%d" % code: str(code) for code in range(100, 600)}
#: Its agent, which the user chooses, is the end of the line.
_MISDIRECTED = "H31"
#: What users get for an error whose line has no status (H24), as for nearly all others.
_NO_STATUS = "503"


class Request(NamedTuple):
    """What a line says of its request.

    Parameters
    ----------
    code
        The HTTP status.
    error
        Heroku's code, such as ``H12``; ``""`` without an error.
    connect, service
        Milliseconds; ``None`` where the request did not get so far.
    size
        Bytes of the answer.
    """

    code: str
    error: str
    connect: int | None
    service: int | None
    size: int


def read_request(line: bytes) -> Request | None:
    """Return what a line of the router says; ``None`` where it was cut, or is not understood."""
    error = ""
    if not line.startswith(_WITHOUT_ERROR):
        found = _ERROR.match(line)
        if found is not None:
            error = found[1].decode("ascii")
            if error == _MISDIRECTED:
                return Request("421", error, None, None, 0)
        elif not line.startswith((b"at=", b"sock=")):
            return None
    numbers = _NUMBERS.match(line, line.rfind(b" dyno="))
    if numbers is None:
        return None
    connect, service, status, size = numbers.groups()
    code = _CODES.get(status, _NO_STATUS if error and not status else "")
    if not code:
        return None
    return Request(code, error, int(connect) if connect else None, int(service) if service else None, int(size or 0))
