"""The few HTTP calls the stack makes itself, with nothing but the standard library."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from devstack.support import StackError

# How long a server may ask for patience, as it does for a moment after a CRD came.
_PATIENCE_SECONDS = 60.0


class NotFoundError(StackError):
    """There is no such object, or no such kind of objects."""


def fetch(url: str, *, timeout: float = 2.0) -> bytes:
    """Return what a plain HTTP URL answers.

    Parameters
    ----------
    url
        Where to ask.
    timeout
        Seconds to wait for each part of the answer.

    Raises
    ------
    OSError
        When it cannot be reached, or answers other than 2xx.
    """
    with _opener().open(url, timeout=timeout) as answer:
        body: bytes = answer.read()
    return body


def _opener(context: ssl.SSLContext | None = None) -> urllib.request.OpenerDirector:
    # Loopback only: a proxy from the environment would be asked for 127.0.0.1 otherwise.
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


class KubeApi:
    """The Kubernetes API as the holder of a kubeconfig sees it.

    Parameters
    ----------
    kubeconfig
        A file with one cluster and one bearer token, as the stack writes them.
    """

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._url: str = cluster["server"]
        self._kept = threading.local()
        self._plurals: dict[tuple[str, str], tuple[str, bool]] = {}
        self._headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        self._context = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self._opener = _opener(self._context)

    def open(
        self,
        path: str,
        *,
        method: str = "GET",
        body: object = None,
        content_type: str = "application/json",
        timeout: float = 5.0,
    ) -> http.client.HTTPResponse:
        """Send one request and return the open answer, to be read as a stream.

        Parameters
        ----------
        path
            Path and query below the server's address.
        method, body, content_type
            What to send; the body is encoded as JSON.
        timeout
            Seconds to wait for each part of the answer.

        Raises
        ------
        OSError
            When the server cannot be reached, or refuses.
        """
        request = urllib.request.Request(
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers=self._headers | {"Content-Type": content_type},
        )
        answer: http.client.HTTPResponse = self._opener.open(request, timeout=timeout)
        return answer

    def call(self, path: str, *, method: str = "GET", body: object = None) -> Any:
        """Send one request and return the decoded JSON answer.

        Parameters
        ----------
        path, method, body
            As for `open`.

        Raises
        ------
        StackError
            When the API server refuses; the text is its own.
        OSError
            When it cannot be reached.
        """
        if method == "GET" and body is None:
            return self._read(path)
        try:
            with self.open(path, method=method, body=body) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise _refused(method, path, error.read(), error.code) from error

    def merge(self, path: str, body: Mapping[str, Any], field_manager: str) -> None:
        """Merge a patch into an object.

        Parameters
        ----------
        path
            Of the object, below the server's address.
        body
            The fields that change.
        field_manager
            On whose behalf.

        Raises
        ------
        StackError
            When the API server refuses, or cannot be reached.
        """
        options = urllib.parse.urlencode({"fieldManager": field_manager})
        self._patiently("PATCH", f"{path}?{options}", body, "application/merge-patch+json")

    def apply(self, manifest: Mapping[str, Any], field_manager: str) -> None:
        """Apply one object as ``kubectl apply --server-side --force-conflicts`` does, whose start alone computes longer.

        Parameters
        ----------
        manifest
            The object.
        field_manager
            On whose behalf.

        Raises
        ------
        StackError
            When the API server refuses, does not know the kind, or cannot be reached.
        """
        options = urllib.parse.urlencode({"fieldManager": field_manager, "force": "true", "fieldValidation": "Strict"})
        self._patiently("PATCH", f"{self._path(manifest)}?{options}", manifest, "application/apply-patch+yaml")

    def delete(self, manifest: Mapping[str, Any]) -> bool:
        """Have an object deleted, and tell whether there was one.

        Parameters
        ----------
        manifest
            The object; its kind and its name count.

        Raises
        ------
        StackError
            As for `apply`.
        """
        try:
            self._patiently("DELETE", self._path(manifest))
        except NotFoundError:
            return False
        return True

    def lists(self, version: str, plural: str) -> bool:
        """Tell whether the API server lists a kind of objects.

        Parameters
        ----------
        version
            API group and version.
        plural
            The kind's name in paths.
        """
        try:
            return any(found["name"] == plural for found in self._read(f"/apis/{version}")["resources"])
        except NotFoundError:
            return False

    def _path(self, manifest: Mapping[str, Any]) -> str:
        version, kind, metadata = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
        group = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if (version, kind) not in self._plurals:
            try:
                listed = self._read(group)["resources"]
            except OSError as error:
                raise StackError(f"GET {group}: {error}") from error
            for found in listed:
                if "/" not in found["name"]:
                    self._plurals[version, found["kind"]] = found["name"], found["namespaced"]
        if (version, kind) not in self._plurals:
            raise StackError(f"the API server knows no {kind} of {version}")
        plural, namespaced = self._plurals[version, kind]
        place = f"/namespaces/{metadata.get('namespace', 'default')}" if namespaced else ""
        return f"{group}{place}/{plural}/{urllib.parse.quote(metadata['name'])}"

    def _patiently(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> None:
        """Write, and again as long as the server says when to come back, which clients have to heed."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                with self.open(path, method=method, body=body, content_type=content_type, timeout=30.0) as answer:
                    answer.read()
                return
            except urllib.error.HTTPError as error:
                later = error.headers.get("Retry-After")
                if later is None or time.monotonic() > end:
                    raise _refused(method, path, error.read(), error.code) from error
                time.sleep(float(later))
            except OSError as error:
                raise StackError(f"{method} {path}: {error}") from error

    def _read(self, path: str) -> Any:
        """Read over a connection that is kept for the thread's next read: what is polled must not cost handshakes."""
        kept: http.client.HTTPSConnection | None = self._kept.__dict__.pop("connection", None)
        if kept is not None:
            with contextlib.suppress(ConnectionError, http.client.HTTPException):  # closed by the server meanwhile
                return self._ask(kept, path)
        host = urllib.parse.urlsplit(self._url).netloc
        try:
            return self._ask(http.client.HTTPSConnection(host, timeout=30.0, context=self._context), path)
        except http.client.HTTPException as error:
            raise ConnectionError(f"GET {path}: {error!r}") from error

    def _ask(self, connection: http.client.HTTPSConnection, path: str) -> Any:
        try:
            connection.request("GET", path, headers=self._headers)
            answer = connection.getresponse()
            text = answer.read()
        except BaseException:
            connection.close()
            raise
        self._kept.connection = connection
        if answer.status >= 300:
            raise _refused("GET", path, text, answer.status)
        return json.loads(text)


def _refused(method: str, path: str, text: bytes, status: int) -> StackError:
    kind = NotFoundError if status == http.client.NOT_FOUND else StackError
    return kind(f"{method} {path}: {text.decode('utf-8', 'replace').strip()}")
