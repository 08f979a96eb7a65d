"""Which senders are accepted, and which app a drain token belongs to, from a file that is mounted from a Secret."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from cutover.settings import SettingsError
from cutover.settings.files import FileModel, read_file

#: Logplex splits what is before the "@" of its URL at ":", and escapes nothing.
_SAFE = r"^[A-Za-z0-9_-]+$"
_Secret = Annotated[str, StringConstraints(pattern=_SAFE, min_length=16, max_length=256)]
_Name = Annotated[str, StringConstraints(pattern=_SAFE, max_length=256)]
_App = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,62}$")]
_DrainToken = Annotated[str, StringConstraints(pattern=r"^d\.[A-Za-z0-9-]{8,64}$")]
MOST_APPS = 1000


class Credential(FileModel):
    """What a drain's URL has to carry: a user and a password, or a token as the last part of its path."""

    username: _Name | None = Field(default=None, description="User, in https://user:password@host/.")
    password: _Secret | None = Field(default=None, repr=False, description="Password, of 16 characters and more.")
    token: _Secret | None = Field(default=None, repr=False, description="Token, in https://host/logplex/token.")

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        basic = self.username is not None and self.password is not None
        if basic == (self.token is not None) or (self.username is None) != (self.password is None):
            raise ValueError("write username and password, or token")
        return self


class DrainsFile(FileModel):
    """The file with the credentials and the apps."""

    credentials: Annotated[tuple[Credential, ...], Field(min_length=1, max_length=20)] = Field(
        description="Any of them is enough; two while a password is changed."
    )
    # Two drains of an app that come here would count each of its requests twice.
    apps: Annotated[dict[_App, _DrainToken], Field(max_length=MOST_APPS)] = Field(
        default_factory=dict, description="The drain token of each app, as heroku drains --json shows it."
    )

    @model_validator(mode="after")
    def _of_one_app(self) -> Self:
        owners: dict[str, str] = {}
        for app, token in self.apps.items():
            if owners.setdefault(token, app) != app:
                raise ValueError(f"apps: {owners[token]} and {app} have the same drain token")
        return self


class Access:
    """Answers by the contents of the file.

    Parameters
    ----------
    file
        The contents.
    """

    def __init__(self, file: DrainsFile) -> None:
        self._basic = [
            _digest(f"{one.username}:{one.password}".encode()) for one in file.credentials if one.password is not None
        ]
        self._tokens = [_digest(one.token.encode()) for one in file.credentials if one.token is not None]
        self._owners = {token: app for app, token in file.apps.items()}
        self.apps = tuple(file.apps)

    def allows(self, authorization: str, path: str) -> bool:
        """Tell whether a request has one of the credentials, in a time that does not tell how nearly.

        Parameters
        ----------
        authorization
            The header's value; ``""`` without it.
        path
            The path of the URL.
        """
        scheme, _, encoded = authorization.partition(" ")
        given = b""
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(encoded.encode("ascii"), validate=True)
            except (binascii.Error, ValueError):
                return False
        last = path.rpartition("/")[2].encode("utf-8", "replace")
        basic, token = _digest(given), _digest(last)
        found = [hmac.compare_digest(basic, known) for known in self._basic]
        found += [hmac.compare_digest(token, known) for known in self._tokens]
        return any(found)

    def app_of(self, drain_token: str) -> str:
        """Return the app of a drain token; ``""`` where no app has it."""
        return self._owners.get(drain_token, "")


def _digest(value: bytes) -> bytes:
    # Of one length, so that a comparison does not tell the secret's.
    return hashlib.sha256(value).digest()


class AccessFile:
    """The file, which is read again when it changes. While it is wrong, what it said before holds.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    SettingsError
        Where it is missing or wrong at the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = self._stat()
        self.access = self._read()
        self.problem = ""

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self) -> Access:
        return Access(read_file(self._path, self._path.name, DrainsFile))

    def refresh(self) -> bool:
        """Read the file if it is another than at the last call. Return whether anything changed, also for the worse."""
        version = self._stat()
        if version == self._version:
            return False
        self._version = version
        try:
            self.access, self.problem = self._read(), ""
        except SettingsError as error:
            self.problem = str(error)
        return True
