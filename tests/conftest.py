"""What all tests share."""

from __future__ import annotations

import gc
import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.kit.budgets", "tests.kit.virtual_time"]

# How long an example takes says more about the machine than about the code.
settings.register_profile("shared machines", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", parent=settings.get_profile("shared machines"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS", "shared machines"))


def pytest_collection_finish() -> None:
    """Have the garbage collector look at what the tests make only, and not so often: it took a tenth of their time.

    Processes that are forked (:func:`tests.kit.kill_matrix.branched`) share what it leaves alone.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
