"""What is refused before a run begins, what a claimed directory is told, and what can be mended in place."""

import shutil

import msgspec
import pytest

from offmap.backbones import BackboneSource
from offmap.detectors import GuardProbe
from offmap.errors import InputError
from offmap.train import train
from offmap.train.fit import deal

pytestmark = pytest.mark.usefixtures("undrawn")


def test_a_finished_run_is_not_run_again(made, shapes, talks, source, small, monkeypatch):
    record, out = made("qwen3", "full")
    (out / "training" / "checkpoint-3").mkdir()
    before = {file: file.read_bytes() for file in out.glob("*.*")}
    monkeypatch.setattr("offmap.backbones.loading._weights", lambda *_, **__: pytest.fail("the model was loaded"))
    again = train(talks(60), source(shapes["qwen3"]), out, small(method="full"), split_seed=3)
    assert again == record
    assert {file: file.read_bytes() for file in out.glob("*.*")} == before
    assert not (out / "training" / "checkpoint-3").exists(), "killed while cleaning, it cleans"


WRONG = {
    "row 'r3': field unsafe: found no label, wanted true or false": {"label": None},
    "found no unsafe row among": {"label": False},
    "found no safe row among": {"label": True},
    "max_tokens is 1; at least 2 is wanted": {"options": {"max_tokens": 1}},
    "rows over the limit of 10 tokens, such as 'r0', 'r1', 'r2'; wanted": {
        "options": {"max_tokens": 10, "long_rows": "refuse"}
    },
    "no such directory; one of the hub needs revision": {"base": "nowhere/model"},
    "layer -9: the model has layers 0 to 3": {"options": {"heads": GuardProbe(layers=(-9,))}},
    "found guard='llama-guard' or lm; wanted a plain causal LM": {"fields": {"guard": "llama-guard"}},
    "found adapter 'x'; wanted method=full, or no adapter": {"fields": {"adapter": "{lora}"}},
    "is an adapter; wanted the model that it is for": {"base": "{lora}"},
    "found a file, wanted a directory or a new name": {"out": "file"},
    "exists and holds no training run; choose another place": {"out": "foreign"},
    "holds another run (epochs: 2 there, 3 now)": {"out": "{full}", "options": {"epochs": 3}},
    "holds another run (rows: '60 rows, ": {"out": "{full}", "start": 60},
    "holds another run (split_seed: 3 there, 4 now)": {"out": "{full}", "split_seed": 4},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_cannot_be_trained_is_told_and_claims_nothing(made, shapes, talks, small, tmp_path, message):
    wrong = WRONG[message]
    places = {"full": str(made("llama", "full")[1]), "lora": str(made("llama", "lora")[1])}
    rows = talks(60, start=wrong.get("start", 0))
    if "label" in wrong:
        some = rows if wrong["label"] is not None else rows[3:4]
        changed = {row.id: msgspec.structs.replace(row, unsafe=wrong["label"]) for row in some}
        rows = [changed.get(row.id, row) for row in rows]
    (tmp_path / "file").write_text("mine")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("mine")
    base = BackboneSource(wrong.get("base", shapes["llama"]).format(**places), dtype="float32")
    fields = {name: text.format(**places) for name, text in wrong.get("fields", {}).items()}
    out = tmp_path / wrong.get("out", "out").format(**places)
    method = "lora" if "adapter" in fields else "full"
    with pytest.raises(InputError) as told:
        train(
            rows,
            msgspec.structs.replace(base, **fields),
            out,
            small(**{"method": method} | wrong.get("options", {})),
            split_seed=wrong.get("split_seed", 3),
        )
    assert message in str(told.value).replace(places["lora"], "x")
    assert (tmp_path / "file").read_text() == "mine"
    assert [file.name for file in (tmp_path / "foreign").iterdir()] == ["notes.txt"]
    assert not (tmp_path / "out" / "training" / "run.json").exists()


def test_a_validation_part_of_one_kind_is_refused(shapes, talks, source, small, tmp_path):
    rows, options = talks(60), small()
    held_out = {row.id for row in deal(rows, options).held_out}
    for wanted, kind in ((False, "safe"), (True, "unsafe")):
        left = [row for row in rows if row.id not in held_out or row.unsafe is not wanted]
        with pytest.raises(InputError, match=rf"found no {kind} row among \d+ validation rows of \d+; wanted some"):
            train(left, source(shapes["llama"]), tmp_path / "guard", options)
        left = [row for row in rows if row.id in held_out or row.unsafe is not wanted]
        with pytest.raises(InputError, match=rf"found no {kind} row among \d+ training rows of \d+; wanted some"):
            train(left, source(shapes["llama"]), tmp_path / "guard", options)


def test_a_mistake_that_was_told_early_can_be_mended_in_place(shapes, talks, source, small, tmp_path):
    out, base = tmp_path / "guard", source(shapes["llama"])
    for options in (small(max_tokens=10, long_rows="refuse"), small(heads=GuardProbe(layers=(-9,)))):
        with pytest.raises(InputError):
            train(talks(40), base, out, options)
    assert train(talks(40), base, out, small(epochs=1)).run["steps"] > 0


def test_a_directory_that_was_only_begun_is_not_foreign(shapes, talks, source, small, tmp_path):
    work = tmp_path / "guard" / "training"
    (work / "features").mkdir(parents=True)
    (work / ".run.json.1a2b3c4d").write_text("{")
    train(talks(40), source(shapes["llama"]), tmp_path / "guard", small(epochs=1))
    other = tmp_path / "other" / "training" / "checkpoint-7"
    other.mkdir(parents=True)
    with pytest.raises(InputError, match="holds no training run"):
        train(talks(40), source(shapes["llama"]), tmp_path / "other", small(epochs=1))
    assert other.is_dir()


def test_a_claim_that_cannot_be_read_is_told(made, shapes, talks, source, small, tmp_path):
    out = shutil.copytree(made("llama", "full")[1], tmp_path / "guard")
    (out / "training" / "run.json").write_text("{half")
    with pytest.raises(InputError, match=r"run\.json: .*remove .* yourself and train anew"):
        train(talks(60), source(shapes["llama"]), out, small(method="full"), split_seed=3)
