"""The API keys: from the Secret that a plan names, or from the operator's own files by namespace."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from cutover.adapters.heroku.client import HerokuClient
from cutover.adapters.kube.client import Cluster
from cutover.adapters.secret_files import CredentialsError, read_secret
from cutover.domain.heroku import HerokuApp
from cutover.domain.plan import Plan
from cutover.domain.resources import SECRETS
from cutover.ports.errors import Conflict, Gone, Unavailable


class KeyedHerokuApi:
    """:class:`cutover.ports.heroku.HerokuApi` with the key of each plan. Keys are read at each use, as they are rotated.

    Parameters
    ----------
    client
        Asks Heroku.
    cluster
        The API server, for Secrets.
    files
        The operator's own keys: files by patterns of namespaces, with ``*`` and ``?``. The first that fits is used.
    """

    def __init__(self, client: HerokuClient, cluster: Cluster, files: Mapping[str, Path]) -> None:
        self._client, self._cluster, self._files = client, cluster, dict(files)

    def has_key(self, plan: Plan) -> bool:
        """Tell whether there is a key for the plan."""
        return plan.spec.heroku.api_key_secret_ref is not None or self._file(plan) is not None

    async def app(self, plan: Plan) -> HerokuApp:
        """Return the plan's app. Raises Unavailable."""
        return await self._client.app(plan.spec.heroku.app, await self._key(plan))

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
