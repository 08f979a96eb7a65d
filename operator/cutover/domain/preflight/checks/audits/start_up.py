"""Audit ``start-up``: what was done once for each release is done at each start of each Pod."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.commands import Command, commands
from cutover.domain.preflight.workload import Container, Workload

_INSTALLS = re.compile(
    r"^(?:npm (?:ci|i|install)|yarn(?: install| --\S+)*$|pnpm (?:i|install)|bundle install|pip3? install|pip install|poetry"
    r" install|uv sync|composer install|apt(?:-get)? (?:-\S+ )*install|apk (?:-\S+ )*add|go build|mix deps\.get)"
)
_MIGRATES = re.compile(
    r"\b(?:db:migrate|db:prepare|db:schema:load|db:setup|migrate deploy|artisan migrate|alembic upgrade|flask db upgrade"
    r"|sequelize(?:-cli)? db:migrate|knex migrate:latest|typeorm migration:run|ecto\.migrate|goose up|flyway migrate)\b"
    r"|manage\.py migrate\b|^migrate\b"
)
_MAKES_KEYS = re.compile(
    r"\bkey:generate\b|\bpassport:keys\b|\brails secret\b|\brake secret\b|\bopenssl rand\b|\bssh-keygen\b"
)

AT_EACH_START = (
    "at each start, as a build does on Heroku: a new Pod waits for it and fails where the registry cannot be reached; install"
    " into the image"
)
IN_EACH_POD = (
    "in each Pod, as Heroku's release phase does once: Pods migrate beside each other, and the code on Heroku meets the new"
    " schema; use a Job, and keep both codes working"
)
ANOTHER_KEY = (
    "so that each Pod has another key than Heroku and than the next Pod: who is signed in on one is signed out on the other;"
    " take the key from Heroku's config vars by a Secret"
)
#: What is looked for, and what is said of it after the command.
_KINDS = (
    (_INSTALLS, AT_EACH_START),
    (_MIGRATES, IN_EACH_POD),
    (_MAKES_KEYS, ANOTHER_KEY),
)


def find(workload: Workload) -> Iterator[str]:
    """Find installing, migrating and making keys in what starts a Pod."""
    for container in (*workload.init_containers, *workload.containers):
        yield from _found(f"container {container.name}", container.commands)
        if after := _after_start(container):
            yield from _found(f"postStart of container {container.name}", after)
            yield (
                f"postStart of container {container.name} runs beside the app, which may get requests before it is done: use an"
                " init container"
            )


def _found(where: str, started_by: tuple[Command, ...]) -> Iterator[str]:
    for pattern, what in _KINDS:
        if found := [command for command in started_by if pattern.search(command.text)]:
            yield f"{where} runs {found[0].short} {what}"


def _after_start(container: Container) -> tuple[Command, ...]:
    hook = ((container.body.get("lifecycle") or {}).get("postStart") or {}).get("exec") or {}
    return commands(tuple(hook.get("command") or ()))


CHECK = audit(
    "start-up",
    "no Pod installs packages, migrates the database or makes keys when it starts, nor by `postStart`",
    find,
)
