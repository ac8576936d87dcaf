import os
import re
import stat

import pytest

from offmap.cli import run
from offmap.gateway.keys import KEYS_VARIABLE, load_keys

KEY = re.compile(r"^offmap_[\w-]{43}$", re.MULTILINE)


def made(capsys, *arguments):
    """The key that a command showed, and all that it said."""
    assert run(["key", *arguments]) == 0
    told = capsys.readouterr().out
    (key,) = KEY.findall(told)
    return key, told


def test_the_file_has_hashes_of_what_was_shown_and_is_its_owner_s(tmp_path, capsys):
    place = tmp_path / "new" / "keys.toml"
    old = os.umask(0)
    try:
        keys = {role: made(capsys, role, "--role", role, "--file", str(place))[0] for role in ("reviewer", "admin")}
    finally:
        os.umask(old)
    known = load_keys(place, {})
    assert [(each.name, each.role) for each in known.records] == [("reviewer", "reviewer"), ("admin", "admin")]
    for role, key in keys.items():
        assert known.verify(key).role == role
        assert key not in place.read_text()
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert sorted(each.name for each in place.parent.iterdir()) == ["keys.toml"]


def test_what_was_in_the_file_stays_and_a_link_stays_one(tmp_path, capsys):
    place, link = tmp_path / "keys.toml", tmp_path / "link.toml"
    made(capsys, "anna", "--role", "reviewer", "--file", str(place))
    before = "# ours\n" + place.read_text().rstrip("\n")
    place.write_text(before)
    place.chmod(0o644)
    link.symlink_to(place)
    made(capsys, "ben", "--role", "caller", "--file", str(link))
    assert link.is_symlink()
    assert place.read_text().startswith(before + "\n")
    assert [each.name for each in load_keys(place, {}).records] == ["anna", "ben"]
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_without_a_file_it_is_told_as_the_environment_has_it(capsys):
    key, told = made(capsys, "robot", "--role", "caller")
    (line,) = [line for line in told.splitlines() if line.startswith(f"{KEYS_VARIABLE}=")]
    assert load_keys(None, {KEYS_VARIABLE: line.partition("=")[2]}).verify(key).name == "robot"


def test_a_name_that_is_taken_is_refused_and_nothing_changes(tmp_path, capsys):
    place = tmp_path / "keys.toml"
    made(capsys, "anna", "--role", "reviewer", "--file", str(place))
    before = place.read_bytes()
    assert run(["key", "anna", "--role", "admin", "--file", str(place)]) == 2
    told = capsys.readouterr()
    assert "'anna' is in use" in told.err
    assert not KEY.search(told.out)
    assert place.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "arguments"),
    [
        ("[[keys]]\nname = 3\n", ()),
        ("not toml", ()),
        ("[server]\nport = 1\n", ()),
        (b"\xff", ()),
        (None, ("a b",)),
        (None, ("",)),
        (None, ("anna", "--role", "owner")),
    ],
)
def test_wrong_input_is_told_and_makes_no_key(tmp_path, capsys, content, arguments):
    place = tmp_path / "keys.toml"
    if content is not None:
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
    given = arguments or ("anna",)
    role = () if "--role" in given else ("--role", "reviewer")
    assert run(["key", *given, *role, "--file", str(place)]) == 2
    assert not KEY.search(capsys.readouterr().out)
    assert place.exists() == (content is not None)


def test_a_role_is_wanted(capsys):
    assert run(["key", "anna"]) == 2
    assert "role" in capsys.readouterr().err
