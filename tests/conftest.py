"""What end-to-end tests share: the embedded backbone, a small generated suite, one monitor fitted on it, a browser."""

import os
import shutil
import subprocess

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest

QUIET = (
    "headless no-sandbox disable-gpu disable-background-networking disable-component-update disable-sync no-first-run"
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where OFFMAP_SKIP_NOTHING is set a test that is skipped has failed: what it needs was to be there."""
    return failed_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """The same for a whole file."""
    return failed_if_skipped((yield))


def failed_if_skipped(report):
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("OFFMAP_SKIP_NOTHING"):
        report.outcome, report.longrepr = "failed", f"skipped, and nothing may be: {report.longrepr}"
    return report


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


@pytest.fixture(scope="session")
def browse(tmp_path_factory):
    """A function that opens an address in headless Chromium: what its page has become, and what it complained of."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
    if chromium is None:
        pytest.skip("no Chromium: no page was opened in a browser")

    def opened(address, *, milliseconds, width=1280):
        command = [chromium, *(f"--{flag}" for flag in QUIET.split()), f"--virtual-time-budget={milliseconds}"]
        command += [f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--enable-logging=stderr", "--v=0"]
        command += [f"--window-size={width},1000", "--dump-dom", address]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)

    return opened
