import os
import signal
import subprocess
import sys
import threading
import time

import msgspec
import numpy as np
import pytest

from offmap.backbones import Backbone
from offmap.conversation import Conversation, Message
from offmap.errors import InputError
from offmap.feature_store import SHARD, Cached
from offmap.features import Features, FeatureSpec, Pool, TokenColumns, TokenStat

SPEC = FeatureSpec(
    frozenset([(1, Pool.MEAN), (-1, Pool.LAST)]),
    frozenset([TokenStat.LOGPROB, TokenStat.ENTROPY]),
    frozenset(["guard"]),
)
KILLED = """
import os, signal, sys
sys.path.insert(0, {folder!r})
from test_feature_store import SPEC, Counting, conversations
from offmap.feature_store import Cached
from pathlib import Path
class Dying(Counting):
    def __call__(self, batch, spec):
        if len(self.asked) >= {after}:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch, spec)
Cached(Dying(), Path({root!r}))(conversations({count}), SPEC)
"""


class Counting:
    """Features that follow from the text alone; counts what it is asked."""

    def __init__(self, fingerprint="counting"):
        self.fingerprint, self.asked = fingerprint, []

    def __call__(self, batch, spec):
        self.asked += [c.id for c in batch]
        lengths = np.array([len(c.messages[0].text) for c in batch], np.int32)
        seeds = np.array([hash_of(c) for c in batch])
        total = int(lengths.sum())
        flat = np.repeat(seeds, lengths) + np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        columns = TokenColumns(
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            flat.astype(np.int32),
            (flat % 5).astype(np.int8),
            (flat % 7).astype(np.int16),
            flat.astype(np.int32),
            {stat: (flat + i).astype(np.float32) for i, stat in enumerate(sorted(spec.tokens))},
        )
        return Features(
            tuple(c.id for c in batch),
            tuple(c.domain for c in batch),
            lengths,
            np.int32(seeds % 3),
            np.int32(seeds % 4),
            seeds % 2 == 0,
            {(layer, pool): np.float32(seeds[:, None] * layer + np.arange(3)) for layer, pool in spec.hidden},
            columns if spec.tokens else None,
            {name: seeds.astype(np.float64) / 3 for name in spec.scalars},
        )


def hash_of(conversation):
    return sum(map(ord, conversation.messages[0].text)) % 1000


def conversations(count, start=0):
    return [
        Conversation(id=f"c{i}", messages=(Message("user", f"number {i} " + "x" * (i * 7 % 40)),), domain=f"d{i % 3}")
        for i in range(start, start + count)
    ]


def partial_files(root):
    return [file for file in root.rglob("*") if file.name.startswith(".")]


def assert_equal(found, expected):
    assert found.ids == expected.ids
    assert found.groups == expected.groups
    np.testing.assert_array_equal(found.n_tokens, expected.n_tokens)
    np.testing.assert_array_equal(found.n_dropped, expected.n_dropped)
    assert found.n_dropped.dtype == np.int32
    assert found.hidden.keys() == expected.hidden.keys()
    assert found.scalars.keys() == expected.scalars.keys()
    for name in expected.hidden:
        np.testing.assert_array_equal(found.hidden[name], expected.hidden[name])
    for name in expected.scalars:
        np.testing.assert_array_equal(found.scalars[name], expected.scalars[name])
    assert (found.tokens is None) == (expected.tokens is None)
    if expected.tokens is not None:
        for name in ("offsets", "roles", "turns", "starts"):
            np.testing.assert_array_equal(getattr(found.tokens, name), getattr(expected.tokens, name))
        for stat in expected.tokens.stats:
            np.testing.assert_array_equal(found.tokens.stats[stat], expected.tokens.stats[stat])


@pytest.mark.parametrize("spec", [SPEC, FeatureSpec(SPEC.hidden), FeatureSpec(tokens=SPEC.tokens)])
def test_a_second_run_computes_nothing_and_gives_the_same(tmp_path, spec):
    rows = conversations(30)
    first, again = Counting(), Counting()
    cached = Cached(first, tmp_path / "store")
    assert isinstance(cached, Backbone)
    assert cached.fingerprint == first.fingerprint
    assert_equal(cached(rows, spec), Counting()(rows, spec))
    mixed = [rows[i] for i in (3, 29, 3, 0)]
    assert_equal(Cached(again, tmp_path / "store")(mixed, spec), Counting()(mixed, spec))
    assert sorted(first.asked) == sorted(row.id for row in rows)
    assert again.asked == []


def test_only_what_is_new_is_computed(tmp_path):
    counting = Counting()
    cached = Cached(counting, tmp_path)
    cached(conversations(20), SPEC)
    rows = conversations(20, start=10)
    assert_equal(cached(rows, SPEC), Counting()(rows, SPEC))
    assert sorted(counting.asked) == sorted(row.id for row in conversations(30))


def test_ids_and_labels_are_not_content_and_texts_are(tmp_path):
    counting = Counting()
    cached = Cached(counting, tmp_path)
    (row,) = conversations(1)
    same = msgspec.structs.replace(row, id="other", unsafe=True, domain="elsewhere", pair="p", kind="k")
    cached([row, same], SPEC)
    found = cached([same], SPEC)
    assert counting.asked == [row.id] or counting.asked == [same.id]
    assert (found.ids, found.groups) == (("other",), ("elsewhere",))
    cached([msgspec.structs.replace(row, messages=(Message("assistant", row.messages[0].text),))], SPEC)
    assert len(counting.asked) == 2


def test_another_fingerprint_or_spec_is_another_entry(tmp_path):
    rows = conversations(3)
    Cached(Counting(), tmp_path)(rows, SPEC)
    for counting, spec in ((Counting("other"), SPEC), (Counting(), FeatureSpec(SPEC.hidden))):
        Cached(counting, tmp_path)(rows, spec)
        assert len(counting.asked) == 3


def test_progress_counts_what_the_store_had(tmp_path):
    Cached(Counting(), tmp_path)(conversations(5), SPEC)
    told = []
    Cached(Counting(), tmp_path, told.append)(conversations(SHARD + 20), SPEC)
    assert told == [5]


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    count, after = 3 * SHARD, 2 * SHARD
    code = KILLED.format(folder=os.path.dirname(__file__), after=after, root=str(tmp_path), count=count)
    died = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    counting, rows = Counting(), conversations(count)
    assert_equal(Cached(counting, tmp_path)(rows, SPEC), Counting()(rows, SPEC))
    assert len(counting.asked) == count - after


def test_an_interrupted_shard_is_not_there(tmp_path):
    class Interrupted(Counting):
        def __call__(self, batch, spec):
            if self.asked:
                raise KeyboardInterrupt
            return super().__call__(batch, spec)

    rows = conversations(SHARD + 10)
    with pytest.raises(KeyboardInterrupt):
        Cached(Interrupted(), tmp_path)(rows, SPEC)
    counting = Counting()
    Cached(counting, tmp_path)(rows, SPEC)
    assert len(counting.asked) == 10


def test_a_writer_killed_in_the_middle_leaves_a_valid_store(tmp_path):
    code = KILLED.format(folder=os.path.dirname(__file__), after=SHARD * 9, root=str(tmp_path), count=2 * SHARD)
    dying = "import os, signal\nos.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
    died = subprocess.run([sys.executable, "-c", dying + code], capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    (left,) = partial_files(tmp_path)
    counting, rows = Counting(), conversations(2 * SHARD)
    assert_equal(Cached(counting, tmp_path)(rows, SPEC), Counting()(rows, SPEC))
    assert len(counting.asked) == len(rows)
    assert left.exists()
    os.utime(left, (time.time() - 90_000,) * 2)
    assert_equal(Cached(counting, tmp_path)(rows, SPEC), Counting()(rows, SPEC))
    assert not left.exists()
    assert len(counting.asked) == len(rows)


def test_shards_have_the_mode_of_any_file(tmp_path):
    Cached(Counting(), tmp_path / "store")(conversations(3), SPEC)
    (shard,) = tmp_path.rglob("*.safetensors")
    plain = tmp_path / "plain"
    plain.touch()
    assert shard.stat().st_mode == plain.stat().st_mode


def test_a_place_that_is_no_directory_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="no directory can be made there"):
        Cached(Counting(), tmp_path / "file")(conversations(3), SPEC)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_shard_is_computed_again(tmp_path, damage, caplog):
    rows = conversations(40)
    Cached(Counting(), tmp_path)(rows, SPEC)
    (shard,) = tmp_path.rglob("*.safetensors")
    whole = bytearray(shard.read_bytes())
    if damage == "flipped":
        whole[-100] ^= 1
    shard.write_bytes({"cut": whole[:-50], "flipped": whole, "empty": b"", "foreign": b"{}" * 99}[damage])
    counting = Counting()
    assert_equal(Cached(counting, tmp_path)(rows, SPEC), Counting()(rows, SPEC))
    assert len(counting.asked) == 40
    assert str(shard) in caplog.text
    again = Counting()
    Cached(again, tmp_path)(rows, SPEC)
    assert again.asked == []


def test_writers_at_the_same_time_do_not_disturb_each_other(tmp_path):
    everything = conversations(200)
    parts = [everything[:120], everything[60:], everything, everything]
    found, failed = {}, []

    def run(number):
        try:
            found[number] = Cached(Counting(), tmp_path)(parts[number], SPEC)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    for number, rows in enumerate(parts):
        assert_equal(found[number], Counting()(rows, SPEC))
    assert not partial_files(tmp_path)
    counting = Counting()
    assert_equal(Cached(counting, tmp_path)(everything, SPEC), Counting()(everything, SPEC))
    assert counting.asked == []


def test_no_conversations(tmp_path):
    assert len(Cached(Counting(), tmp_path)([], SPEC)) == 0


def test_reading_is_quick(tmp_path):
    rows = [Conversation(id=f"c{i}", messages=(Message("user", f"{i:06d}" + "y" * 300),)) for i in range(4 * SHARD)]
    Cached(Counting(), tmp_path)(rows, SPEC)
    started = time.process_time()
    Cached(Counting(), tmp_path)(rows, SPEC)
    assert time.process_time() - started < 2
