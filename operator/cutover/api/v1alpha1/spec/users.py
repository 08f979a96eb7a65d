"""Requests that are not drawn anew each time: those of testers, and those of users who stay on their leg."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Annotated

from pydantic import Field

from cutover.api.durations import format_duration
from cutover.api.model import Duration, Model
from cutover.api.rules import Rule, matching, within

#: Names of request headers by which a preview cannot be asked for: those of the operator's own, and those that say what a
#: request is or how it is sent.
_NO_PREVIEW_HEADER = r"^(x-cutover-.*|x-forwarded-.*|host|cookie|connection|te|transfer-encoding|upgrade|content-.*)$"

# A name of a cookie without characters that mean something in a regular expression.
CookieName = Annotated[
    str,
    Field(min_length=1, max_length=64),
    matching(r"^[A-Za-z0-9_-]+$", "write letters, digits, '-' and '_', such as try-eks"),
]


class PreviewHeader(Model):
    """A request header that asks for EKS."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=64),
        matching(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "write the header's name in lower case, such as x-try-eks"),
        Rule(
            "write a header of your own, such as x-try-eks; a cookie has a field of its own",
            f"!self.matches({json.dumps(_NO_PREVIEW_HEADER)})",
            lambda name: re.fullmatch(_NO_PREVIEW_HEADER, name) is None,
        ),
    ] = Field(description="Name of the header, in lower case.")
    value: Annotated[
        str,
        Field(min_length=1, max_length=128),
        matching(r"^[!-~]([ -~]*[!-~])?$", 'write printable ASCII characters, such as "1"'),
    ] = Field(description="The whole value of the header.")


class PreviewCookie(Model):
    """A cookie that asks for EKS."""

    name: CookieName = Field(description="Name of the cookie.")
    value: Annotated[
        str,
        Field(min_length=1, max_length=128),
        matching(r"^[A-Za-z0-9_.~-]+$", "write letters, digits, '-', '_', '.' and '~', such as \"1\""),
    ] = Field(description="The whole value of the cookie.")


class Preview(Model):
    """Requests that go to EKS at any weight, from the takeover on."""

    RULES = (
        Rule(
            'preview: exactly one of header and cookie must be set; write header: {name: x-try-eks, value: "1"}',
            "[has(self.header), has(self.cookie)].exists_one(set, set)",
            lambda self: (self.header is None) is not (self.cookie is None),
        ),
    )

    header: PreviewHeader | None = Field(default=None, description="Requests with this header go to EKS.")
    cookie: PreviewCookie | None = Field(default=None, description="Requests with this cookie go to EKS.")

    @property
    def described(self) -> str:
        """What asks for EKS, as the ledger has it. The value may be what keeps others out, and is not in it."""
        return (
            f"header {self.header.name}" if self.header is not None else f"cookie {self.cookie and self.cookie.name}"
        )


class AffinityCookie(Model):
    """The cookie by which a user stays on a leg."""

    name: CookieName = Field(default="cutover", description="Name of the cookie; none of the app's own.")
    max_age: Annotated[Duration, within("1m", "90d", "12h or 7d")] = Field(
        default=timedelta(days=7),
        description="How long a browser keeps it from the first answer. A user whose cookie has ended is drawn anew.",
    )


class Affinity(Model):
    """Users, not requests, are split."""

    cookie: AffinityCookie = Field(
        description="The cookie, which the gateway sets. Write cookie: {} for its defaults."
    )

    @property
    def described(self) -> str:
        """The cookie, as the ledger has it."""
        return f"cookie {self.cookie.name} for {format_duration(self.cookie.max_age)}"
