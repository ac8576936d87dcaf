"""API keys: shown once, kept hashed, compared over all records; without keys the gateway stays on loopback."""

import hashlib
import hmac

import pytest

from offmap.errors import InputError
from offmap.gateway import keys as module
from offmap.gateway.keys import KEYS_VARIABLE, ROLES, Keys, as_toml, as_variable, load_keys, new_key, require_closed


@pytest.fixture
def three():
    made = [new_key(role, role) for role in ROLES]
    return {record.name: (key, record) for key, record in made}, Keys(tuple(record for _, record in made))


def test_a_key_opens_its_record_and_nothing_else_does(three):
    made, keys = three
    for key, record in made.values():
        assert keys.verify(key) is record
        assert record.sha256 == hashlib.sha256(bytes.fromhex(record.salt) + key.encode()).hexdigest()
        for wrong in (
            "",
            key[:-1],
            key + "x",
            key.upper(),
            record.sha256,
            f" {key}",
            "\ud800",
            "é",
            key + "\0",
            key * 9,
        ):
            assert keys.verify(wrong) is None
    assert Keys().verify("") is None


def test_keys_are_long_and_never_the_same():
    first, second = new_key("a", "caller"), new_key("a", "caller")
    assert first[0] != second[0]
    assert first[1].salt != second[1].salt
    assert len(first[0]) >= 43


@pytest.mark.parametrize("place", [0, 1, 2, None])
def test_every_record_is_compared_whichever_matches(three, place, monkeypatch):
    made, keys = three
    seen, compare_digest = [], hmac.compare_digest

    def compare(first, second):
        seen.append(second)
        return compare_digest(first, second)

    monkeypatch.setattr(module.hmac, "compare_digest", compare)
    keys.verify("wrong" if place is None else list(made.values())[place][0])
    assert seen == [record.sha256 for record in keys.records]


def test_no_key_in_what_is_shown(three):
    made, keys = three
    for key, record in made.values():
        shown = repr(record) + str(record) + repr(keys) + as_toml(record) + as_variable(record)
        assert key not in shown
        assert key.removeprefix("offmap_") not in shown
        assert record.sha256 not in repr(keys) + f"{record}"
        assert record.salt not in repr(keys) + f"{record}"


def test_roles(three):
    made, _ = three
    may = {name: [role for role in ROLES if record.may(role)] for name, (_, record) in made.items()}
    assert may == {"caller": ["caller"], "reviewer": ["reviewer"], "admin": list(ROLES)}


def test_records_come_back_from_file_and_environment(three, tmp_path):
    made, keys = three
    path = tmp_path / "keys.toml"
    path.write_text("".join(as_toml(record) for record in keys.records[:2]))
    environment = {KEYS_VARIABLE: f" {as_variable(keys.records[2])}, "}
    assert load_keys(path, environment) == keys
    assert load_keys(None, {}) == Keys()
    assert all(load_keys(path, environment).verify(key) == record for key, record in made.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keys = 3", "Expected `array`"),
        ("[[keys", "wanted \\[\\[keys\\]\\]"),
        ('[[keys]]\nname = "a"\nrole = "caller"', "salt"),
        ('[[keys]]\nname = "a"\nrole = "root"\nsalt = ""\nsha256 = ""', "root"),
        ('[[keys]]\nname = "a"\nrole = "caller"\nsalt = ""\nsha256 = ""', "key 1: salt and sha256"),
        ('[[keys]]\nname = "a b"\nrole = "caller"\nsalt = ""\nsha256 = ""', "a name that is none"),
        ('[[keys]]\nname = "a"\nrole = "caller"\nsalt = ""\nsha256 = ""\nkey = "x"', "unknown field `key`"),
    ],
)
def test_a_bad_file_is_refused(text, message, tmp_path):
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_keys(path, {})


def test_a_key_put_where_a_record_belongs_is_not_repeated():
    key, _ = new_key("a", "caller")
    for text in (key, f"a:caller:{key}:{key}", f"a:{key}:x:y"):
        with pytest.raises(InputError, match="entry 1") as caught:
            load_keys(None, {KEYS_VARIABLE: text})
        assert key not in str(caught.value)


def test_names_are_used_once(tmp_path):
    record = new_key("a", "caller")[1]
    with pytest.raises(InputError, match="'a' is used twice"):
        load_keys(None, {KEYS_VARIABLE: f"{as_variable(record)},{as_variable(record)}"})
    with pytest.raises(InputError, match="cannot be read"):
        load_keys(tmp_path / "none.toml", {})
    with pytest.raises(InputError, match="wanted one of"):
        new_key("a", "root")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_needs_no_keys(host):
    require_closed(host, Keys())


ABROAD = ["0.0.0.0", "::", "[::]", "", "10.0.0.1", "example.com", "localhost.example.com", "2130706433", "127.1"]  # noqa: S104


@pytest.mark.parametrize("host", ABROAD)
def test_beyond_loopback_keys_are_wanted(host):
    with pytest.raises(InputError, match="no API keys"):
        require_closed(host, Keys())
    require_closed(host, Keys((new_key("a", "caller")[1],)))


def test_a_file_that_holds_no_key_is_no_way_to_be_open(tmp_path):
    path = tmp_path / "keys.toml"
    path.write_text("# none yet\n")
    with pytest.raises(InputError, match="found no key"):
        load_keys(path, {})
