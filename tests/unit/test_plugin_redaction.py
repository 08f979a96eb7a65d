"""Nothing secret in a bundle for support."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from cutover.cli.redaction import HIDDEN, redacted, redacted_text
from cutover.cli.support_bundle import about

BODY: dict[str, Any] = {
    "kind": "Deployment",
    "metadata": {
        "name": "pdf",
        "managedFields": [{"manager": "x"}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{S3CRET}", "team": "docs"},
    },
    "data": {"a": "S3CRET"},
    "stringData": {"a": "S3CRET"},
    "spec": {
        "template": {
            "spec": {
                "automountServiceAccountToken": False,
                "containers": [
                    {
                        "name": "app",
                        "env": [
                            {"name": "DATABASE_URL", "value": "postgres://S3CRET@db/x"},
                            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "api"}}},
                        ],
                        "args": ["--dsn=postgres://me:S3CRET@db/x", "Authorization: Bearer S3CRETS3CRET"],
                        "readinessProbe": {"httpGet": {"httpHeaders": [], "path": "/healthz"}},
                    }
                ],
            }
        },
        "heroku": {"apiKeySecretRef": {"name": "heroku", "key": "api-key"}},
        "traffic": {
            "preview": {
                "header": {"name": "x-try-eks", "value": "S3CRET"},
                "cookie": {"name": "eks", "value": "S3CRET"},
            },
            "probe": {"headers": {"x-api-key": "S3CRET"}, "paths": ["/"]},
            "affinity": {"cookie": {"name": "cutover"}},
        },
        "http": [{"match": [{"headers": {"x-cutover-probe": {"exact": "S3CRET"}}}]}],
        "password": "S3CRET",
        "apiToken": "S3CRET",
    },
}


def test_no_value_that_may_be_secret_stays() -> None:
    text = yaml.safe_dump(redacted(BODY))
    assert "S3CRET" not in text
    for name in (
        "DATABASE_URL",
        "secretKeyRef",
        "heroku",
        "api-key",
        "x-try-eks",
        "x-cutover-probe",
        "/healthz",
        "docs",
    ):
        assert name in text, "who helps needs the names"
    assert "managedFields" not in text
    assert "managedFields" in BODY["metadata"], "the object itself is left alone"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("GET https://me:pw@prometheus/api failed", f"GET https://{HIDDEN}@prometheus/api failed"),
        ("authorization: Bearer abcdefgh12345", "authorization: Bearer …"),
        ("plain text at 10:00:00 https://host/path", "plain text at 10:00:00 https://host/path"),
    ],
)
def test_lines(line: str, shown: str) -> None:
    assert redacted_text(line) == shown


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ('2027-01-11T10:00:00Z {"event": "decision", "plan": "shop/pdf"}', True),
        ('{"event": "decision", "plan": "shop/other"}', False),
        ('{"event": "started"}', True),
        ("Traceback (most recent call last):", True),
        ("{broken", True),
    ],
)
def test_others_plans_are_left_out_of_the_log(line: str, kept: bool) -> None:
    assert about(line, "shop/pdf") is kept
