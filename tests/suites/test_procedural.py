import collections
import importlib
import itertools
import os
import random
import re
import subprocess
import sys

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from offmap.conversation import Message
from offmap.suites.procedural import DOMAINS, FAILURES, IN_DISTRIBUTION, SHIFTS, generate, load
from offmap.suites.procedural.build import maker
from offmap.suites.procedural.frames import bank, count, say, twins

PRODUCT = re.compile(r"(?<![\d.:-])(\d+(?: [-+x/] \d+)*) = (\d+)")


@pytest.fixture(scope="module")
def suite():
    return load()


def text(row):
    return "\n".join(f"{message.role}: {message.text}" for message in row.messages)


def replies(row):
    return "\n".join(message.content for message in row.messages if message.role == "assistant")


def asked(row):
    return "\n".join(message.content for message in row.messages if message.role == "user")


def pairs(rows):
    by_pair = collections.defaultdict(dict)
    for row in rows:
        if row.pair:
            by_pair[row.pair][row.unsafe] = row
    return by_pair


def evaluate(expression):
    """Left to right within a term, terms added up: enough for sums that never mix more than * and / in a term."""
    value = 0
    for sign, term in re.findall(r"(^|[-+]) ?([^-+]+)", expression):
        numbers = term.split()
        product = int(numbers[0])
        for operator, number in zip(numbers[1::2], numbers[2::2], strict=True):
            assert operator == "x" or product % int(number) == 0
            product = product * int(number) if operator == "x" else product // int(number)
        value += -product if sign == "-" else product
    return value


def test_the_suite_is_what_it_says(suite):
    assert suite.name == "procedural"
    assert suite.licence == "Apache-2.0"
    assert suite.in_distribution == tuple(sorted(IN_DISTRIBUTION))
    assert suite.failures == tuple(sorted(FAILURES))
    assert {row.domain for row in suite.test} == set(DOMAINS)
    assert {row.domain for row in suite.train if row.unsafe} == {"harmless"}
    assert not any(row.unsafe for row in suite.test if row.domain in (*SHIFTS, "helpful", "function-calling"))
    assert all(row.unsafe is not None and row.kind and row.messages for row in (*suite.train, *suite.test))


def test_sizes(suite):
    train = collections.Counter(row.domain for row in suite.train)
    test = collections.Counter((row.domain, row.unsafe) for row in suite.test)
    assert (train["helpful"], train["function-calling"]) == (1200, 1200)
    assert 1000 <= train["harmless"] <= 1200
    assert all(test[domain, True] >= 100 for domain in FAILURES)
    assert test["swahili", False] == 150


def test_the_same_seed_makes_the_same_rows_and_another_seed_others():
    small = {"train_helpful": 20, "train_harmless": 20, "train_function_calling": 20, "test_in_distribution": 20}
    small |= {"test_failures": 10, "test_shift": 10}
    assert load(**small) == load(**small)
    first, second = load(**small), load(seed=1, **small)
    assert first.source != second.source
    assert not {row.messages for row in first.train} & {row.messages for row in second.train}


@pytest.mark.parametrize("domain", DOMAINS)
def test_more_rows_do_not_change_the_first(domain):
    few = generate(domain, 8, 3)
    assert generate(domain, 16, 3)[: len(few)] == few


def test_no_conversation_is_told_twice_and_none_is_asked_in_both_halves(suite):
    rows = (*suite.train, *suite.test)
    assert len({row.messages for row in rows}) == len(rows)
    assert len({row.id for row in rows}) == len(rows)
    assert not {asked(row) for row in suite.train} & {asked(row) for row in suite.test}


@pytest.mark.parametrize("domain", DOMAINS)
def test_generated_rows_are_in_no_test_set(domain, suite):
    told = {asked(row) for row in suite.test if row.domain == domain}
    assert not told & {asked(row) for row in generate(domain, 60, 7)}


def test_twins_are_one_situation_with_two_endings(suite):
    for name, sides in pairs((*suite.train, *suite.test)).items():
        assert set(sides) == {False, True}
        safe, unsafe = sides[False], sides[True]
        assert (safe.id, unsafe.id) == (f"{name}-safe", f"{name}-unsafe")
        assert (safe.domain, safe.kind) == (unsafe.domain, unsafe.kind)
        assert safe.messages != unsafe.messages


@pytest.mark.parametrize("domain", ["harmless", "jailbroken", "controlling"])
def test_twins_differ_in_what_the_assistant_says_and_nowhere_else(domain, suite):
    rows = [row for row in suite.test if row.domain == domain]
    for sides in pairs(rows).values():
        others = [[m for m in row.messages if m.role != "assistant"] for row in sides.values()]
        assert others[0] == others[1]
        assert replies(sides[False]) != replies(sides[True])


def test_there_is_a_pair_for_every_failure(suite):
    for domain in FAILURES:
        rows = [row for row in suite.test if row.domain == domain]
        assert all(row.pair for row in rows if row.unsafe)


@pytest.mark.parametrize("domain", DOMAINS)
def test_each_domain_has_many_frames_and_all_are_spelled_right(domain):
    banks = importlib.import_module(maker(domain).__module__).BANKS
    assert count(*banks) >= 200
    rows = generate(domain, 100, 11)
    assert not [row.id for row in rows if re.search(r"\{[a-z_0-9]+\}|¶|\[[^\[\]\n\"{}]*\|[^\[\]\n\"{}]*\]", asked(row))]


@pytest.mark.parametrize("domain", ["helpful", "harmless", "jailbroken", "controlling"])
def test_no_reply_shows_a_frame_left_unfilled(domain):
    for row in generate(domain, 300, 12):
        assert not re.search(r"\{\w+\}|[¶~]|\w\|\w|  ", replies(row)), replies(row)
        assert all(message.content.strip() for message in row.messages)


def test_all_sums_in_helpful_are_right(suite):
    rows = [row for row in (*suite.train, *suite.test) if row.domain == "helpful"]
    sums = [found for row in rows for found in PRODUCT.findall(replies(row))]
    assert len(sums) > 500
    assert [(left, right) for left, right in sums if evaluate(left) != int(right)] == []


def test_totals_are_what_was_ordered():
    rows = [row for row in generate("helpful", 400, 5) if row.kind == "arithmetic"]
    for row in rows:
        at = next(n for n, message in enumerate(row.messages) if re.search(r"\d+ \w+ at \d+", message.content))
        ordered = re.findall(r"(\d+) \w+ at (\d+)", row.messages[at].content)
        assert re.search(rf"\b{sum(int(n) * int(price) for n, price in ordered)}\b", row.messages[at + 1].content)
    assert len(rows) > 15


def test_budgets_hold_and_no_choice_has_more_pieces():
    rows = [row for row in generate("helpful", 3000, 5) if row.kind == "shopping"]
    for row in rows:
        wanted = {name: int(price) for name, price in re.findall(r"an? (\w+) \((\d+)\)", asked(row))}
        budget = int(re.search(r"budget of (\d+)", asked(row), re.IGNORECASE).group(1))
        taken = [name for name in wanted if f"the {name}" in replies(row)]
        best = max(n for n in range(len(wanted) + 1) if sum(sorted(wanted.values())[:n]) <= budget)
        assert sum(wanted[name] for name in taken) <= budget
        assert len(taken) == best
    assert len(rows) > 100


def test_routes_are_the_shortest():
    rows = [row for row in generate("helpful", 600, 5) if row.kind == "route"]
    for row in rows:
        roads = {frozenset(pair): int(km) for *pair, km in re.findall(r"(\w+) to (\w+) (\d+) km", asked(row))}
        way = re.search(r"\w+(?: - [A-Z]\w+)+", replies(row)).group().split(" - ")
        length = sum(roads[frozenset(leg)] for leg in itertools.pairwise(way))
        inner = set().union(*roads) - {way[0], way[-1]}
        ways = [(way[0], *middle, way[-1]) for n in range(3) for middle in itertools.permutations(inner, n)]
        assert length == min(sum(roads[frozenset(leg)] for leg in itertools.pairwise(other)) for other in ways)
    assert len(rows) > 15


def test_timetables_add_up():
    rows = [row for row in generate("helpful", 600, 5) if row.kind == "schedule"]
    for row in rows:
        lengths = [int(n) for n in re.findall(r"\((\d+) minutes\)", asked(row))]
        lines = re.findall(r"(\d\d):(\d\d)-(\d\d):(\d\d)", replies(row))
        minutes = [(int(h) * 60 + int(m), int(k) * 60 + int(n)) for h, m, k, n in lines]
        assert [end - start for start, end in minutes] == lengths
        assert all(end == start for (_, end), (start, _) in itertools.pairwise(minutes))
    assert len(rows) > 15


def test_what_the_notes_do_not_say_is_not_made_up():
    said = 0
    for row in (row for row in generate("helpful", 600, 5) if row.kind == "facts"):
        turns = [message for message in row.messages if message.role in ("user", "assistant")]
        notes = set(re.findall(r"\d{2,}", asked(row)))
        numbers = {
            n for message in turns if message.role == "assistant" for n in re.findall(r"\d{2,}", message.content)
        }
        assert numbers <= notes
        said += len(numbers)
    assert said > 20


def test_twin_replies_are_of_like_length(suite):
    for domain in ("jailbroken", "controlling"):
        rows = [row for row in suite.test if row.domain == domain]
        lengths = [len(replies(row)) for row in rows]
        assert abs(roc_auc_score([row.unsafe for row in rows], lengths) - 0.5) < 0.12, domain


def test_words_solve_no_failure(suite):
    """Bag of words, trained on the in-distribution domains: good there, blind elsewhere."""
    words = TfidfVectorizer(min_df=2, sublinear_tf=True)
    model = LogisticRegression(C=10, max_iter=1000)
    model.fit(words.fit_transform(text(row) for row in suite.train), [row.unsafe for row in suite.train])
    scores = model.decision_function(words.transform(text(row) for row in suite.test))
    domain = np.array([row.domain for row in suite.test])
    unsafe = np.array([row.unsafe for row in suite.test])
    known = np.isin(domain, IN_DISTRIBUTION)
    threshold = np.quantile(scores[known & ~unsafe], 0.99)
    assert 0.3 < np.mean(scores[known & unsafe] > threshold) < 0.98
    for failure in FAILURES:
        here = domain == failure
        assert np.mean(scores[here & unsafe] > threshold) <= 0.06, failure
        assert roc_auc_score(unsafe[here], scores[here]) < 0.68, failure


def test_frames_choose_fill_and_count():
    frames = bank("[a|b] {x} [c|d|e]\n\n[left out] stays¶here")
    assert count(frames) == 7
    told = {say(random.Random(seed), frames, x="[1|2]") for seed in range(200)}
    expected = {f"{a} [1|2] {b}" for a in "ab" for b in "cde"} | {"[left out] stays\nhere"}
    assert told == expected


def test_nested_choices_are_counted_once():
    assert count(("[a|b [c|d]] [e|]",)) == 6
    assert len({say(random.Random(seed), ("[a|b [c|d]] [e|]",)) for seed in range(300)}) == 6


def test_twins_choose_alike_where_they_do_not_differ():
    for seed in range(50):
        safe, unsafe = twins(random.Random(seed), ("[x|y|z] <is~is not> {w} [p|q]",), w="~")
        assert unsafe == safe.replace("is", "is not")


def test_an_unknown_domain_is_named():
    with pytest.raises(ValueError, match="no procedural domain 'helpfull'; there are helpful, harmless"):
        generate("helpfull", 1, 0)


def test_running_out_of_situations_is_said(monkeypatch):
    module = importlib.import_module(maker("helpful").__module__)
    case = module.Case("one", safe=(Message(role="user", content="hi"), Message(role="assistant", content="hi")))
    monkeypatch.setattr(module, "make", lambda _: case)
    with pytest.raises(ValueError, match="ask for fewer rows"):
        generate("helpful", 2, 0)


def test_rows_do_not_depend_on_the_process():
    code = (
        "import hashlib, msgspec; from offmap.suites.procedural import DOMAINS, generate;"
        "rows = [generate(domain, 60, 3) for domain in DOMAINS];"
        "print(hashlib.sha256(msgspec.json.encode(rows)).hexdigest())"
    )
    made = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(made) == 1
