"""Synthetic data against the real sets: the same formats and lengths, arithmetic checked in exact fractions."""
import collections
import json
import re
import statistics
from fractions import Fraction

import pytest


def quantiles(values):
    values = sorted(values)
    return {"mean": statistics.mean(values), **{q: values[len(values) * q // 100] for q in (5, 25, 50, 75, 95, 99)}}


def show(what, real, made):
    print(f"\n{what}: " + ", ".join(f"{k} {real[k]:.4g} / {made[k]:.4g}" for k in real), end="")


def evaluate(text):
    """Products before sums, in fractions."""
    total = Fraction(0)
    for sign, product in re.findall(r"(^|[-+])([^-+]+)", text):
        factors = re.findall(r"(^|[*/])([0-9.]+)", product)
        value = Fraction(1)
        for op, x in factors:
            value = value / Fraction(x) if op == "/" else value * Fraction(x)
        total += -value if sign == "-" else value
    return total


def parse(text):
    rows = []
    for line in text.split("\n"):
        if line:
            question, rest = line.split("||", 1)
            trace, answer = rest.rsplit("####", 1)
            rows.append((question.strip(), trace.strip(), answer.strip()))
    return rows


@pytest.fixture(scope="module")
def made(rotoscope):
    def rows(like, n):
        return rotoscope("init-data", "--like", like, "--rows", n, "--seed", 2, "-o", "-").stdout.decode()

    return rows


@pytest.mark.parametrize("like", ["gsm8k-aug", "arithmetic"])
def test_every_equation_is_exact_and_the_last_is_the_answer(made, like):
    rows = parse(made(like, 20000))
    assert len(rows) == 20000
    for question, trace, answer in rows:
        last = None
        for left, right in re.findall(r"<<([^=]+)=([^>]+)>>", trace):
            assert evaluate(left) == Fraction(right), trace
            last = right
        assert last in (None, answer), trace
        if last is None:
            assert answer in question


def test_lengths_are_those_of_gsm8k_aug(made, shared):
    files = [shared / "data/gsm8k_aug" / name for name in ("valid.txt", "test.txt")]
    real = parse("\n".join(f.read_text(encoding="utf-8") for f in files))
    ours = parse(made("gsm8k-aug", 40000))
    for what, column, tolerance in (("trace", 1, 0.12), ("question", 0, 0.16)):
        a, b = (quantiles([len(row[column]) for row in rows]) for rows in (real, ours))
        show(f"{what} characters, real / made", a, b)
        for key in a:
            assert abs(b[key] / a[key] - 1) < tolerance, (what, key, a, b)
    a, b = (quantiles([len(e) for row in rows for e in row[1].split()]) for rows in (real, ours))
    show("characters of an equation, real / made", a, b)
    assert abs(b["mean"] / a["mean"] - 1) < 0.1
    empty_real, empty_made = (sum(not row[1] for row in rows) / len(rows) for rows in (real, ours))
    assert abs(empty_made - empty_real) < 0.004
    assert set("".join(row[1] for row in ours)) <= set("".join(row[1] for row in real))


def test_solutions_in_words_are_gsm8k(made, shared):
    lines = (shared / "data/gsm8k/train.jsonl").read_text(encoding="utf-8").splitlines()
    real, ours = ([json.loads(line) for line in text] for text in (lines, made("gsm8k", 8000).splitlines()))
    assert set(ours[0]) == {"question", "answer"}
    a, b = (quantiles([len(row["answer"].rsplit("\n", 1)[0]) for row in rows]) for rows in (real, ours))
    show("solution characters, real / made", a, b)
    assert abs(b["mean"] / a["mean"] - 1) < 0.15 and abs(b[50] / a[50] - 1) < 0.15
    for row in ours:
        assert row["answer"].rsplit("\n", 1)[1] == "#### " + re.findall(r"=([0-9.]+)>>", row["answer"])[-1]


def test_graphs_are_prosqa(made, shared):
    folder = shared / "data/prosqa"
    real = [row for name in ("prosqa_valid.json", "prosqa_test.json") for row in json.loads((folder / name).read_text())]
    ours = json.loads(made("prosqa", 3000))
    assert set(real[0]) == set(ours[0])
    for what, size in (("steps", lambda r: len(r["steps"])), ("nodes", lambda r: len(r["idx_to_symbol"])),
                       ("edges", lambda r: len(r["edges"])), ("question", lambda r: len(r["question"]))):
        a, b = (statistics.mean(map(size, rows)) for rows in (real, ours))
        print(f"\n{what}, real / made: {a:.4g} / {b:.4g}", end="")
        assert abs(b / a - 1) < 0.1, what
    for row in ours:
        symbols, below = row["idx_to_symbol"], collections.defaultdict(list)
        for a, b in row["edges"]:
            below[a].append(b)
        far, queue = {row["root"]: 0}, [row["root"]]
        for node in queue:
            for b in below[node]:
                if b not in far:
                    far[b] = far[node] + 1
                    queue.append(b)
        assert far[row["target"]] == len(row["steps"]) and row["neg_target"] not in far
        assert row["answer"] == f"{symbols[row['root']]} is a {symbols[row['target']]}." != row["steps"][-1]
        said = row["question"].split(". ")[:-1]
        assert len(said) == len(row["edges"]) == len(set(said)) and len(set(symbols)) == len(symbols)
        assert all(step.rstrip(".") in said for step in row["steps"])


def test_prontoqa_has_one_answer_along_its_steps(made, shared):
    """The rules are closed over; the person has the property or lacks it, never both, and the steps lead there."""
    ours = json.loads(made("prontoqa", 2000))
    real = json.loads((shared / "data/prontoqa/prontoqa_coconut_format_3000.json").read_text())
    one = re.compile(r"(?:Every|Each) (\w+) is (not )?(?:an? )?(\w+)$|(\w+)es are (not )?(\w+?)(es)?$")
    answers = collections.Counter()
    for row in ours:
        *rules, fact1, fact2, query = re.split(r"(?<=[.:]) ", row["question"].replace("True or false: ", ""))
        says = {}
        for rule in rules:
            m = one.match(rule[:-1])
            kind, negated, what = (m[1], m[2], m[3]) if m[1] else (m[4].lower(), m[5], m[6])
            says.setdefault(kind, set()).add((what, bool(negated)))
        name = fact1.split()[0]
        known, new = set(), {(f.rstrip(".").split()[-1], False) for f in (fact1, fact2)}
        while new:
            known |= new
            new = {x for what, negated in new if not negated for x in says.get(what, ())} - known
        m = re.match(rf"{name} is (not )?(\w+)\.$", query)
        holds = {negated for what, negated in known if what == m[2]}
        assert len(holds) == 1, row
        assert row["answer"] == str(holds == {bool(m[1])})
        assert len(row["steps"]) == 6 and row["steps"][-1] == f"{name} is {'not ' if holds == {True} else ''}{m[2]}."
        sentences = set(re.split(r"(?<=\.) ", row["question"]))
        for step in row["steps"][:-1]:
            assert re.split(r"(?<=\.) ", step)[1] in sentences
        answers[row["answer"]] += 1
    assert 850 < answers["True"] < 1150
    assert {len(r["steps"]) for r in real} == {6}
    for what, get in (("question", lambda r: len(r["question"])), ("steps", lambda r: len(" ".join(r["steps"])))):
        a, b = (statistics.mean(map(get, rows)) for rows in (real, ours))
        print(f"{what} characters, real / made: {a:.0f} / {b:.0f}")
        assert abs(b / a - 1) < 0.25, what
