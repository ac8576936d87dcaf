"""Where a command is to write is looked at before any work is done."""

import os

import pytest

from offmap.cli import run
from offmap.cli.checks import require_directory, require_file
from offmap.errors import InputError


def test_a_place_that_is_free_is_left_as_it_is(tmp_path, monkeypatch):
    require_directory(tmp_path, "a.json")
    require_directory(tmp_path / "new" / "deeper", "a.json")
    require_file(tmp_path / "new" / "a.json")
    (tmp_path / "a.json").write_text("old")
    require_directory(tmp_path, "a.json")
    require_file(tmp_path / "a.json")
    monkeypatch.chdir(tmp_path)
    require_file(type(tmp_path)("a.json"))
    require_directory(type(tmp_path)("new"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_is_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "directory" / "a.json").mkdir(parents=True)
    for place in (tmp_path / "file", tmp_path / "file" / "x" / "y"):
        with pytest.raises(InputError, match=r"/file: found a file, wanted a directory or a new name"):
            require_directory(place)
    with pytest.raises(InputError, match=r"/file: found a file, wanted a directory"):
        require_file(tmp_path / "file" / "a.json")
    with pytest.raises(InputError, match=r"directory/a\.json: found a directory, wanted the name of a file"):
        require_directory(tmp_path / "directory", "b.json", "a.json")
    with pytest.raises(InputError, match=r"directory: found a directory, wanted the name of a file"):
        require_file(tmp_path / "directory")


def test_a_closed_place_is_told(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir(mode=0o500)
    if os.geteuid() == 0:  # to whom nothing is closed
        monkeypatch.setattr(
            "offmap.cli.checks.access", lambda at, mode: at.exists() and at.stat().st_mode >> 6 & mode == mode
        )
    with pytest.raises(InputError, match="may not be written to"):
        require_directory(tmp_path / "closed" / "new")


def nothing(*_, **__):
    raise AssertionError("work was done before the place was looked at")


@pytest.mark.parametrize("taken", ["file", "file/out", "out"])
@pytest.mark.parametrize(
    ("command", "work"),
    [
        (["bench"], "offmap.suites.load"),
        (["bench", "--recipe", "reference"], "offmap.suites.load"),
        (["pairs", "bench"], "offmap.cli.pairs_bench.PairedOptions.load"),
        (["pairs", "transfer"], "offmap.cli.pairs.generated"),
        (["ablate"], "offmap.suites.load"),
        (["scaling", "--family", "pocket", "--family", "nowhere"], "offmap.suites.load"),
    ],
)
def test_no_work_is_done_for_a_place_that_is_taken(command, work, taken, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("mine")
    for name in ("report.html", "analysis.json", "scores.parquet", "transfer.md", "ablation.json", "scaling.svg"):
        (tmp_path / "out" / name).mkdir(parents=True)
    monkeypatch.setattr(work, nothing)
    assert run([*command, "--out", str(tmp_path / taken)]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert ("wanted the name of a file" if taken == "out" else "/file: found a file, wanted a directory") in told
