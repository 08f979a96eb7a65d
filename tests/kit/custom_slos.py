"""Custom SLOs as a plan's ``gates.slos`` has them: a bound, a ratio, and one that comes from a template."""

from __future__ import annotations

from typing import Any

from cutover.api.v1alpha1.templates import Template, from_object

ERRORS: dict[str, Any] = {"name": "errors", "errors": {}}
BOUND: dict[str, Any] = {
    "name": "throttling",
    "bound": {
        "query": 'throttled_ratio{namespace="{{ namespace }}"}',
        "max": 0.25,
        "for": "30s",
        "scrapeInterval": "5s",
    },
}
RATIO: dict[str, Any] = {
    "name": "checkout",
    "ratio": {
        "bad": 'checkout_total{leg="{{ leg }}",result="failed"}',
        "total": 'checkout_total{leg="{{ leg }}"}',
        "scrapeInterval": "5s",
    },
}
FROM_TEMPLATE: dict[str, Any] = {
    "name": "throttling",
    "template": {"name": "cpu-throttling", "parameters": [{"name": "container", "value": "web"}]},
}
TEMPLATE = "ClusterGateTemplate/cpu-throttling"


def template(limit: float, generation: int = 1) -> Template:
    """Return the template, with the most that its bound allows."""
    found = from_object(
        {
            "metadata": {"name": "cpu-throttling", "generation": generation},
            "spec": {
                "description": "CPU limits stop the app while its dashboards are green.",
                "parameters": [{"name": "container", "type": "String"}],
                "bound": {
                    "query": 'throttled_ratio{container="{{ container }}"}',
                    "max": str(limit),
                    "for": "30s",
                    "scrapeInterval": "5s",
                },
            },
        }
    )
    assert isinstance(found, Template), found
    return found


def gates_of(*slos: dict[str, Any]) -> dict[str, Any]:
    """Return a plan's ``gates``: errors, and these SLOs."""
    return {"block": "5s", "warmUp": "5s", "slos": [ERRORS, *slos]}
