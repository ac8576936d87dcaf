"""Artefacts: whole or not at all, and every change is seen."""

import json

import msgspec
import numpy as np
import pytest

from offmap.artifacts import (
    FORMAT,
    MANIFEST,
    _own_hash,
    nested,
    pack_arrays,
    read_manifest,
    unpack_arrays,
    whole_directory,
    write_manifest,
)
from offmap.atomic import write_whole
from offmap.errors import InputError


class Content(msgspec.Struct):
    name: str
    rows: int


@pytest.fixture
def artefact(tmp_path):
    with whole_directory(tmp_path / "bundle") as directory:
        write_whole(directory / "data.bin", b"0123456789")
        write_manifest(directory, Content("one", 3))
    return tmp_path / "bundle"


def test_what_was_written_is_read(artefact):
    assert read_manifest(artefact, Content) == Content("one", 3)
    assert sorted(path.name for path in artefact.parent.iterdir()) == ["bundle"]


def test_a_directory_that_fails_leaves_nothing_and_keeps_the_old(artefact):
    with pytest.raises(RuntimeError), whole_directory(artefact) as directory:
        write_whole(directory / "data.bin", b"half")
        raise RuntimeError
    assert read_manifest(artefact, Content) == Content("one", 3)
    assert (artefact / "data.bin").read_bytes() == b"0123456789"
    assert sorted(path.name for path in artefact.parent.iterdir()) == ["bundle"]


def test_an_artefact_is_replaced_whole(artefact):
    with whole_directory(artefact) as directory:
        write_manifest(directory, Content("two", 4))
    assert read_manifest(artefact, Content) == Content("two", 4)
    assert not (artefact / "data.bin").exists()


def test_somebody_elses_directory_is_not_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(InputError, match="not a bundle of offmap"), whole_directory(tmp_path / "thesis"):
        pass
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


def test_an_artefact_with_something_beside_it_is_not_replaced(artefact):
    (artefact / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not a bundle of offmap"), whole_directory(artefact):
        pass
    assert (artefact / "notes.txt").exists()


def test_no_directory_can_be_made_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="no directory can be made there"), whole_directory(tmp_path / "file" / "x"):
        pass


def flip(artefact):
    data = bytearray((artefact / "data.bin").read_bytes())
    data[4] ^= 1
    (artefact / "data.bin").write_bytes(data)


def edit(change, *, sealed=True):
    def tamper(artefact):
        body = json.loads((artefact / MANIFEST).read_text())
        change(body)
        if sealed:
            body["sha256"] = _own_hash(body)
        (artefact / MANIFEST).write_text(json.dumps(body))

    return tamper


TAMPERINGS = {
    "changed since it was written": flip,
    "its manifest names": lambda artefact: (artefact / "data.bin").unlink(),
    "holds .*extra": lambda artefact: (artefact / "extra").write_bytes(b""),
    f"format 1, this version reads format {FORMAT}": edit(lambda body: body.update(format=1)),
    "manifest.json: changed since it was written": edit(lambda body: body["content"].update(rows=4), sealed=False),
    "names with hashes are wanted": edit(lambda body: body.pop("files")),
    "rows": edit(lambda body: body["content"].update(rows="three")),
    "not JSON": lambda artefact: (artefact / MANIFEST).write_text("{"),
    "a JSON object is wanted": lambda artefact: (artefact / MANIFEST).write_text("[]"),
    "no manifest.json there": lambda artefact: (artefact / MANIFEST).unlink(),
}


@pytest.mark.parametrize("message", TAMPERINGS)
def test_tampering_is_refused(artefact, message):
    TAMPERINGS[message](artefact)
    with pytest.raises(InputError, match=message):
        read_manifest(artefact, Content)


def test_arrays_come_back_bit_equal(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"a/x": rng.normal(size=(3, 4)), "a/y": rng.normal(size=5).astype(np.float32), "b": np.arange(6)[::2]}
    write_whole(tmp_path / "arrays", pack_arrays(arrays))
    read = unpack_arrays(tmp_path / "arrays")
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        assert read[name].tobytes() == np.ascontiguousarray(array).tobytes()
    assert set(nested(read, "a")) == {"x", "y"}


def test_a_damaged_array_file_is_refused(tmp_path):
    write_whole(tmp_path / "arrays", pack_arrays({"a": np.arange(100.0)})[:-7])
    with pytest.raises(InputError, match="not a readable safetensors file"):
        unpack_arrays(tmp_path / "arrays")
