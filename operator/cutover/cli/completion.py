"""``kubectl_complete-cutover``: what kubectl starts to complete ``kubectl cutover …``.

kubectl passes the words so far, the last one unfinished, and reads a candidate a line and a directive in the last. The
candidates are those of typer's completion, asked as bash would.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys

from cutover.cli.app import app

#: "Offer no names of files", as kubectl's own commands say it.
NO_FILES = ":4"


def main() -> None:
    """Write the candidates for the words in the arguments."""
    words = ["kubectl-cutover", *sys.argv[1:]]
    os.environ |= {
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "_KUBECTL_CUTOVER_COMPLETE": "complete_bash",
    }
    found = io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(found), contextlib.redirect_stderr(io.StringIO()):
        app(prog_name="kubectl-cutover")
    print(*found.getvalue().split(), NO_FILES, sep="\n")


if __name__ == "__main__":
    main()
