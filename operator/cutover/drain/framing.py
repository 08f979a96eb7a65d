"""Octet counting: cuts the body of a Logplex request into its messages.

A message is ``<octets> <message>``, as in RFC 6587, and the next length follows at once. The octets count a final line feed
where there is one. So bytes are counted and lines are never split: a message may hold line feeds, and text that looks like
another message.
"""

from __future__ import annotations

from collections.abc import Iterator

#: Digits of the longest length, 9,999,999 bytes.
_MOST_DIGITS = 7


class BrokenFrame(Exception):
    """The body does not go on as counted messages. What was read before it holds; the rest cannot be told apart."""


def messages(body: bytes) -> Iterator[bytes]:
    """Yield the messages of a body, in order.

    Raises
    ------
    BrokenFrame
        At the first place where no whole message follows. Looking for another beginning would let an app's own text pass
        for a message of Heroku.
    """
    position, size = 0, len(body)
    while position < size:
        space = body.find(b" ", position, position + _MOST_DIGITS + 1)
        length = body[position:space] if space > 0 else b""
        if not length.isdigit():
            raise BrokenFrame("no length")
        begin = space + 1
        position = begin + int(length)
        if position > size:
            raise BrokenFrame("cut")
        yield body[begin:position]
