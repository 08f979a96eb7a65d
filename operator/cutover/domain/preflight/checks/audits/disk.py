"""Audit ``disk``: what the app writes has a place."""

from __future__ import annotations

from collections.abc import Iterator

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.workload import Workload


def find(workload: Workload) -> Iterator[str]:
    """Find a file system that is read-only, with no place for temporary files."""
    app = workload.app
    if not (app.body.get("securityContext") or {}).get("readOnlyRootFilesystem"):
        return
    mounts = [str(one.get("mountPath")) for one in app.body.get("volumeMounts") or ()]
    if not any(path.rstrip("/") in ("/tmp", "/var/tmp", "") for path in mounts):  # a path in the Pod
        yield (
            f"container {app.name} has a read-only file system and no volume at /tmp: uploads and temporary files, which a dyno"
            " takes, fail; mount an emptyDir at /tmp"
        )


CHECK = audit("disk", "the app's container can write to `/tmp`", find)
