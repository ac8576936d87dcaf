import re
import tomllib

import msgspec
import pytest

from offmap.errors import InputError
from offmap.gateway.config import Gateway, Step, default_gateway, parse_gateway, read_gateway
from offmap.gateway.consistency import contradictions
from offmap.gateway.decision import STAGES

WHOLE = """
name = "ours"
[server]
host = "0.0.0.0"
port = 9000
[monitors.pocket]
bundle = "pocket"
timeout_ms = 100
[monitors.big]
bundle = "bundles/big"
[monitors.judge]
judge = {file = "judges.toml", name = "mini", safe_scores = "mini.json"}
[stages.response]
cascade = ["pocket", {monitor = "big", unsafe = [0.001, 0.2]}, "judge"]
tier = "strict"
percent = 12.5
on_error = "allow"
reason = "the chat is read by staff only"
fallback = "partial"
[stages.response.actions]
unsafe = "modify"
[limits]
turns = 3
[audit]
capture = "redacted"
[store]
url = "postgresql://db/offmap"
[review]
timeout_s = 60
"""


def test_a_whole_file_is_read_as_written(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text(WHOLE)
    found = read_gateway(path)
    stage = found.stages["response"]
    assert (found.name, found.server.port, found.monitors["pocket"].timeout_ms) == ("ours", 9000, 100)
    assert stage.steps == (Step("pocket"), Step("big", unsafe=(0.001, 0.2)), Step("judge"))
    assert (stage.tier, stage.percent, stage.actions.unsafe, stage.actions.unknown) == (
        "strict",
        12.5,
        "modify",
        "escalate",
    )
    assert (found.limits.turns, found.audit.capture, found.store.url) == (3, "redacted", "postgresql://db/offmap")
    assert found.monitors["pocket"].bundle == "pocket"
    assert found.monitors["big"].bundle == str(tmp_path / "bundles/big")
    assert found.monitors["judge"].judge.file == str(tmp_path / "judges.toml")
    assert found.monitors["judge"].judge.safe_scores == str(tmp_path / "mini.json")


def test_without_a_file_everything_fails_closed_on_loopback():
    gateway = default_gateway()
    assert parse_gateway({}) == gateway
    assert list(contradictions(gateway)) == []
    assert set(gateway.stages) == set(STAGES)
    assert gateway.server.host == "127.0.0.1"
    assert (gateway.audit.capture, gateway.audit.on_error, gateway.review.default) == ("none", "block", "block")
    for stage in gateway.stages.values():
        assert (stage.tier, stage.mode, stage.percent, stage.on_error) == ("balanced", "enforce", 100, "block")
        assert stage.actions.unscored == stage.actions.unsafe == "block"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nprt = 1", "server.prt: found an unknown name, wanted one of host, port"),
        ("[server]\nprt = 1", "did you mean 'port'?"),
        ("[server]\nport = 'x'", "server.port: found 'x', wanted int"),
        ("[server]\nport = 70000", "server.port: found 70000, wanted int <= 65535"),
        ("[server]\nport = true", "server.port: found True, wanted int"),
        ("[server]\nmax_body_bytes = 2000000000", "server.max_body_bytes: found 2000000000, wanted int <= 1073741824"),
        ("[server]\ndrain_s = inf", "server.drain_s: found inf, wanted a finite number"),
        ("[limits]\nexpiry_s = inf", "limits.expiry_s: found inf, wanted a finite number"),
        ("[limits]\ndeadline_ms = 1e-9", "limits.deadline_ms: found 1e-09, wanted float >= 1.0"),
        ("[limits]\nmax_wait_ms = nan", "limits.max_wait_ms: found nan, wanted a finite number"),
        ("server = 3", "server: found 3, wanted a table"),
        ("monitors = 3", "monitors: found 3, wanted a table"),
        ("[monitors.p]\nbundel = 'pocket'", "monitors.p.bundel: found an unknown name"),
        ("[monitors.p]\njudge = 3", "monitors.p.judge: found 3, wanted a table"),
        ("[monitors.p.judge]\nfile = 'x'", "monitors.p.judge.name: found none, wanted a value"),
        ("[stages.respons]\ncascade = []", "stages.respons: found an unknown name, wanted one of input, response"),
        ("[stages.response]\ntier = 'strict'", "stages.response.cascade: found none, wanted a value"),
        ("[stages.response]\ncascade = [3]", "stages.response.cascade[0]: found 3, wanted a name or a table"),
        (
            "[stages.response]\ncascade = ['p', {monitor = 'p', unsafe = [0.1, 2]}]",
            "stages.response.cascade[1].unsafe: found [0.1, 2], wanted two p-values between 0 and 1",
        ),
        (
            "[stages.response]\ncascade = ['p']\ntier = 'blanced'",
            "stages.response.tier: found 'blanced', wanted one of observe, balanced, strict; did you mean 'balanced'?",
        ),
        (
            "[stages.response]\ncascade = ['p']\nactions = {unsafe = 'stop'}",
            "stages.response.actions.unsafe: found 'stop', wanted one of allow, modify, escalate, block",
        ),
    ],
)
def test_an_error_names_the_file_the_field_what_was_found_and_what_is_wanted(text, said):
    with pytest.raises(InputError) as raised:
        parse_gateway(tomllib.loads(text))
    assert str(raised.value).startswith("gateway.toml: ")
    assert said in str(raised.value)


def test_an_error_names_the_file_by_its_path(tmp_path):
    file = tmp_path / "gateway.toml"
    for text in ("[server]\nport = 99999", "[stages.response]\ncascade = ['nobody']", "nonsense"):
        file.write_text(text)
        with pytest.raises(InputError, match=f"^{re.escape(str(file))}: "):
            read_gateway(file)


@pytest.mark.parametrize(
    ("table", "field", "most"),
    [("server", "max_depth", 128), ("limits", "max_windows", 10**9), ("audit", "keep_days", 36_500)],
)
def test_numbers_beyond_what_can_be_done_are_refused(table, field, most):
    assert parse_gateway({table: {field: most}})
    with pytest.raises(InputError, match=f"{table}.{field}: found {most + 1}"):
        parse_gateway({table: {field: most + 1}})


def test_files_that_are_none(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_gateway(tmp_path / "no.toml")
    (tmp_path / "bad.toml").write_text("[server")
    with pytest.raises(InputError, match="no TOML"):
        read_gateway(tmp_path / "bad.toml")
    (tmp_path / "contradicts.toml").write_text("[stages.response]\ncascade = ['pockt']")
    with pytest.raises(InputError, match=r"contradicts.toml: stages.response.cascade\[0\]: found 'pockt'"):
        read_gateway(tmp_path / "contradicts.toml")


@pytest.mark.parametrize(
    ("raw", "line", "column"),
    [
        (b"[server]\nport = \x01", 2, 8),
        (b'name = "a"\n\n[server]\n[server]\n', 4, 8),
        (b"[server", 1, 8),
        (b"[server]\nport = ", 2, 8),
        (b"[server]\nport = 1\nport = 2", 3, 9),
        ("[server]\r\nhost = 'é".encode(), 2, 10),
        (b'name = """\none\n', 3, 1),
        ("name = 'é'\nhost = 'ü\xff'".encode().replace(b"\xc3\xbf", b"\xff"), 2, 10),
    ],
)
def test_what_is_no_toml_is_told_with_its_place(tmp_path, raw, line, column):
    path = tmp_path / "bad.toml"
    path.write_bytes(raw)
    with pytest.raises(InputError) as raised:
        read_gateway(path)
    assert str(raised.value).startswith(f"{path}: no TOML: ")
    assert f"(at line {line}, column {column}" in str(raised.value)


def test_what_was_built_is_what_msgspec_would_convert():
    tables = tomllib.loads(WHOLE)
    assert parse_gateway(tables) == msgspec.convert(tables, Gateway, strict=True)


def test_a_file_with_a_mark_of_its_byte_order_is_read(tmp_path):
    (tmp_path / "gateway.toml").write_bytes(b"\xef\xbb\xbfname = 'marked'\n")
    assert read_gateway(tmp_path / "gateway.toml").name == "marked"
