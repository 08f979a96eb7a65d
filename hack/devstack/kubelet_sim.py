"""Stands in for kubelets: reports every pod as running and ready, so that Deployments become available.

A pod whose label or annotation ``devstack.cutover.dev/ready`` is ``"false"`` stays unready, also when
it is set later. Pods get no IP address, so Services have no endpoints from them: what answers for
them on loopback is a WorkloadEntry.
"""

from __future__ import annotations

import datetime as dt
import http.client
import json
import sys
import time
from pathlib import Path
from typing import Any

from devstack.api import KubeApi

_READY = "devstack.cutover.dev/ready"
_RETRY_SECONDS = 0.5
_WATCH_SECONDS = 300


def main() -> None:
    """Watch all pods, with the kubeconfig named on the command line, until killed."""
    api = KubeApi(Path(sys.argv[1]))
    while True:
        try:
            _list_and_watch(api)
        except (OSError, ValueError, http.client.HTTPException) as error:
            # The API server is away at times on purpose; the next list catches up.
            print(f"kubelet-sim: {error}", flush=True)
            time.sleep(_RETRY_SECONDS)


def _list_and_watch(api: KubeApi) -> None:
    with api.open("/api/v1/pods") as answer:
        pods = json.load(answer)
    for pod in pods["items"]:
        _settle(api, pod)
    version = pods["metadata"]["resourceVersion"]
    path = f"/api/v1/pods?watch=1&resourceVersion={version}&timeoutSeconds={_WATCH_SECONDS}"
    with api.open(path, timeout=_WATCH_SECONDS + 10) as events:
        for line in events:
            event = json.loads(line)
            if event["type"] == "ERROR":
                return
            if event["type"] in {"ADDED", "MODIFIED"}:
                _settle(api, event["object"])


def _settle(api: KubeApi, pod: dict[str, Any]) -> None:
    meta = pod["metadata"]
    if meta.get("deletionTimestamp"):
        return
    marks = meta.get("labels", {}) | meta.get("annotations", {})
    ready = "False" if marks.get(_READY) == "false" else "True"
    status = pod.get("status", {})
    seen = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
    if seen.get("Ready") == ready and status.get("phase") == "Running":
        return
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = {"PodScheduled": "True", "Initialized": "True", "ContainersReady": ready, "Ready": ready}
    body = {
        "status": {
            "phase": "Running",
            "startTime": status.get("startTime", now),
            "conditions": [
                {"type": kind, "status": value, "lastTransitionTime": now} for kind, value in conditions.items()
            ],
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": container["image"],
                    "ready": ready == "True",
                    "started": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": now}},
                }
                for container in pod["spec"]["containers"]
            ],
        }
    }
    path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
    try:
        api.open(path, method="PATCH", body=body, content_type="application/merge-patch+json").close()
    except OSError as error:
        # Gone or changed meanwhile: its next event brings us back here.
        print(f"kubelet-sim: {meta['namespace']}/{meta['name']}: {error}", flush=True)


if __name__ == "__main__":
    main()
