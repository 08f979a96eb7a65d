"""Audit ``heroku-variables``: what the app is started with does not name variables that only Heroku sets."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.workload import Workload

#: ``$DYNO`` in a shell, ``$(DYNO)`` in a manifest. PORT is told by another audit.
_NAMED = re.compile(r"\$[({]?(DYNO(?:_RAM)?|HEROKU_[A-Z0-9_]+|SOURCE_VERSION)\b")


def find(workload: Workload) -> Iterator[str]:
    """Find names of such variables in commands and in values of other variables."""
    app = workload.app
    texts = [command.text for command in app.commands] + [value for value in app.env.values() if value]
    named = dict.fromkeys(name for text in texts for name in _NAMED.findall(text))
    missing = [name for name in named if name not in app.env]
    if missing and not app.env_is_open:
        yield (
            f"container {app.name} uses {', '.join(missing[:5])}, which only Heroku sets: set it, such as DYNO from the Pod's"
            " name (fieldRef metadata.name), or do without"
        )


CHECK = audit("heroku-variables", "no command or variable needs `DYNO`, `HEROKU_…` or `SOURCE_VERSION`", find)
