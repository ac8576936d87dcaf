"""The lexical guard against scikit-learn's TF-IDF and logistic regression on words counted by a plain loop."""

from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from offmap.detectors import LexicalGuard
from offmap.features import ROLE_NAMES

SAID = {"prompt": ("system", "user", "tool"), "reply": ("assistant",)}


@pytest.fixture
def words(chosen):
    """How often each token, and each pair of neighbours, was said in every row."""

    def count(x, over="conversation", pairs=True):
        rows = []
        for span in chosen(x, over):
            roles = SAID.get(over, (over,))
            heard = [at for at in span if over == "conversation" or ROLE_NAMES[x.tokens.roles[at]] in roles]
            ids = {at: int(x.tokens.ids[at]) for at in heard}
            row = Counter(str(word) for word in ids.values())
            if pairs:
                row.update(f"{word} {ids[at + 1]}" for at, word in ids.items() if at + 1 in ids)
            rows.append(row)
        return rows

    return count


@pytest.fixture
def both(talk):
    """Safe and unsafe rows that share most of their words, and new rows with words that neither said."""
    safe, unsafe, new = talk(60, seed=0), talk(25, seed=1), talk(30, seed=2)
    unsafe.tokens.ids[::3] += 3
    new.tokens.ids[::4] += 5
    return safe, unsafe, new


def one_row(token_rows, *said):
    """A row for each list of token ids, all said by the user."""
    return token_rows([[("user", 0, word, -1.0, 1.0, 1.0) for word in row] for row in said])


def design(safe, unsafe):
    vectorizer, tfidf = DictVectorizer(), TfidfTransformer(sublinear_tf=True)
    x = tfidf.fit_transform(vectorizer.fit_transform([*safe, *unsafe]))
    return vectorizer, tfidf, x, np.repeat([0, 1], [len(safe), len(unsafe)])


def sklearn_head(x, y, strength):
    model = LogisticRegression(C=1 / (strength * len(y)), class_weight="balanced", tol=1e-10, max_iter=20000)
    return model.fit(x, y)


@pytest.mark.parametrize("over", ["conversation", "assistant", "prompt", "reply"])
@pytest.mark.parametrize(("pairs", "strength"), [(True, 1e-2), (True, 1e-5), (False, 1e-3)])
def test_logits_are_scikit_learns(over, pairs, strength, both, words, same_alone):
    safe, unsafe, new = both
    vectorizer, tfidf, x, y = design(words(safe, over, pairs), words(unsafe, over, pairs))
    model = sklearn_head(x, y, strength)
    fitted = LexicalGuard(over, pairs, (strength,)).fit(safe, unsafe)
    assert np.count_nonzero(fitted.idf) == len(vectorizer.vocabulary_)  # no two of them share a column
    wanted = model.decision_function(tfidf.transform(vectorizer.transform(words(new, over, pairs))))
    assert np.ptp(wanted) > 1
    np.testing.assert_allclose(fitted.score(new), wanted, atol=2e-3 * np.abs(wanted).max(), rtol=0)
    same_alone(fitted, new)


def test_the_strength_is_that_of_the_lowest_held_out_loss(both, words):
    strengths = (1.0, 1e-2, 1e-4, 1e-7)
    safe, unsafe, _ = both
    _, _, x, y = design(words(safe), words(unsafe))
    losses = np.zeros(len(strengths))
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(x, y):
        for i, strength in enumerate(strengths):
            logits = sklearn_head(x[train], y[train], strength).decision_function(x[test])
            margins = np.where(y[test] == 1, 1, -1) * logits
            losses[i] += sum(np.logaddexp(0, -margins[y[test] == label]).mean() for label in (0, 1))
    best = int(np.argmin(losses))
    assert 0 < best < 3  # not merely the first or the last
    fitted = LexicalGuard(strengths=strengths).fit(safe, unsafe)
    assert fitted.strength == strengths[best]
    alone = LexicalGuard(strengths=(strengths[best],)).fit(safe, unsafe)
    np.testing.assert_array_equal(fitted.weights, alone.weights)


def test_of_equal_strengths_the_stronger_is_taken(token_rows):
    silent = token_rows([[("template", -1, 1, -1.0, 1.0, 1.0)]] * 4)
    guard = LexicalGuard("user", strengths=(1e-3, 10.0, 0.1))
    assert guard.fit(silent, silent).strength == 10.0


def test_pairs_tell_the_order_of_words(token_rows):
    safe, unsafe = one_row(token_rows, *[[1, 2, 9]] * 3), one_row(token_rows, *[[2, 1, 9]] * 3)
    new = one_row(token_rows, [1, 2], [2, 1])
    first, second = LexicalGuard(strengths=(1e-4,)).fit(safe, unsafe).score(new)
    assert first < -1 < 1 < second
    first, second = LexicalGuard(pairs=False, strengths=(1e-4,)).fit(safe, unsafe).score(new)
    assert first == second == pytest.approx(0, abs=1e-6)


def test_pairs_cross_neither_rows_nor_tokens_that_do_not_count(token_rows):
    singles = one_row(token_rows, [1], [2], [3], [4])
    assert np.count_nonzero(LexicalGuard().fit(singles, singles).idf) == 4
    broken = [("user", 0, 1, -1.0, 1.0, 1.0), ("assistant", 1, 7, -1.0, 1.0, 1.0), ("user", 2, 2, -1.0, 1.0, 1.0)]
    rows = token_rows([broken, broken])
    assert np.count_nonzero(LexicalGuard("user").fit(rows, rows).idf) == 2
    assert np.count_nonzero(LexicalGuard().fit(rows, rows).idf) == 3 + 2


def test_hashing_spreads_a_large_vocabulary_as_chance_would(token_rows):
    rng, n = np.random.default_rng(0), 30_000
    row = one_row(token_rows, rng.permutation(50_000)[:n].tolist(), [1])
    fitted = LexicalGuard(strengths=(1.0,)).fit(row, row)
    size = len(fitted.idf)
    by_chance = size * (1 - (1 - 1 / size) ** (2 * n))
    assert np.count_nonzero(fitted.idf) > 0.98 * by_chance


def test_a_row_in_which_nothing_known_was_said_gets_the_intercept(both, token_rows):
    safe, unsafe, _ = both
    for over in ("conversation", "tool"):
        fitted = LexicalGuard(over).fit(safe, unsafe)
        strange = token_rows([[], [("user", 0, 999, -1.0, 1.0, 1.0)]])
        np.testing.assert_array_equal(fitted.score(strange), [fitted.intercept] * 2)


def test_rows_without_a_word_anywhere_teach_nothing(token_rows):
    silent = token_rows([[], [("template", -1, 3, -1.0, 1.0, 1.0)]])
    assert LexicalGuard("assistant").fit(silent, silent).score(silent) == pytest.approx([0, 0], abs=1e-6)


def test_two_rows_of_a_class_are_enough_and_classes_weigh_the_same(token_rows):
    safe, unsafe = one_row(token_rows, *[[1, 1, 2]] * 40), one_row(token_rows, [1, 3, 3], [3, 1, 1])
    fitted = LexicalGuard(pairs=False).fit(safe, unsafe)
    low, high = fitted.score(one_row(token_rows, [2], [3]))
    assert low < 0 < high
    np.testing.assert_allclose(LexicalGuard(pairs=False, strengths=(1e6,)).fit(safe, unsafe).intercept, 0, atol=1e-4)


def test_a_restored_guard_gives_the_same_scores_and_the_seed_decides_only_the_folds(both):
    safe, unsafe, new = both
    guard = LexicalGuard("prompt", seed=3)
    fitted = guard.fit(safe, unsafe)
    again = guard.restore(fitted.arrays())
    np.testing.assert_array_equal(again.score(new), fitted.score(new))
    assert (again.strength, again.intercept) == (fitted.strength, fitted.intercept)
    one, other = (LexicalGuard(strengths=(1e-3,), seed=seed).fit(safe, unsafe) for seed in (0, 1))
    np.testing.assert_array_equal(one.score(new), other.score(new))


def test_wrong_use_is_named(both):
    safe, unsafe, _ = both
    with pytest.raises(ValueError, match="over='all': wanted"):
        LexicalGuard("all")
    for strengths in ((), (0.0,), (1e-3, -1.0), (float("nan"),)):
        with pytest.raises(ValueError, match="strengths="):
            LexicalGuard(strengths=strengths)
    with pytest.raises(ValueError, match="0 unsafe rows to fit on: wanted at least 2"):
        LexicalGuard().fit(safe)
    with pytest.raises(ValueError, match="1 safe rows to fit on: wanted at least 2"):
        LexicalGuard().fit(safe.take([3]), unsafe)
