"""``offmap serve --check``: what it says of keys, address, limits and store, what it refuses, what it never tells."""

import errno
import re
from types import SimpleNamespace

import pytest

from offmap.cli import run
from offmap.cli.serve import _listening, _run
from offmap.errors import InputError
from offmap.gateway.config import default_gateway
from offmap.gateway.keys import as_toml, as_variable, new_key

FILE = """
[server]
host = "127.0.0.1"
port = {port}
keys = "{keys}"
max_body_bytes = 1234567

[limits]
requests_per_minute = {rate}
turns = 7

[store]
url = "{url}"
"""


class Silent:
    version = "v1"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("offmap.gateway.service.open_monitors", lambda gateway: {"pocket": Silent()})
    monkeypatch.delenv("OFFMAP_GATEWAY_KEYS", raising=False)
    return tmp_path


@pytest.fixture
def check(place, capsys):
    """A function that checks a configuration; what it prints."""

    def checked(*options, code=0, port=8400, keys="", rate=600, url="sqlite:///runs/there/gateway.sqlite"):
        (place / "gateway.toml").write_text(FILE.format(port=port, keys=keys, rate=rate, url=url))
        assert run(["serve", "--config", "gateway.toml", "--check", *options]) == code
        said = capsys.readouterr()
        return " ".join((said.err if code else said.out).split())

    return checked


def test_address_and_limits_are_told(check):
    said = check(port=9000)
    assert "Listens at 127.0.0.1:9000." in said
    assert "600 requests a minute in all; bodies of up to 1,234,567 bytes" in said
    assert "the last 7 messages" in said
    said = check("--host", "::1", "--port", "0", rate=0)
    assert "Listens at [::1], at any port that is free." in said
    assert "any number of requests a minute" in said


def test_keys_are_counted_by_role_and_not_told(check, place, monkeypatch):
    made = [new_key(f"name-{n}", role) for n, role in enumerate(("caller", "caller", "admin"))]
    (place / "keys.toml").write_text("\n".join(as_toml(record) for _, record in made))
    said = check("--host", "0.0.0.0", keys="keys.toml")  # noqa: S104
    assert "API keys: 3 (2 caller, 1 admin); a request without one of them is refused." in said
    assert "with each API key" in said
    assert "NOBODY MAY REVIEW" not in said
    for key, record in made:
        assert not any(secret in said for secret in (key, record.salt, record.sha256))
    (place / "keys.toml").write_text(as_toml(made[0][1]))
    monkeypatch.setenv("OFFMAP_GATEWAY_KEYS", as_variable(made[1][1]))
    assert "API keys: 2 (2 caller)" in check(keys="keys.toml")
    assert "NOBODY MAY REVIEW, without a key of a reviewer or an admin: what is held" in check(keys="keys.toml")


def test_a_secret_that_is_too_short_is_told_by_check_too(check, monkeypatch):
    monkeypatch.setenv("OFFMAP_GATEWAY_SECRET", "short")
    assert "OFFMAP_GATEWAY_SECRET: found 5 characters, wanted 32 or more" in check(code=2)


def test_without_keys_it_says_what_that_means(check):
    assert "No API keys: whoever is on this machine may ask for decisions." in check()
    assert "there are no API keys" in check("--host", "0.0.0.0", code=2)  # noqa: S104


@pytest.mark.parametrize("host", ["", "a b", "999.1.1.1", "x..é"])
def test_a_host_that_is_none_is_refused_by_check_too(check, host):
    said = check("--host", host, code=2)
    assert said.startswith(f"offmap: gateway.toml: server.host: cannot listen at {host!r}: ")
    assert said.endswith("wanted an address of this machine")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:///runs/there/gateway.sqlite", "Decisions are kept in the SQLite file runs/there/gateway.sqlite."),
        ("sqlite:///file:runs/a.db?uri=true", "in the SQLite file runs/a.db."),
        ("postgresql://anna:hunter2@db:5432/offmap", "in the PostgreSQL data base 'offmap' at db."),
        ("postgresql://db/offmap?password=hunter2&user=anna", "in the PostgreSQL data base 'offmap' at db."),
    ],
)
def test_where_decisions_are_kept_is_told_without_the_password_and_nothing_is_made(check, place, url, told):
    if url.startswith("postgresql"):
        pytest.importorskip("psycopg")
    said = check(url=url)
    assert told in said
    assert "hunter2" not in said
    assert "anna" not in said
    assert [path.name for path in place.iterdir()] == ["gateway.toml"]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nonsense", "store: found what is no URL, wanted sqlite:///path or postgresql"),
        ("mysql://anna:hunter2@db/offmap", "found 'mysql', wanted sqlite or postgresql"),
        ("sqlite://", "found no file"),
        ("sqlite:// /x", "found a host or a zero byte"),
        ("sqlite:///a\\u0000b.sqlite", "found a host or a zero byte"),
        (
            "sqlite:///x.sqlite?uri=maybe",
            "found the option uri=maybe, wanted none, uri=true, false or",
        ),
        ("sqlite:///x.sqlite?timeout=abc", "found the option timeout=abc"),
        ("sqlite:///x.sqlite?mode=ro&mode=rw", "found the option mode=('ro', 'rw')"),
        ("postgresql://anna:hunter2@db:port/x", "store: found what is no URL"),
        ("postgresql://anna:hunter2@[::1/x", "store: found what is no URL"),
        ("postgresql://anna:hunter2@db:99999/x", "store: found the port 99999, wanted a number between 1 and 65535"),
        ("sqlite:///gateway.toml/gateway.sqlite", "gateway.toml: found a file, wanted a directory"),
        ("sqlite:///.", "found no file"),
        ("sqlite:////", "found a directory, wanted the name of a file"),
        ("sqlite:////dev/null", "/dev/null: found a device or a pipe, wanted a SQLite data base, or none"),
        ("sqlite:///gateway.toml", "gateway.toml: found a file of another kind, wanted a SQLite data base, or none"),
    ],
)
def test_a_store_that_cannot_be_is_refused(check, url, told):
    said = check(url=url, code=2)
    assert said.startswith("offmap: gateway.toml: ")
    assert told in said
    assert "hunter2" not in said


def test_a_missing_driver_is_told_before_it_is_wanted(check, monkeypatch):
    monkeypatch.setattr("offmap.cli.checks.find_spec", lambda name: None if name == "psycopg" else name)
    assert "wanted: pip install 'offmap[postgres]'" in check(url="postgresql://db/offmap", code=2)


def test_what_is_checked_can_be_served(place, check, monkeypatch):
    """The directory that ``--check`` says can be made is made by serving."""
    opened = []
    monkeypatch.setattr("offmap.cli.serve._run", lambda app, service, listener: opened.append(service))
    (place / "runs/there").mkdir(parents=True)
    (place / "runs/there/gateway.sqlite").touch()  # SQLite makes a data base of an empty file
    check()
    assert run(["serve", "--config", "gateway.toml", "--port", "0"]) == 0
    assert (place / "runs/there/gateway.sqlite").is_file()
    opened[0].log.close()
    opened[0].store.close()


def test_the_place_without_a_configuration_is_that_of_the_audit_commands(place, capsys):
    assert run(["serve", "--check"]) == 0
    told = re.search(r"kept in the SQLite file (\S+)\.\n", capsys.readouterr().out)[1]
    assert run(["audit", "verify"]) == 2
    assert f"{told}: no data base can be read there" in capsys.readouterr().err


def test_where_a_store_was_looked_for_is_told_whole(place, capsys):
    assert run(["audit", "verify", "--store", "sqlite:///trial.sqlite"]) == 2
    assert f"{place / 'trial.sqlite'}: no data base can be read there" in capsys.readouterr().err


def test_a_store_error_at_the_start_is_wrong_input(place, check, capsys):
    (place / "runs/there").mkdir(parents=True)
    (place / "runs/there/gateway.sqlite").write_bytes(b"SQLite format 3\0" + b"and no more" * 1000)
    check()
    assert run(["serve", "--config", "gateway.toml", "--port", "0"]) == 2
    told = capsys.readouterr().err
    assert "gateway.toml: store: " in told
    assert "not a database" in told


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('[server]\nkeys = "none.txt"', "mine.toml: none.txt: "),
        ('[upstream]\nbase_url = "http://a b/v1"', "mine.toml: upstream.base_url: wanted"),
        ('[upstream]\nbase_url = "http://me:hunter2@a/v1"', "mine.toml: upstream.base_url: wanted"),
        ('[upstream]\nbase_url = "http://a/v1?x=1"', "mine.toml: upstream.base_url: wanted"),
        ('[upstream]\nbase_url = "http://a/v1#x"', "mine.toml: upstream.base_url: wanted"),
        ('[monitors.pocket]\nbundle = "gateway.toml"', "monitors.pocket: gateway.toml: found a file, wanted the"),
        ('[upstream]\nbase_url = "http://a:99999/v1"', "a port up to 65535"),
        ('[upstream]\nbase_url = "http://localhost:8400/v1"', "mine.toml: upstream.base_url: found the gateway's own"),
    ],
)
def test_what_a_configuration_asks_for_is_told_with_its_name(place, capsys, table, told):
    (place / "mine.toml").write_text(f"{table}\n")
    (place / "gateway.toml").touch()
    assert run(["serve", "--config", "mine.toml", "--check"]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "hunter2" not in said


def test_what_is_found_wrong_while_opening_names_the_file_that_asks_for_it(place, capsys, monkeypatch):
    monkeypatch.undo()
    monkeypatch.chdir(place)
    (place / "mine.toml").write_text('[monitors.a]\nbundle = "nowhere"\n\n[stages.input]\ncascade = ["a"]\n')
    assert run(["serve", "--config", "mine.toml", "--port", "0"]) == 2
    assert "mine.toml: monitors.a: " in capsys.readouterr().err


def behind(place, base_url, *, port=8499, more=""):
    file = place / "gateway.toml"
    file.write_text(f'[upstream]\nbase_url = "{base_url}"\n{more}\n[server]\nport = {port}\n')
    return ["serve", "--config", str(file), "--check"]


def test_it_says_where_requests_go_and_with_which_key(place, capsys, monkeypatch):
    assert run(behind(place, "http://127.0.0.1:9/v1")) == 0
    assert "asked of http://127.0.0.1:9/v1 with no key" in capsys.readouterr().out
    monkeypatch.setenv("ZEBRA_KEY", "sk-zebra")
    assert run(behind(place, "http://127.0.0.1:9/v1", more='api_key_env = "ZEBRA_KEY"')) == 0
    told = capsys.readouterr().out
    assert "with the key of ZEBRA_KEY" in told
    assert "sk-zebra" not in told


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_gateway_before_itself_is_refused(place, capsys, host):
    assert run(behind(place, f"http://{host}:8499/v1")) == 2
    assert "upstream.base_url: found the gateway's own address" in capsys.readouterr().err
    assert run([*behind(place, f"http://{host}:8499/v1"), "--port", "8498"]) == 0
    assert run([*behind(place, f"http://{host}:8498/v1"), "--port", "8498"]) == 2


def test_an_address_that_is_none_is_told(place, capsys):
    assert run(behind(place, "http://[::1/v1")) == 2
    assert "upstream.base_url: wanted http:// or https://" in capsys.readouterr().err


def test_of_two_gateways_that_start_at_once_the_later_one_is_wrong_input(monkeypatch):
    """Both have the address, and only one may listen there: the server closes what it cannot listen at."""

    def taken(_, sockets):
        sockets[0].close()
        raise OSError(errno.EADDRINUSE, "taken")

    monkeypatch.setattr("uvicorn.Server.run", taken)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    listener = _listening("127.0.0.1", 0)
    address = "http://{}:{}".format(*listener.getsockname())
    with pytest.raises(InputError, match=f"cannot listen at {address}: another process was first"):
        _run(None, SimpleNamespace(gateway=default_gateway()), listener)
