import gzip
import io
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from offmap.conversation import ENDINGS, Conversation, Message, Skipped, ToolCall, parse_row, read, write
from offmap.errors import InputError

GOOD = b'{"id": "a", "messages": [{"role": "user", "content": "hi"}]}\n'
ROWS = [
    Conversation(f"r{index}", (Message("user", f"hi {index}"), Message("assistant", tool_calls=(ToolCall("f", "{}"),))))
    for index in range(1500)
]


def error_of(path, **options):
    with pytest.raises(InputError) as caught:
        list(read(path, **options))
    return str(caught.value)


@pytest.mark.parametrize("ending", ENDINGS)
def test_many_rows_round_trip_to_the_same_bytes(tmp_path, ending):
    first, second = tmp_path / f"a{ending}", tmp_path / f"b{ending}"
    write(first, (parse_row(msgspec.to_builtins(row))[0] for row in ROWS))
    write(second, read(first))
    assert first.read_bytes() == second.read_bytes()
    assert list(read(str(second))) == ROWS


def test_other_tools_read_what_is_written(tmp_path):
    for ending in ENDINGS:
        write(tmp_path / f"a{ending}", ROWS)
    wanted = [msgspec.json.encode(row) for row in ROWS]
    assert (tmp_path / "a.jsonl").read_bytes().splitlines() == wanted
    assert (tmp_path / "a.jsonl.gz").read_bytes()[4:8] == bytes(4)  # RFC 1952: no time of writing
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).splitlines() == wanted
    assert pyarrow.input_stream(tmp_path / "a.jsonl.zst", compression="zstd").read().splitlines() == wanted
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert table["id"].to_pylist() == [row.id for row in ROWS]
    assert table["messages"].to_pylist()[7][0]["content"] == "hi 7"


def test_multi_member_archives(tmp_path):
    second = GOOD.replace(b'"a"', b'"b"')
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(GOOD) + gzip.compress(second))
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(GOOD) + zstandard.compress(second))
    for ending in (".gz", ".zst"):
        assert [row.id for row in read(tmp_path / f"a.jsonl{ending}")] == ["a", "b"]


@pytest.mark.parametrize("form", ["struct", "text"])
def test_parquet_columns_take_the_shapes_of_rows(tmp_path, form):
    plain = [
        {"id": "x", "malign": 0, "messages": [{"role": "user", "content": "hi"}], "embedding": [0.1]},
        {"id": "y", "malign": 1, "messages": [{"role": "assistant", "tool_calls": [{"name": "f"}]}], "embedding": []},
    ]
    wanted = [parse_row(row)[0] for row in plain]
    if form == "text":
        plain = [{**row, "messages": json.dumps(row["messages"])} for row in plain]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(plain), tmp_path / "a.parquet")
    assert list(read(tmp_path / "a.parquet")) == wanted


def test_parquet_of_transcripts(tmp_path):
    rows = [{"id": str(n), "conversation": f"\n\nHuman: {n}", "domain": "d", "malign": n % 2} for n in range(1100)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert list(read(tmp_path / "a.parquet")) == [parse_row(row)[0] for row in rows]


def test_parquet_columns_that_are_no_field_are_never_converted(tmp_path):
    unconvertible = pyarrow.array([2**31 - 1], "date32")
    with pytest.raises(OverflowError):
        unconvertible.to_pylist()
    table = pyarrow.table({"conversation": ["\n\nHuman: hi"], "when": unconvertible})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert [row.messages for row in read(tmp_path / "a.parquet")] == [(Message("user", "hi"),)]


def test_parquet_errors(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"id": ["a"], "text": ["hi"]}), path)
    assert error_of(path).startswith(f"{path}:1: the row's shape: found the fields id, text, wanted")
    pyarrow.parquet.write_table(pyarrow.table({"messages": ['[{"role": "user"}]', "[NaN]"]}), path)
    assert error_of(path).startswith(f"{path}:2: field messages: found text that is not JSON")
    twice = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 2, names=["messages", "messages"])
    pyarrow.parquet.write_table(twice, path)
    assert "found the columns messages, messages, wanted each name once" in error_of(path)
    pyarrow.parquet.write_table(pyarrow.table({"id": pyarrow.array([], "string")}), path)
    assert "the file is empty" in error_of(path)
    write(path, ROWS)
    path.write_bytes(path.read_bytes()[:-100])
    assert "cannot be read" in error_of(path)


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(GOOD + b"[]\n")))
    reader = read("-")
    assert next(reader).id == "a"
    with pytest.raises(InputError, match=r"^-:2: found a list of 0, wanted an object"):
        next(reader)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (b"\n", "blank line"),
        (b"  \r\n", "blank line"),
        (b"hello\n", "not JSON"),
        (GOOD[:-5] + b"\n", "not JSON"),
        (b'{"id": "b", "messages": [], "score": NaN}\n', "NaN and Infinity are not JSON"),
        (b'{"id": "b", "messages": [], "score": -Infinity}\n', "NaN and Infinity are not JSON"),
        (b'{"id": "b\xff"}\n', "not UTF-8"),
        (b"[" * 100_000 + b"\n", "nested too deeply"),
        (GOOD, "field id: found 'a', which line 1 has too"),
        (GOOD.replace(b'"a"', b'"b", "malign": 3'), "field malign: found 3, wanted 0, 1, true or false"),
    ],
)
def test_wrong_lines_are_named(tmp_path, line, wanted):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD + line + GOOD.replace(b'"a"', b'"c"'))
    message = error_of(path)
    assert message.startswith(f"{path}:2: ")
    assert wanted in message

    reader = read(path, on_error="skip")
    assert [row.id for row in reader] == ["a", "c"]
    (skipped,) = reader.skipped
    assert skipped == Skipped(2, message.removeprefix(f"{path}:2: "))


def test_rows_before_the_wrong_one_are_streamed(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD + b"oops\n")
    reader = read(path)
    assert next(reader).id == "a"
    with pytest.raises(InputError, match=r"rows\.jsonl:2: "):
        next(reader)


def test_equal_content_without_ids_is_a_repeated_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"messages": [{"role": "user", "content": "hi"}]}\n' * 2)
    assert "which line 1 has too" in error_of(path)


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n"))
    assert [row.id for row in read(path)] == ["a"]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_wrong_files_are_raised_either_way(tmp_path, on_error):
    (tmp_path / "empty.jsonl").touch()
    assert "the file is empty" in error_of(tmp_path / "empty.jsonl", on_error=on_error)
    (tmp_path / "junk.jsonl").write_bytes(b"junk\n" * 3)
    junk = error_of(tmp_path / "junk.jsonl", on_error=on_error)
    assert ("none of its 3 rows" in junk) == (on_error == "skip")
    assert "No such file" in error_of(tmp_path / "absent.jsonl", on_error=on_error)
    assert "No such file" in error_of(tmp_path / "absent.parquet", on_error=on_error)
    assert "wanted one of .jsonl" in error_of(tmp_path / "rows.csv", on_error=on_error)
    for ending in (".jsonl.gz", ".jsonl.zst"):
        path = tmp_path / f"cut{ending}"
        write(path, ROWS)
        path.write_bytes(path.read_bytes()[:-50])
        message = error_of(path, on_error=on_error)
        assert "the file cannot be read" in message
        path.write_bytes(GOOD)
        assert "the file cannot be read" in error_of(path, on_error=on_error)


def test_unknown_policy():
    with pytest.raises(ValueError, match="wanted 'raise' or 'skip'"):
        read("rows.jsonl", on_error="ignore")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_failed_write_leaves_the_old_file(tmp_path, ending):
    path = tmp_path / f"rows{ending}"
    write(path, ROWS[:2])

    def failing():
        yield from ROWS[:1000]
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        write(path, failing())
    assert list(read(path)) == ROWS[:2]
    assert list(tmp_path.iterdir()) == [path]


def test_write_refuses_what_could_not_be_read_back(tmp_path):
    path = tmp_path / "rows.jsonl"
    for rows in ([], ROWS[:1] * 2, [Conversation("", ROWS[0].messages)], [Conversation("a", ())]):
        with pytest.raises(ValueError, match="wanted"):
            write(path, rows)
    with pytest.raises(InputError, match="wanted one of"):
        write(tmp_path / "rows.csv", ROWS)
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(InputError, match="found a directory"):
        write(tmp_path / "folder.jsonl", ROWS)
    assert [file.name for file in tmp_path.iterdir()] == ["folder.jsonl"]


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst"])
def test_damaged_archives_raise_nothing_but_input_errors_and_never_pass_for_whole(tmp_path, ending):
    path = tmp_path / f"rows{ending}"
    write(path, ROWS[:50])
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        with suppress(InputError):
            assert list(read(path)) == ROWS[:50]
        path.write_bytes(whole[:at])
        error_of(path)


def test_importing_loads_no_heavy_library():
    code = "import sys, offmap.conversation; print({'pyarrow', 'zstandard', 'torch', 'numpy'} & set(sys.modules))"
    environment = {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    shown = subprocess.check_output([sys.executable, "-c", code], env=environment)
    assert shown == b"set()\n"
