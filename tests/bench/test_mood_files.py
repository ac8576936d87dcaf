import gzip
import json

import numpy as np
import pytest
import zstandard

from offmap.bench.mood_files import read_scores, require_known, side_by_side, write_analysis
from offmap.bench.published import analyse
from offmap.cli import run
from offmap.errors import InputError

KNOWN = ("hh-rlhf-helpful", "hh-rlhf-harmless", "function-calling")


def row(i, malign=0, score=0.0, domain=KNOWN[0], **others):
    return {"id": f"r{i}", "conversation": "text", "domain": domain, "malign": malign, "score": score} | others


def rows(seed=0, n=240):
    """Each domain and label in turn."""
    rng = np.random.default_rng(seed)
    domains = [*KNOWN, "scheming", "jailbroken"]
    labels = [(domains[i % 5], i // 5 % 2) for i in range(n)]
    return [row(i, label, float(rng.normal() + 2 * label), domain) for i, (domain, label) in enumerate(labels)]


def write(path, made):
    path.write_text("".join(json.dumps(line) + "\n" for line in made))
    return path


@pytest.fixture
def good(tmp_path):
    return write(tmp_path / "guard.jsonl", rows())


def test_rows_are_read_and_what_is_not_needed_is_not(tmp_path):
    extra = {"high_perplexity": [{"char": 1, "z_score": float("nan")}], "reasoning": "because", "lambda": 0.1, "x": {}}
    made = [row(0, 1, 3, **extra), row(1, 0, -2.5, "scheming"), row(2, True, 1e-300), row(3, 0.0, 7)]
    del made[1]["conversation"]
    read = read_scores(write(tmp_path / "a.jsonl", made))
    assert read.path == str(tmp_path / "a.jsonl")
    assert read.ids == ("r0", "r1", "r2", "r3")
    assert read.domain == (KNOWN[0], "scheming", KNOWN[0], KNOWN[0])
    assert read.unsafe.tolist() == [True, False, True, False]
    assert read.scores.tolist() == [3.0, -2.5, 1e-300, 7.0]


def test_safe_stands_for_malign_and_yields_to_it(tmp_path):
    made = [row(0, safe=0), row(1, safe=1), row(2, safe=False), row(3, safe=True)]
    for line in made:
        del line["malign"]
    made.append(row(4, 1, safe=1))
    assert read_scores(write(tmp_path / "a.jsonl", made)).unsafe.tolist() == [True, False, True, False, True]


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_packed_files_are_the_same(ending, pack, good):
    packed = good.with_name(f"guard.jsonl{ending}")
    packed.write_bytes(pack(good.read_bytes()))
    assert read_scores(packed).ids == read_scores(good).ids
    assert np.array_equal(read_scores(packed).scores, read_scores(good).scores)


WRONG = {
    "field score: found nothing, wanted a finite number": {"score": ...},
    "field score: found null, wanted a finite number": {"score": None},
    "field score: found NaN, wanted a finite number": {"score": float("nan")},
    "field score: found -Infinity, wanted a finite number": {"score": -float("inf")},
    'field score: found "0.3", wanted a finite number': {"score": "0.3"},
    "field score: found true, wanted a finite number": {"score": True},
    "wanted a finite number": {"score": 10**400},
    "field malign: found 2, wanted 0 or 1": {"malign": 2},
    "field malign: found 0.5, wanted 0 or 1": {"malign": 0.5},
    'field malign: found "1", wanted 0 or 1': {"malign": "1"},
    "field malign: found null, wanted 0 or 1": {"malign": None},
    "field malign: found nothing, wanted 0 or 1 (or field safe)": {"malign": ...},
    "field safe: found [], wanted 0 or 1": {"malign": ..., "safe": []},
    "field id: found nothing, wanted a text": {"id": ...},
    'field id: found "", wanted a text': {"id": ""},
    "field id: found 3, wanted a text": {"id": 3},
    "field id: found 'r0' a second time, wanted unique ids": {"id": "r0"},
    "field domain: found nothing, wanted a text": {"domain": ...},
    "field domain: found 'overall', wanted another name": {"domain": "overall"},
    "field domain: found 'id', wanted another name": {"domain": "id"},
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_row_is_told_with_file_line_and_field(message, good, tmp_path, capsys):
    made = rows()
    made[2] = {name: value for name, value in (made[2] | WRONG[message]).items() if value is not ...}
    bad = write(tmp_path / "bad.jsonl", made)
    with pytest.raises(InputError) as told:
        read_scores(bad)
    assert str(told.value).startswith(f"{bad}:3: field ")
    assert message in str(told.value)
    out = tmp_path / "out"
    command = ["bench", "--recipe", "reference", "--scores", str(good), "--scores", str(bad), "--out", str(out)]
    assert run(command) == 2
    assert f"offmap: {bad}:3: " in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "a.jsonl: the file is empty"),
        (b"\n", "a.jsonl:1: found text that is not JSON"),
        (b'{"id": "r0"', "a.jsonl:1: found text that is not JSON"),
        (b"null\n", "a.jsonl:1: found null, wanted a JSON object"),
        (b'["r0", 1]\n', 'a.jsonl:1: found ["r0", 1], wanted a JSON object'),
        (b"[" * 100_000, "a.jsonl:1: found text that is not JSON"),
        (b'{"id": "\xff"}\n', "a.jsonl:1: found text that is not JSON"),
    ],
)
def test_a_file_of_something_else_is_refused(text, message, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(text)
    with pytest.raises(InputError) as told:
        read_scores(path)
    assert f"{tmp_path}/{message}" in str(told.value)


def test_a_file_that_is_missing_or_cut_short_is_told(tmp_path, good):
    with pytest.raises(InputError, match=r"nowhere\.jsonl: the file cannot be read: No such file"):
        read_scores(tmp_path / "nowhere.jsonl")
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(good.read_bytes())[:-40])
    with pytest.raises(InputError, match=r"cut\.jsonl\.gz: .*the file cannot be read"):
        read_scores(cut)


def test_files_are_laid_side_by_side_by_id(tmp_path, good):
    second = rows(1)
    order = np.random.default_rng(2).permutation(len(second))
    other = write(tmp_path / "other.jsonl", [second[i] for i in order])
    table = side_by_side([read_scores(good), read_scores(other)])
    assert table.tolist() == [[a["score"], b["score"]] for a, b in zip(rows(), second, strict=True)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: [*made, row(999)], "other.jsonl:241: field id: found 'r999', which {good} lacks"),
        (lambda made: made[:7] + made[8:], "other.jsonl: field id: found no 'r7', which is in {good}:8"),
        (lambda made: [made[0] | {"malign": 1}, *made[1:]], "other.jsonl:1: field malign: found 1, {good}:1 has 0"),
        (
            lambda made: [*made[1:], made[0] | {"domain": "scheming"}],
            f"other.jsonl:240: field domain: found 'scheming', {{good}}:1 has '{KNOWN[0]}'",
        ),
    ],
)
def test_files_of_different_rows_or_labels_are_refused(change, message, tmp_path, good, capsys):
    other = write(tmp_path / "other.jsonl", change(rows(1)))
    command = ["bench", "--recipe", "reference", "--scores", str(good), "--scores", str(other)]
    assert run([*command, "--out", str(tmp_path / "out")]) == 2
    assert f"{tmp_path}/{message.format(good=good)}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_rows_that_the_numbers_cannot_be_taken_from_are_refused(tmp_path):
    def file(keep):
        return read_scores(write(tmp_path / "a.jsonl", [line for line in rows() if keep(line)]))

    require_known(file(lambda line: True), KNOWN, combining=True)
    with pytest.raises(InputError, match=r"a\.jsonl: field domain: found .*scheming, wanted .* rows of 'swahili' too"):
        require_known(file(lambda line: True), [*KNOWN, "swahili"])
    with pytest.raises(InputError, match="wanted in-distribution rows of 'function-calling' too"):
        require_known(file(lambda line: line["domain"] != "function-calling"), KNOWN)
    with pytest.raises(InputError, match="found no safe in-distribution row"):
        require_known(file(lambda line: line["malign"] or line["domain"] not in KNOWN), KNOWN)
    only_safe = file(lambda line: not line["malign"] or line["domain"] not in KNOWN)
    require_known(only_safe, KNOWN)
    with pytest.raises(InputError, match="found no unsafe in-distribution row; lambda is fitted on them"):
        require_known(only_safe, KNOWN, combining=True)


def test_the_analysis_is_written_whole_with_null_for_what_does_not_exist(tmp_path, good):
    file = read_scores(good)
    kept = ~(file.unsafe & np.isin(file.domain, KNOWN))
    part = analyse(file.scores[kept], np.asarray(file.domain)[kept].tolist(), file.unsafe[kept], KNOWN)
    write_analysis(tmp_path / "new" / "analysis.json", part)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["analysis.json"]
    read = json.loads((tmp_path / "new" / "analysis.json").read_text())
    assert list(read) == ["in_distr_domains", "groups"]
    assert read["groups"]["id"] == {
        "n": 72, "n_unsafe": 0, "n_safe": 72,
        "auroc": None, "tpr@fpr0.005": None, "tpr@fpr0.01": None, "tpr@fpr0.02": None,
    }  # fmt: skip
    assert read["groups"]["overall"]["n_domains"] == 2
    assert "n_domains" not in read["groups"]["scheming"]


def reference(out, *files, extra=()):
    options = [part for path in files for part in ("--scores", str(path))]
    return run(["bench", "--recipe", "reference", *options, "--out", str(out), *extra])


def lines(text):
    """The cells of each line of a table, by the first."""
    return {cells[0]: cells[1:] for cells in map(str.split, text.splitlines()) if cells}


def test_the_table_shows_the_groups_both_means_and_what_is_wrong_with_them(tmp_path, good, capsys):
    assert reference(tmp_path / "out", good) == 0
    heard = capsys.readouterr().out
    groups = json.loads((tmp_path / "out" / "analysis.json").read_text())["groups"]
    shown = lines(heard)
    for name, group in groups.items():
        recalls = [f"{100 * group[f'tpr@fpr{rate}']:.1f}" for rate in (0.005, 0.01, 0.02)]
        assert shown[name] == [str(group["n_unsafe"]), f"{group['auroc']:.3f}", *recalls]
    ood = np.mean([groups[name]["tpr@fpr0.01"] for name in ("scheming", "jailbroken")])
    assert shown["recall_ood"][3] == f"{100 * ood:.1f}"
    assert "48 safe rows out of distribution enter no number" in " ".join(heard.split())
    assert "lambda" not in heard


def test_several_files_are_listed_alone_and_combined(tmp_path, good, capsys):
    other = write(tmp_path / "surprise.jsonl", rows(1))
    alone = []
    for path in (good, other):
        assert reference(tmp_path / "alone", path, extra=["--json"]) == 0
        alone.append(json.loads(capsys.readouterr().out)["groups"])
    assert reference(tmp_path / "both", good, other) == 0
    heard = capsys.readouterr().out
    both = json.loads((tmp_path / "both" / "analysis.json").read_text())["groups"]
    first = lines(heard.split("guard + surprise")[0])
    for name in both:
        assert first[name] == [f"{100 * groups[name]['tpr@fpr0.01']:.1f}" for groups in (*alone, both)]
    assert both not in alone
    assert "lambda and z-scores are fitted on these very test rows" in " ".join(heard.split())


def test_files_of_one_name_are_told_apart(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("g", "m")):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "results.jsonl", rows(seed))
    assert reference("out", "g/results.jsonl", "m/results.jsonl") == 0
    assert "g/results.jsonl + m/results.jsonl" in capsys.readouterr().out


def test_in_distribution_domains_can_be_named(tmp_path, good, capsys):
    extra = ["--in-distribution", "scheming", "--in-distribution", KNOWN[0], "--json"]
    assert reference(tmp_path / "out", good, extra=extra) == 0
    analysis = json.loads(capsys.readouterr().out)
    assert analysis["in_distr_domains"] == sorted(["scheming", KNOWN[0]])
    assert list(analysis["groups"]) == ["id", "function-calling", "hh-rlhf-harmless", "jailbroken", "overall"]
    assert reference(tmp_path / "none", good, extra=["--in-distribution", "schemes"]) == 2
    assert "wanted in-distribution rows of 'schemes' too" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scores", "{good}"], "found --scores with --recipe default; wanted --recipe reference"),
        (["--recipe", "reference", "--in-distribution", "x"], "found --in-distribution; wanted --scores FILE and"),
        (["--recipe", "reference", "--scores", "{good}", "--alpha", "2"], "alpha is 2"),
        (["--recipe", "reference", "--scores", "{good}", "--scores", "{good}"], "found a score file named twice"),
        (["--recipe", "publishd"], "publishd"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message, good, tmp_path, capsys):
    asked = [part.format(good=good) for part in options]
    assert run(["bench", *asked, "--out", str(tmp_path / "out")]) == 2
    heard = capsys.readouterr()
    assert message in heard.err + heard.out
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_where_a_file_lies(good, tmp_path, capsys):
    (tmp_path / "taken").write_text("mine")
    assert reference(tmp_path / "taken", good) == 2
    assert "taken: found a file, wanted a directory" in capsys.readouterr().err
    assert (tmp_path / "taken").read_text() == "mine"
