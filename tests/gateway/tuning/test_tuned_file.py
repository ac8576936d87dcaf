import re
import tomllib

import pytest

from offmap.errors import InputError
from offmap.gateway.config import Gateway, default_gateway, parse_gateway, read_gateway
from offmap.gateway.policy import Bands, bands
from offmap.gateway.tuning.proposal import Proposal, Rates, apply_proposal
from offmap.gateway.tuning.tuned_file import DEFAULT, write_tuned

TEXT = """\
# Ours.
name = "trial"  # kept

[monitors.pocket]
bundle = "pocket"

[monitors.strong]  # dear
judge = { file = "judges.toml", name = "j", safe_scores = "safe/scores.json" }
[monitors.other]
bundle = "bundles/other"

[server]
keys = "keys.json"

[stages.response]
# cheap first
cascade = ["pocket", { monitor = "strong", unknown = [0.1, 0.2] }]
tier = "strict"  # why not
[stages.response.actions]
unknown = "allow"

[stages.input]
cascade = ["pocket"]
"""


def proposal(*monitors, stage="response"):
    steps = tuple(Bands(name, (1e-5 / 3, 0.1 + k / 10), (2e-300, 0.25)) for k, name in enumerate(monitors))
    return Proposal(stage, steps, 0.01, "stopped", Rates(0.01, 0, (1.0,)), 100)


def test_the_bands_go_in_and_every_word_else_stays(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "out").mkdir()
    config, path = tmp_path / "here" / "gateway.toml", tmp_path / "out" / "gateway.tuned.toml"
    config.write_text(TEXT)
    made = proposal("pocket", "strong")
    found = write_tuned(path, config, made)
    wanted = apply_proposal(read_gateway(config), made)
    assert found.stages == wanted.stages
    assert found.stages["input"] == read_gateway(config).stages["input"]
    step = bands(found.stages["response"])[1]
    assert (step.unsafe, step.unknown) == ((1e-5 / 3, 0.2), (0.1, 0.2))
    text = path.read_text()
    for comment in ("# Ours.", "# kept", "# dear", "# cheap first", "# why not"):
        assert comment in text
    tables = tomllib.loads(text)
    assert tables["monitors"]["strong"]["judge"]["file"] == "../here/judges.toml"
    assert tables["monitors"]["strong"]["judge"]["safe_scores"] == "../here/safe/scores.json"
    assert tables["monitors"]["other"]["bundle"] == "../here/bundles/other"
    assert tables["monitors"]["pocket"]["bundle"] == "pocket"
    assert tables["server"]["keys"] == "../here/keys.json"
    assert sorted(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "text",
    [
        'stages.response.cascade = ["pocket"]\n',
        '[stages]\nresponse = { cascade = ["pocket"], tier = "strict" }\n',
        'name = "no stages"\n',
        "",
        '[stages.response]\ncascade = [\n  "pocket", # one\n]\n[stages.input]\ncascade = ["pocket"]\n',
        '[stages.input]\ncascade = ["pocket"]\n[limits]\nmax_batch = 5\n[stages.response]\ncascade = ["pocket"]\n',
    ],
)
def test_other_ways_of_writing_it_are_read_too(tmp_path, text):
    config = tmp_path / "gateway.toml"
    config.write_text(text)
    found = write_tuned(tmp_path / "tuned.toml", config, proposal("pocket"))
    assert found == apply_proposal(read_gateway(config), proposal("pocket"))


@pytest.mark.parametrize(
    "text",
    [
        '[stages.response]\ncascade = ["pocket"]  # at 0.005\ntier = "strict" # kept\n',
        '[stages.response]\ncascade = [\n  # at 0.005\n  "pocket", # at 0.005\n]  # at 0.005\n',
        'stages.response.cascade = ["pocket"] #at 0.005\n',
        '[stages.response]\ncascade = ["pocket"]  # tuned by hand for 0.005\n',
        '[stages]\nresponse = { cascade = ["pocket"] } # at 0.005\n',
        'stages = { response = { cascade = ["pocket"] } }  # at 0.005\n[limits] # kept\n',
        '[stages.response]\ncascade = ["pocket"]\n',
    ],
)
def test_no_comment_of_the_old_bands_stands_beside_the_new_ones(tmp_path, text):
    config, path = tmp_path / "gateway.toml", tmp_path / "tuned.toml"
    config.write_text(text)
    old = "tuned by hand for 0.005" if "by hand" in text else "at 0.005"
    said = f"tuned; said before of other bands: {old}" if "0.005" in text else "tuned"
    for _ in range(2):  # tuning what was tuned says it once
        write_tuned(path, config, proposal("pocket"))
        assert re.search(rf"^\][\]}} ]* # {said}$", path.read_text(), re.MULTILINE)
        assert path.read_text().count("0.005") == ("0.005" in text)
        assert ("# kept" in text) == ("# kept" in path.read_text())
        config.write_text(path.read_text())


def test_without_a_file_what_runs_without_one_is_written_out(tmp_path):
    assert parse_gateway(tomllib.loads(DEFAULT)) == default_gateway()
    found = write_tuned(tmp_path / "tuned.toml", None, proposal("pocket"))
    assert found == apply_proposal(Gateway(), proposal("pocket"))


def test_what_would_contradict_itself_is_not_written(tmp_path):
    config, path = tmp_path / "gateway.toml", tmp_path / "tuned.toml"
    config.write_text(TEXT)
    path.write_text("as it was")
    with pytest.raises(InputError, match="the bands are for pocket"):
        write_tuned(path, config, proposal("pocket"))
    assert path.read_text() == "as it was"
    assert sorted(tmp_path.iterdir()) == [config, path]
