"""Exit codes, for scripts, and the error that carries one."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit code of a command."""

    DONE = 0
    """It was done, or there was nothing to do."""
    ERROR = 1
    """No cluster, no right, no plan, or an input that cannot be used."""
    USAGE = 2
    """The command line is wrong. It is typer's."""
    REFUSED = 3
    """The operator refuses it, or it would: nothing moves because of it."""
    NOT_YET = 4
    """It was written, and its effect was not seen in time."""
    DECLINED = 5
    """The person said no, or nobody could be asked."""
    FOUND = 6
    """What was looked at needs somebody: a check failed, a plan is held or went back."""


class CliError(Exception):
    """A command cannot go on. Its text says why, and what to do."""

    def __init__(self, text: str, code: Exit = Exit.ERROR) -> None:
        super().__init__(text)
        self.code = code
