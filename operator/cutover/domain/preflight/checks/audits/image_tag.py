"""Audit ``image-tag``: the build that is judged is the build that runs later."""

from __future__ import annotations

from collections.abc import Iterator

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.workload import Workload

#: Tags that are moved with each build.
_MOVING = frozenset({"latest", "main", "master", "edge", "nightly", "dev", "develop"})


def find(workload: Workload) -> Iterator[str]:
    """Find a tag that stands for another build tomorrow."""
    app = workload.app
    if not app.image or "@" in app.image:
        return
    _, _, tag = app.image.rsplit("/", 1)[-1].partition(":")
    if (tag or "latest") in _MOVING:
        yield (
            f"image {app.image} may be another build tomorrow, and on each node: a Pod that restarts in a step runs code that"
            " nobody judged; name a version or a digest"
        )


CHECK = audit("image-tag", "the app's image has a tag of its own build, or a digest", find)
