"""One pair of demo legs for all tests of this folder; each test gets its own app."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demoapps.apps import DemoApps

#: Short, so that H12 can be waited for.
H12_S = 0.6


@pytest.fixture(scope="package")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoApps]:
    """Two apps on either side; `pdf` has a custom domain too."""
    started = DemoApps(
        tmp_path_factory.mktemp("demoapps"),
        heroku_apps={
            "pdf": ["acme-pdf-1a2b3c.herokuapp.com", "pdf.acme.example", "*.pdf.acme.example"],
            "images": ["acme-images-4d5e6f.herokuapp.com", "images.acme.example"],
        },
        eks_services=["pdf", "images"],
        metrics_names={"images": "pictures"},
        h12_s=H12_S,
        seed=1,
    )
    with started:
        yield started


@pytest.fixture(autouse=True)
def _well(apps: DemoApps) -> Iterator[None]:
    """Leave the apps as they were."""
    yield
    for app in ("pdf", "images"):
        apps.knobs("eks", app).reset()
        apps.knobs("heroku", app).reset()
