"""What end-to-end tests share: the embedded backbone, a small generated suite, one monitor fitted on it."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest


@pytest.fixture(scope="session")
def small_suite():
    from offmap.suites.procedural import load

    return load(
        train_helpful=480,
        train_harmless=240,
        train_function_calling=480,
        test_in_distribution=120,
        test_failures=20,
        test_shift=20,
    )


@pytest.fixture(scope="session")
def pocket(tmp_path_factory):
    from offmap.backbones import BackboneSource, open_backbone
    from offmap.feature_store import Cached

    return Cached(open_backbone(BackboneSource()), tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="session")
def monitor(small_suite, pocket):
    from offmap.monitor import DEFAULT_DETECTORS, Monitor

    return Monitor.fit(pocket, DEFAULT_DETECTORS, small_suite.train)


@pytest.fixture(scope="session")
def outcome(small_suite, pocket):
    from offmap.bench import run

    return run(small_suite, pocket)
