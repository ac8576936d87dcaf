import importlib
import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from offmap.detectors import DETECTORS, GuardProbe, Mahalanobis, Neighbours, Perplexity
from offmap.errors import InputError
from offmap.features import Pool
from offmap.registry import Registry
from offmap.testing import check_detector

PLUGIN = Path(__file__).parent / "plugin_package"


def install(monkeypatch, folder, distribution, entries):
    """What an installer leaves behind: a dist-info folder with entry points, on the path."""
    info = folder / f"{distribution.replace('-', '_')}-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.1\n")
    lines = "\n".join(f"{name} = {value}" for name, value in entries.items())
    (info / "entry_points.txt").write_text(f"[offmap.detectors]\n{lines}\n")
    monkeypatch.syspath_prepend(str(folder))


@pytest.fixture
def plugin(monkeypatch, tmp_path):
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    install(monkeypatch, tmp_path / "site", project["name"], project["entry-points"]["offmap.detectors"])
    monkeypatch.syspath_prepend(str(PLUGIN))
    yield
    sys.modules.pop("offmap_length", None)


CONFIGURED = [
    (Mahalanobis(), "mahalanobis"),
    (Mahalanobis(reference=True), {"mahalanobis": {"reference": True}}),
    (
        Mahalanobis(layers=(0,), pools=(Pool.MEAN, Pool.USER)),
        {"mahalanobis": {"layers": [0], "pools": ["mean", "user"]}},
    ),
    (Perplexity("conversation"), {"perplexity": {"over": "conversation"}}),
    (Neighbours(k=3), {"neighbours": {"k": 3}}),
    (GuardProbe(beta=0.5, strengths=(1e-3,)), {"guard_probe": {"beta": 0.5, "strengths": [0.001]}}),
]


@pytest.mark.parametrize(("detector", "spec"), CONFIGURED)
def test_specs_name_what_differs_from_the_defaults_and_survive_json(detector, spec):
    assert DETECTORS.to_spec(detector) == spec
    again = DETECTORS.from_spec(json.loads(json.dumps(spec)))
    assert again == detector
    assert type(again) is type(detector)


def test_an_integer_is_a_fine_float():
    assert DETECTORS.from_spec({"guard_probe": {"beta": 2}}).beta == 2.0


WRONG = [
    ("mahalanobs", "no detector is called 'mahalanobs'; did you mean 'mahalanobis'?"),
    ("x", "there are: "),
    ("os:system", "no detector is called 'os:system'"),
    ({"neighbours": {"K": 3}}, "detector 'neighbours': no field is called 'K'; there are: k, layers, pools"),
    ({"neighbours": {"layer": [1]}}, "did you mean 'layers'?"),
    ({"neighbours": {"k": "ten"}}, "detector 'neighbours', field 'k': found 'ten', wanted int"),
    ({"neighbours": {"k": True}}, "field 'k': found True, wanted int"),
    ({"neighbours": {"k": 0}}, "detector 'neighbours': k=0: wanted at least 1"),
    ({"neighbours": {"layers": 3}}, "field 'layers': found 3, wanted a list of int"),
    ({"neighbours": {"pools": ["first"]}}, "wanted a list of one of 'last', 'mean', 'assistant', 'user'"),
    ({"perplexity": {"over": "all"}}, "found 'all', wanted one of 'assistant', 'conversation'"),
    ({"neighbours": [3]}, "detector 'neighbours': found [3], wanted {field: value}"),
    ({"neighbours": {}, "perplexity": {}}, "wanted a name or {name: {field: value}}"),
    (3, "detector: found 3, wanted a name or {name: {field: value}}"),
    ({"neighbours": {"question": "unsafe"}}, "no field is called 'question'"),
]


@pytest.mark.parametrize(("spec", "message"), WRONG)
def test_wrong_specs_are_told_apart(spec, message):
    with pytest.raises(InputError) as caught:
        DETECTORS.from_spec(spec)
    assert message in str(caught.value)


def test_a_plugin_is_found_listed_serialised_and_keeps_the_contract(plugin):
    assert "length" in DETECTORS.names()
    assert DETECTORS.describe()["length"] == "Distance of a state's length from the usual."
    assert "offmap_length" not in sys.modules
    detector = DETECTORS.from_spec({"length": {"pool": "last"}})
    assert DETECTORS.to_spec(detector) == {"length": {"pool": "last"}}
    check_detector(detector)


def test_a_class_may_be_registered_where_it_is_re_exported(monkeypatch, tmp_path):
    (tmp_path / "moved_plugin").mkdir()
    (tmp_path / "moved_plugin" / "__init__.py").write_text("from moved_plugin.inner import Moved\n")
    source = "from dataclasses import dataclass\n\n@dataclass(frozen=True)\nclass Moved:\n    a: int = 1\n"
    (tmp_path / "moved_plugin" / "inner.py").write_text(source)
    install(monkeypatch, tmp_path, "moved", {"moved": "moved_plugin:Moved"})
    assert DETECTORS.describe()["moved"] == ""
    assert DETECTORS.to_spec(DETECTORS.from_spec("moved")) == "moved"


def test_plugins_that_clash_or_do_not_load_are_named(monkeypatch, tmp_path):
    install(
        monkeypatch, tmp_path / "a", "first-pack", {"twice": "a:A", "perplexity": "a:A", "gone": "no_such_module:A"}
    )
    install(monkeypatch, tmp_path / "b", "second-pack", {"twice": "b:B"})
    with pytest.raises(InputError, match=r"claimed by several packages: .*first-pack"):
        DETECTORS.get("twice")
    with pytest.raises(InputError, match="'gone': cannot load no_such_module:A"):
        DETECTORS.get("gone")
    assert DETECTORS.get("perplexity") is Perplexity
    assert DETECTORS.describe().keys() == {*DETECTORS.builtin, "twice", "gone"}
    assert DETECTORS.name_of(Perplexity) == "perplexity"


@dataclass(frozen=True)
class Needy:
    path: str
    depth: int | None = None


def test_a_registry_of_anything_and_its_required_fields(monkeypatch):
    suites = Registry("suite", "offmap.none", {"needy": "fake_suites:Needy"})
    monkeypatch.setitem(sys.modules, "fake_suites", type(importlib)("fake_suites"))
    monkeypatch.setattr(sys.modules["fake_suites"], "Needy", Needy, raising=False)
    assert suites.from_spec({"needy": {"path": "x", "depth": None}}) == Needy("x")
    with pytest.raises(InputError, match="suite 'needy': field 'path' is missing"):
        suites.from_spec("needy")
    with pytest.raises(InputError, match=r"suite .*:Needy has no name: register it under .*'offmap\.none'"):
        suites.to_spec(Needy("x"))


def test_descriptions_import_nothing_heavy():
    code = (
        "import sys; from offmap.detectors import DETECTORS; d = DETECTORS.describe(); assert all(d.values()), d; "
        "print([m for m in ('torch', 'scipy', 'sklearn', 'transformers') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
