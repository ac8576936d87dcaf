"""The rule of continuous integration: what is skipped has failed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = {
    "in a test": "import pytest\ndef test_a():\n    pytest.skip('no x')\n",
    "in a fixture": "import pytest\n@pytest.fixture\ndef x():\n    pytest.skip('no x')\ndef test_a(x):\n    pass\n",
    "a whole file": "import pytest\npytest.importorskip('no_such_package')\ndef test_a():\n    pass\n",
    "what fails as it should": "import pytest\n@pytest.mark.xfail\ndef test_a():\n    assert 0\n",
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("rule", ["1", ""])
def test_what_is_skipped_has_failed_where_nothing_may_be(tmp_path, file, rule):
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(FILES[file])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(command, env=os.environ | {"OFFMAP_SKIP_NOTHING": rule}, capture_output=True, check=False)
    skipped = rule and file != "what fails as it should"
    assert (done.returncode in (1, 2)) == bool(skipped), done.stdout.decode()
