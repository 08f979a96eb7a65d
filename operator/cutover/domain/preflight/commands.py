"""The commands that a container is started by, as far as its manifest tells: what runs, and whether a shell is before it.

A shell's script is split into its simple commands. What stands before the program itself is left out: variables, and
wrappers such as ``bundle exec`` or ``tini --``. Nothing is expanded or run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

#: Most words of a command, and characters of all of them, that are looked at.
MOST_WORDS, MOST_CHARACTERS = 500, 16 << 10
#: Shells that take a script after ``-c``.
SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh"})
#: What separates commands in a script.
_BETWEEN = frozenset({"&&", "||", ";", ";;", "|", "&", "(", ")", "\n"})
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
#: Words before a program that run it.
_WRAPPERS = frozenset(
    {
        "exec",
        "env",
        "command",
        "nohup",
        "time",
        "bundle exec",
        "poetry run",
        "pipenv run",
        "uv run",
        "npx",
        "tini",
        "dumb-init",
        "catatonit",
        "docker-entrypoint.sh",
        "python -m",
        "python3 -m",
        "ddtrace-run",
        "newrelic-admin run-program",
    }
)


@dataclass(frozen=True, slots=True)
class Command:
    """A simple command.

    Parameters
    ----------
    program
        File name of the program, without its folder, such as ``puma``.
    arguments
        The words after it.
    shell
        The shell that runs the command; ``""`` for none.
    replaces_shell
        Whether the command takes the place of its shell (``exec``).
    """

    program: str
    arguments: tuple[str, ...] = ()
    shell: str = ""
    replaces_shell: bool = False

    @property
    def text(self) -> str:
        """The command as one line."""
        return " ".join((self.program, *self.arguments))

    @property
    def short(self) -> str:
        """The first three words, for a message."""
        return " ".join(self.text.split()[:3])

    def value(self, *flags: str) -> str | None:
        """Return the value of the first of the flags that is there: ``--port 80``, ``--port=80``, ``-p 80`` or ``-p80``."""
        for flag in flags:
            for at, word in enumerate(self.arguments):
                if word == flag:
                    return self.arguments[at + 1] if at + 1 < len(self.arguments) else ""
                if flag.startswith("--") and word.startswith(f"{flag}="):
                    return word.removeprefix(f"{flag}=")
                if not flag.startswith("--") and word.startswith(flag) and not word.startswith("--"):
                    return word.removeprefix(flag)
        return None


def too_long(words: Sequence[str]) -> bool:
    """Tell whether a command is so long that it is not looked at."""
    return len(words) > MOST_WORDS or sum(map(len, words)) > MOST_CHARACTERS


@lru_cache(maxsize=128)  # many audits ask for the same, again and again
def commands(words: tuple[str, ...]) -> tuple[Command, ...]:
    """Return the simple commands of a container's ``command`` and ``args``, the one that stays running last.

    Parameters
    ----------
    words
        ``command`` followed by ``args``. Of a command that is :func:`too_long` nothing is known, as of an image's own.
    """
    unwrapped, _ = _unwrapped(words) if not too_long(words) else ((), False)
    if not unwrapped:
        return ()
    shell = _file_name(unwrapped[0])
    script = _script(unwrapped) if shell in SHELLS else None
    if script is None:
        return (Command(shell, tuple(unwrapped[1:])),)
    return tuple(_in_shell(script, shell))


def _script(words: Sequence[str]) -> str | None:
    """Return the script of ``sh -c``, also as ``-ec`` or ``-l -c``; ``None`` if a file is run."""
    for at, word in enumerate(words[1:], start=1):
        if not word.startswith("-"):
            return None
        if word.endswith("c") and not word.startswith("--"):
            return words[at + 1] if at + 1 < len(words) else ""
    return None


def _in_shell(script: str, shell: str) -> Iterator[Command]:
    for simple in _simple_commands(script):
        words, replaces = _unwrapped(simple)
        if words:
            yield Command(_file_name(words[0]), tuple(words[1:]), shell, replaces)


def _simple_commands(script: str) -> Iterator[list[str]]:
    # A continued line is one line.
    script = script.replace("\\\n", " ")
    lexer = shlex.shlex(script.replace("\n", " ; "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    current: list[str] = []
    try:
        for word in lexer:
            if word in _BETWEEN:
                yield current
                current = []
            else:
                current.append(word)
    except ValueError:
        # A quote is not closed, as in a template that is cut. The words so far are what is known.
        pass
    yield current


def _unwrapped(words: Sequence[str]) -> tuple[Sequence[str], bool]:
    """Return a command without variables and wrappers before it, and whether ``exec`` is among these."""
    replaces, at = False, 0
    while at < len(words):
        name = _file_name(words[at])
        two = " ".join((name, *words[at + 1 : at + 2]))
        if _VARIABLE.match(words[at]):
            at += 1
        elif two in _WRAPPERS:
            at += 2
        elif name in _WRAPPERS:
            replaces = replaces or name == "exec"
            at += 1
            while at < len(words) and words[at].startswith("-"):
                at += 1
        else:
            break
    return words[at:], replaces


def _file_name(word: str) -> str:
    return word.rsplit("/", 1)[-1]
