"""Conversations as token columns, and the plain loop that says which of their tokens a detector reads."""

import numpy as np
import pytest

from offmap.features import ROLE_CODE, ROLE_NAMES, Features, TokenColumns, TokenStat


def _features(rows):
    """Features of rows given as lists of (role, turn, token id, logprob, entropy, spread)."""
    flat = [token for row in rows for token in row]
    roles, turns, ids, *stats = zip(*flat, strict=True) if flat else [()] * 6
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    codes = np.array([ROLE_CODE[role] for role in roles], np.int8)
    columns = {
        stat: np.array(column, np.float32)
        for stat, column in zip((TokenStat.LOGPROB, TokenStat.ENTROPY, TokenStat.SPREAD), stats, strict=True)
    }
    starts = np.zeros(len(flat), np.int32)
    tokens = TokenColumns(offsets, np.array(ids, np.int32), codes, np.array(turns, np.int16), starts, columns)
    n, none = len(rows), np.zeros(len(rows), np.int32)
    lengths = np.array([len(row) + 1 for row in rows], np.int32)
    return Features(tuple(map(str, range(n))), ("",) * n, lengths, none, none, none.astype(bool), {}, tokens)


def _talk(n, seed, longest=12):
    """Rows of up to five turns of any role, the template between them; the first two without and with little to say."""
    rng = np.random.default_rng(seed)

    def numbers():
        return int(rng.integers(0, 9)), -rng.gamma(2.0), rng.gamma(2.0), rng.gamma(2.0) * rng.integers(0, 2)

    rows = [[], [("template", -1, *numbers())]]
    while len(rows) < n:
        row = []
        for turn in range(rng.integers(1, 6)):
            role = ROLE_NAMES[rng.integers(1, 5)]
            row += [("template", -1, *numbers())] * int(rng.integers(0, 2))
            row += [(role, turn, *numbers()) for _ in range(rng.integers(1, longest))]
        rows.append(row)
    return _features(rows)


def _chosen(x, over):
    """For each row the positions of the tokens that ``over`` names, all of the row where there are none."""
    found = []
    for row in range(len(x)):
        span = range(x.tokens.offsets[row], x.tokens.offsets[row + 1])
        role = {at: ROLE_NAMES[x.tokens.roles[at]] for at in span}
        last = max((x.tokens.turns[at] for at in span if role[at] == "assistant"), default=None)
        keep = {
            "conversation": lambda at, role=role: True,
            "prompt": lambda at, role=role: role[at] in ("system", "user", "tool"),
            "reply": lambda at, role=role, last=last: role[at] == "assistant" and x.tokens.turns[at] == last,
        }.get(over, lambda at, role=role: role[at] == over)
        found.append([at for at in span if keep(at)] or list(span))
    return found


def _excess(x):
    """(s - H) / sigma of every token, in plain Python."""
    logprob, entropy, spread = (
        x.tokens.stats[stat].tolist() for stat in (TokenStat.LOGPROB, TokenStat.ENTROPY, TokenStat.SPREAD)
    )
    return [(-p - h) / max(s, 0.01) for p, h, s in zip(logprob, entropy, spread, strict=True)]


@pytest.fixture(scope="session")
def token_rows():
    return _features


@pytest.fixture(scope="session")
def talk():
    return _talk


@pytest.fixture(scope="session")
def chosen():
    return _chosen


@pytest.fixture(scope="session")
def excess():
    return _excess


@pytest.fixture(scope="session")
def same_alone():
    """Holds a fitted detector to scores that do not depend, to the last bit, on the other rows."""

    def check(fitted, x):
        single = [fitted.score(x.take([row]))[0] for row in range(len(x))]
        np.testing.assert_array_equal(fitted.score(x), single)

    return check
