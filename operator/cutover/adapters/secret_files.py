"""Secrets in files, as Kubernetes mounts them. They are read at each use, as secrets are rotated."""

from __future__ import annotations

from pathlib import Path


class CredentialsError(Exception):
    """Credentials cannot be read or used. Its text is for people and quotes no credentials."""


def read_secret(file: Path, what: str, *, ascii_only: bool = True) -> str:
    """Read one line.

    Parameters
    ----------
    file
        The file; white space around its text is stripped.
    what
        The secret's name in errors, such as ``token``.
    ascii_only
        Whether the text is sent in a header as it is.

    Raises
    ------
    CredentialsError
        Where the file cannot be read, or its text cannot be sent.
    """
    try:
        text = file.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        # ValueError's own text would quote the secret.
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CredentialsError(f"the {what} file cannot be read: {why}") from None
    if not text:
        raise CredentialsError(f"the {what} file is empty")
    if not text.isprintable() or (ascii_only and not text.isascii()):
        raise CredentialsError(f"the {what} file has more than one line, or characters that cannot be sent")
    return text
