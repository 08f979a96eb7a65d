"""The API keys: from the Secret that a plan names, or from the operator's own files by namespace."""

from __future__ import annotations

import base64
import binascii
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from cutover.adapters.heroku.client import HerokuClient
from cutover.adapters.kube.client import Cluster
from cutover.adapters.secret_files import CredentialsError, read_secret
from cutover.domain.heroku import HerokuApp, Release
from cutover.domain.plan import Plan
from cutover.domain.resources import SECRETS
from cutover.ports.errors import Conflict, Gone, Unavailable

T = TypeVar("T")

#: Seconds after which a key is read again, and keys that are kept.
KEY_SECONDS, MOST_KEYS = 300.0, 5000


class KeyedHerokuApi:
    """:class:`cutover.ports.heroku.HerokuApi` with the key of each plan.

    Keys are rotated: one is read again after some minutes, and when Heroku does not answer with it.

    Parameters
    ----------
    client
        Asks Heroku.
    cluster
        The API server, for Secrets.
    files
        The operator's own keys: files by patterns of namespaces, with ``*`` and ``?``. The first that fits is used.
    now
        Returns monotonic seconds.
    """

    def __init__(
        self,
        client: HerokuClient,
        cluster: Cluster,
        files: Mapping[str, Path],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._cluster, self._files, self._now = client, cluster, dict(files), now
        self._keys: OrderedDict[tuple[str, ...], tuple[str, float]] = OrderedDict()

    def has_key(self, plan: Plan) -> bool:
        """Tell whether there is a key for the plan."""
        return plan.spec.heroku.api_key_secret_ref is not None or self._file(plan) is not None

    async def app(self, plan: Plan) -> HerokuApp:
        """Return the plan's app. Raises Unavailable."""
        values = plan.spec.preflight.config.compare_values
        return await self._with_key(plan, lambda key: self._client.app(plan.spec.heroku.app, key, values=values))

    async def releases(self, plan: Plan) -> tuple[Release, ...]:
        """Return the newest releases of the plan's app. Raises Unavailable."""
        return await self._with_key(plan, lambda key: self._client.releases(plan.spec.heroku.app, key))

    def pace(self, plan: Plan) -> float:
        """Return how many times as seldom as usual to ask, by what the key's account has left."""
        known = self._keys.get(self._source(plan))
        return self._client.pace(known[0]) if known is not None else 1.0

    async def _with_key(self, plan: Plan, ask: Callable[[str], Awaitable[T]]) -> T:
        source = self._source(plan)
        key, read_at = self._keys.get(source, ("", -math.inf))
        if self._now() - read_at > KEY_SECONDS:
            key = await self._key(plan)
            self._keys[source] = key, self._now()
            self._keys.move_to_end(source)
            while len(self._keys) > MOST_KEYS:
                self._keys.popitem(last=False)
        try:
            return await ask(key)
        except Unavailable:
            # It may have been rotated. The pace stays known.
            self._keys[source] = key, -math.inf
            raise

    def _source(self, plan: Plan) -> tuple[str, ...]:
        """Return where the plan's key is."""
        reference = plan.spec.heroku.api_key_secret_ref
        if reference is not None:
            return plan.namespace, reference.name, reference.key
        return (str(self._file(plan)),)

    async def _key(self, plan: Plan) -> str:
        reference = plan.spec.heroku.api_key_secret_ref
        if reference is None:
            file = self._file(plan)
            if file is None:
                raise Unavailable("there is no key for Heroku's API")
            try:
                return read_secret(file, "Heroku API key")
            except CredentialsError as problem:
                raise Unavailable(str(problem)) from None
        where = f"Secret {reference.name} (heroku.apiKeySecretRef)"
        try:
            secret = await self._cluster.get(SECRETS, plan.namespace, reference.name)
        except Gone:
            raise Unavailable(f"{where} does not exist") from None
        except Conflict as conflict:
            raise Unavailable(f"{where}: {conflict}") from None
        encoded = (secret.get("data") or {}).get(reference.key)
        if encoded is None:
            raise Unavailable(f"{where} has no key {reference.key}")
        try:
            key = base64.b64decode(encoded, validate=True).decode("ascii").strip()
        except (binascii.Error, ValueError):
            key = ""
        if not key or not key.isprintable() or " " in key:
            raise Unavailable(f"{where}: {reference.key} is no API key: one line of ASCII characters is needed")
        return key

    def _file(self, plan: Plan) -> Path | None:
        return next((file for pattern, file in self._files.items() if fnmatchcase(plan.namespace, pattern)), None)
