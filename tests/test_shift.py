"""The shift kind: read from the tokens that hold the surprise, by ranks among safe rows, and claimed seldom."""

import dataclasses
import time

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load, save

from offmap.errors import InputError
from offmap.features import ROLE_CODE, Features, TokenColumns, TokenStat
from offmap.shift import EXCESS_STATS, KINDS, FittedShiftReader, ShiftReader, shift_scores, tokens_of, window_sums

ENTROPY = 2.0
CHAT = (("system", 12), ("user", 60), ("assistant", 50))
CALL = (("system", 12), ("user", 60), ("assistant", 15), ("tool", 20), ("assistant", 40))
Turns = tuple[tuple[str, int], ...]


def rows(tokens):
    """Features of rows given as lists of (role, turn, start, excess surprise)."""
    flat = [token for row in tokens for token in row]
    roles, turns, starts, excess = (
        (np.array(column) for column in zip(*flat, strict=True)) if flat else [np.zeros(0)] * 4
    )
    stats = {
        TokenStat.LOGPROB: -(excess + ENTROPY).astype(np.float32),
        TokenStat.ENTROPY: np.full(len(flat), ENTROPY, np.float32),
    }
    lengths = np.array([len(row) for row in tokens], np.int32)
    columns = TokenColumns(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.zeros(len(flat), np.int32),
        np.array([ROLE_CODE[str(role)] for role in roles], np.int8),
        turns.astype(np.int16),
        starts.astype(np.int32),
        stats,
    )
    names = tuple(map(str, range(len(tokens))))
    nothing = np.zeros(len(tokens), np.int32)
    return Features(names, names, lengths + 1, nothing, nothing, nothing.astype(bool), tokens=columns)


def talk(rng, turns: Turns, lifted=(), by=0.0, within=slice(None)):
    """One row: a mark of the template and then the text of each turn; some turns' tokens ``within`` are lifted."""
    row = []
    for turn, (role, n) in enumerate(turns):
        excess = rng.normal(scale=1.5, size=n)
        if turn in lifted:
            excess[within] += by
        row.append(("template", -1, -1, 0.0))
        row += [(role, turn, 4 * at, value) for at, value in enumerate(excess)]
    return row


def usual(seed, n, share=0.5):
    rng = np.random.default_rng(seed)
    return rows([talk(rng, CALL if rng.random() < share else CHAT) for _ in range(n)])


@pytest.fixture(scope="module")
def reader():
    return ShiftReader().fit(usual(1, 1200))


SHIFTED = {
    "what the user said": ("prompt", CHAT, {1}, 1.2, slice(None)),
    "what the system said": ("prompt", CHAT, {0}, 6.0, slice(None)),
    "the reply": ("response", CHAT, {2}, 1.5, slice(None)),
    "the reply after a tool": ("response", CALL, {4}, 1.5, slice(None)),
    "the tool's answer": ("workflow", CALL, {3}, 3.0, slice(None)),
    "the call": ("workflow", CALL, {2}, 3.0, slice(None)),
    "a short window of what the user said": ("adversarial", CHAT, {1}, 6.0, slice(44, 60)),
    "a short window before a call": ("adversarial", CALL, {1}, 6.0, slice(10, 24)),
}


@pytest.mark.parametrize("where", SHIFTED)
def test_the_kind_is_where_the_surprise_sits(reader, where):
    kind, turns, lifted, by, within = SHIFTED[where]
    rng = np.random.default_rng(2)
    found = reader.read(rows([talk(rng, turns, lifted, by, within) for _ in range(40)]))
    assert sum(shift.kind == kind for shift in found) >= 38
    for shift in found:
        if shift.kind:
            assert shift.p_values[shift.kind] == min(shift.p_values.values()) <= 0.05 / 4
    assert all(("workflow" in shift.p_values) == (turns is CALL) for shift in found)


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_safe_rows_are_claimed_for_at_about_the_level(level):
    fitted = ShiftReader(level).fit(usual(3, 1500))
    claimed = np.mean([bool(kind) for kind in fitted.kinds(usual(4, 1500))])
    assert 0.4 * level < claimed < 1.3 * level


def test_a_row_does_not_depend_on_the_others(reader):
    batch = usual(5, 60)
    whole, wanted = reader.p_values(batch), reader.read(batch)
    order = np.random.default_rng(0).permutation(60)
    moved = reader.p_values(batch.take(order))
    for kind in KINDS:
        np.testing.assert_array_equal(moved[kind], whole[kind][order])
    assert tuple(shift for row in range(60) for shift in reader.read(batch.take([row]))) == wanted
    assert reader.kinds(batch) == tuple(shift.kind for shift in wanted)
    assert reader.read(batch.take([])) == ()


def ragged(seed):
    """Rows of random turns and lengths, some empty, some without a place in the text."""
    rng = np.random.default_rng(seed)
    tokens = []
    for _ in range(30):
        row = []
        for turn in range(rng.integers(0, 6)):
            role = str(rng.choice(["system", "user", "assistant", "tool"]))
            row += [("template", -1, -1, rng.normal())] * int(rng.integers(0, 2))
            row += [(role, turn, int(rng.integers(-1, 3)), rng.normal()) for _ in range(rng.integers(1, 9))]
        tokens.append(row)
    return tokens


def brute(row, window):
    """The four scores of one row, token by token."""
    role_of = {turn: role for role, turn, *_ in row if turn >= 0}
    chosen = {kind: [] for kind in KINDS}
    for at, (role, turn, start, _) in enumerate(row):
        if role in ("user", "system") and start >= 0:
            chosen["prompt"].append(at)
        if role == "user" and start >= 0:
            chosen["adversarial"].append(at)
        if role == "tool" or (role == "assistant" and role_of.get(turn + 1) == "tool"):
            chosen["workflow"].append(at)
        elif role == "assistant":
            chosen["response"].append(at)
    excess = [np.float64(np.float32(value + ENTROPY)) - ENTROPY for *_, value in row]
    scores = {kind: np.mean([excess[at] for at in chosen[kind]]) if chosen[kind] else np.nan for kind in KINDS}
    user = chosen["adversarial"]
    windows = []
    for first in range(len(user)):
        part = [at for at in user[first : first + window] if row[at][1] == row[user[first]][1]]
        rest = [excess[at] for at in user if at not in part]
        inside = sum(excess[at] for at in part)
        windows.append((inside / window, inside / window - (np.mean(rest) if rest else 0.0)))
    return scores | {"adversarial": max(windows)[1] if windows else np.nan}


@pytest.mark.parametrize("window", [1, 4, 16])
def test_scores_are_those_of_a_loop_over_tokens(window):
    for seed in range(4):
        tokens = ragged(seed)
        found = shift_scores(rows(tokens), window)
        for at, row in enumerate(tokens):
            wanted = brute(row, window)
            assert [found[kind][at] for kind in KINDS] == pytest.approx([wanted[kind] for kind in KINDS], nan_ok=True)


def test_offered_tools_are_no_prompt_and_an_unanswered_call_is_response():
    tokens = rows(
        [[("system", 0, 0, 0.0), ("system", 0, -1, 0.0), ("user", 1, 0, 0.0), ("assistant", 2, 0, 0.0)]]
    ).tokens
    told = {kind: np.flatnonzero(used).tolist() for kind, used in tokens_of(tokens).items()}
    assert told == {"prompt": [0, 2], "response": [3], "workflow": [], "adversarial": [2]}


def test_a_window_ends_with_its_turn():
    sums, lengths = window_sums(np.array([1.0, 2.0, 4.0, 8.0]), np.array([0, 0, 0, 1]), 2)
    assert sums.tolist() == [3.0, 6.0, 4.0, 8.0]
    assert lengths.tolist() == [2, 2, 1, 1]


def test_tools_that_training_never_saw_are_a_workflow_shift():
    fitted = ShiftReader().fit(usual(6, 400, share=0.0))
    (shift,) = fitted.read(rows([talk(np.random.default_rng(7), CALL)]))
    assert shift.kind == "workflow"
    assert shift.p_values["workflow"] == 1 / 401


def test_rare_tools_are_ranked_among_all_rows():
    safe = usual(8, 600, share=0.01)
    seen = shift_scores(safe)["workflow"]
    assert 0 < np.isfinite(seen).sum() < 20
    row = rows([talk(np.random.default_rng(9), CALL)])
    above = (seen[np.isfinite(seen)] >= shift_scores(row)["workflow"][0]).sum()
    assert ShiftReader().fit(safe).p_values(row)["workflow"][0] == (1 + above) / 601


def test_too_few_safe_rows_claim_nothing():
    fitted = ShiftReader().fit(usual(10, 60))
    assert set(fitted.kinds(rows([talk(np.random.default_rng(0), CALL, {0, 1, 2, 3, 4}, 50.0)]))) == {""}


def test_without_token_columns_there_is_no_kind(reader):
    safe = usual(11, 200)
    columns = safe.tokens
    for tokens in (None, TokenColumns(columns.offsets, columns.ids, columns.roles, columns.turns, columns.starts)):
        lacking = dataclasses.replace(safe, tokens=tokens)
        for fitted, batch in (
            (ShiftReader().fit(lacking), safe),
            (reader, lacking),
            (ShiftReader().fit(lacking), lacking),
        ):
            assert set(fitted.kinds(batch)) == {""}
            assert all(shift.p_values == {} for shift in fitted.read(batch))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_state_is_plain_arrays(share):
    fitted = ShiftReader(0.1, 9).fit(usual(12, 300, share))
    again = FittedShiftReader.restore(load(save(fitted.arrays())))
    assert (again.level, again.window) == (0.1, 9)
    assert again.read(usual(13, 100)) == fitted.read(usual(13, 100))
    empty = FittedShiftReader(0.05, 16, {})
    assert FittedShiftReader.restore(load(save(empty.arrays()))).read(usual(13, 3)) == empty.read(usual(13, 3))


def test_wrong_input_is_refused():
    for level in (0.0, 1.0, -1.0):
        with pytest.raises(InputError, match="level is"):
            ShiftReader(level)
    with pytest.raises(InputError, match="window is 0"):
        ShiftReader(window=0)
    with pytest.raises(ValueError, match="0 safe rows"):
        ShiftReader().fit(usual(1, 3).take([]))


def test_ten_thousand_rows_take_less_than_a_second(reader):
    batch = usual(14, 200)
    many = batch.take(np.arange(10_000) % 200)
    assert many.tokens.offsets[-1] > 1_000_000
    started = time.process_time()
    reader.read(many)
    assert time.process_time() - started < 1.0


def test_on_a_real_backbone_the_kind_is_where_the_strange_text_stands(small_suite, pocket):
    safe = [row for row in small_suite.train if not row.unsafe][::4]
    fitted = ShiftReader().fit(pocket(safe, EXCESS_STATS))

    def kinds(conversations):
        found = fitted.kinds(pocket(conversations, EXCESS_STATS))
        return {kind: found.count(kind) / len(found) for kind in (*KINDS, "")}

    def of(domain, n):
        return [row for row in small_suite.test if row.domain == domain][:n]

    familiar = [*of("helpful", 15), *of("function-calling", 15)]
    assert kinds(familiar)[""] > 0.8
    assert kinds([changed(row, "user", lambda said: f"{said} {NOISE}") for row in familiar])["adversarial"] > 0.6
    assert kinds([changed(row, "assistant", lambda _: FOREIGN) for row in of("helpful", 15)])["response"] > 0.8
    called = [row for row in familiar if any(message.role == "tool" for message in row.messages)]
    assert kinds([changed(row, "tool", lambda _: FOREIGN) for row in called])["workflow"] > 0.6
    assert kinds(of("swahili", 20))["prompt"] > 0.8
    wrong = kinds([row for row in of("function-calling-inappropriate", 40) if row.unsafe])
    assert wrong["workflow"] + wrong["response"] > wrong["prompt"]


NOISE = "q}x!z0[v@k#j%7$w/?3"
FOREIGN = "Leo asubuhi nilikwenda sokoni kununua samaki na ndizi kwa ajili ya chakula cha jioni."


def changed(row, role, change):
    """The row with another text in the last message of the role."""
    at = max(number for number, message in enumerate(row.messages) if message.role == role)
    said = msgspec.structs.replace(row.messages[at], content=change(row.messages[at].content))
    return msgspec.structs.replace(row, messages=(*row.messages[:at], said, *row.messages[at + 1 :]))
