"""Extraction and scoring against the rules re-stated with re, tables of Student's t, and gold answers of real sets."""
import json
import math
import random
import re
import statistics

import pytest

NUM = r"(\d+\.?\d*)"
RULES = [r"####\s*" + NUM, "答案是[：:]\\s*" + NUM, r"Therefore,?\s+.*?" + NUM, "Answer[：:]\\s*" + NUM, r"\$" + NUM,
         NUM + r"\s*$"]


def released(text):
    for rule in RULES:
        found = re.search(rule, text, re.IGNORECASE)
        if found:
            return found.group(1)
    return text.strip()


def released_equal(a, b):
    try:
        return abs(float(a.strip()) - float(b.strip())) < 1e-9
    except ValueError:
        return a.strip() == b.strip()


def coconut(text):
    return text.split("#")[-1].replace(",", "").strip()


def coconut_chain(text, steps):
    return bool(steps) and text.split("#")[0].strip() == "\n".join(steps)


SETS = {"gsm8k": "gsm8k/test.jsonl", "gsm8k-aug": "gsm8k_aug/test.txt", "math-500": "math500/test.jsonl",
        "math": "math/test.jsonl", "svamp": "svamp/SVAMP.json", "gsm-hard": "gsm_hard/gsmhardv2.jsonl",
        "multiarith": "multiarith/MultiArith.json", "prontoqa": "prontoqa/prontoqa_coconut_format_3000.json",
        "prosqa": "prosqa/prosqa_test.json"}


class Scorer:
    def __init__(self, run, folder):
        self.run, self.folder, self.n = run, folder, 0

    def __call__(self, rows, *args, check=True):
        """(figures, samples) of prediction rows; with several lists of rows, one file each."""
        self.n += 1
        files = rows if isinstance(rows[0], list) else [rows]
        paths = [self.folder / f"{self.n}-{i}.jsonl" for i in range(len(files))]
        for path, lines in zip(paths, files):
            path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
        out = self.folder / f"{self.n}.samples"
        done = self.run("evaluate", *[a for p in paths for a in ("--predictions", p)], "-o", out, *args, check=check)
        if done.returncode:
            return done, None
        return json.loads(done.stdout), [json.loads(line) for line in out.read_text().split("\n")[:-1]]


@pytest.fixture
def score(rotoscope, tmp_path):
    return Scorer(rotoscope, tmp_path)


def random_text(rng):
    parts = ["####", "###", "#", "Therefore", "therefore,", "Answer:", "answer：", "anſwer:", "答案是：", "答案是:", "$",
             " ", "\n", "  ", "\t", "\u00a0", "\u2028", "\u3000", "\x1c", "1", "23", "4.5", ".", ",", "-", "/", "٣", "４２", "x",
             "é", "1,234", "0.", "..", "<<3*4=12>>", "assistant\n### ", "inf", "nan", "Infinity", "THEREFORE", "\r\n", "𝟗", "²"]
    return "".join(rng.choice(parts) for _ in range(rng.randrange(12)))


def test_the_released_rule_equals_its_restatement_on_random_strings(score):
    rng = random.Random(5)
    rows = [{"id": i, "prediction": random_text(rng), "answer": random_text(rng)} for i in range(20000)]
    _, samples = score(rows)
    assert len(samples) == len(rows)
    right = 0
    for row, got in zip(rows, samples):
        if row["prediction"].startswith("ERROR: "):
            continue
        want = released(row["prediction"])
        assert got["released"]["answer"] == want, row
        assert got["released"]["right"] == released_equal(want, released(row["answer"])), row
        assert got["coconut"]["answer"] == coconut(row["prediction"]), row
        assert got["coconut"]["right"] == (coconut(row["prediction"]) == row["answer"].replace(",", "").strip()), row
        right += got["released"]["right"]
    assert 200 < right < 19000


def test_the_released_rule_equals_its_restatement_on_real_texts(score, shared):
    rows = []
    for line in (shared / "data/gsm8k/example_model_solutions.jsonl").read_text().splitlines():
        row = json.loads(line)
        for key, value in row.items():
            if isinstance(value, dict):
                rows.append({"id": len(rows), "prediction": value["solution"], "answer": row["ground_truth"]})
    for line in (shared / "data/math/test.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows.append({"id": len(rows), "prediction": row["solution"], "answer": row["problem"]})
    assert len(rows) > 9000
    _, samples = score(rows)
    for row, got in zip(rows, samples):
        want = released(row["prediction"])
        assert got["released"] == {"answer": want, "right": released_equal(want, released(row["answer"]))}, row


def gold_of(rotoscope, shared, name, tmp_path):
    """Gold answers as evaluate sees them: an empty file of predictions makes every question missing."""
    empty = tmp_path / f"{name}.one"
    first = {"math-500": "test/precalculus/807.json", "svamp": "chal-1"}.get(name, "0")
    empty.write_text(json.dumps({"id": first, "prediction": ""}) + "\n")
    out = tmp_path / f"{name}.gold"
    rotoscope("evaluate", "-p", empty, "-o", out, "--format", name, shared / "data" / SETS[name])
    return {r["id"]: r["gold"] for r in map(json.loads, out.read_text().split("\n")[:-1])}


@pytest.mark.parametrize("name", SETS)
def test_gold_as_prediction(score, shared, name, rotoscope, tmp_path):
    gold = gold_of(rotoscope, shared, name, tmp_path)
    question_file = shared / "data" / SETS[name]
    as_rot = [{"id": i, "prediction": f"assistant\n### {a} "} for i, a in gold.items()]
    figures, samples = score(as_rot, "--format", name, question_file)
    wrong = [s for s in samples if not s["corrected"]["right"]]
    assert not wrong and figures["pass_at_1"]["mean"] == 100
    plain, _ = score([{"id": i, "prediction": a} for i, a in gold.items()], "--format", name, question_file)
    assert plain["pass_at_1"]["mean"] == 100
    if name == "math-500":
        assert figures["pass_at_1_released"]["mean"] == pytest.approx(70.8, abs=0.01)
    if name == "gsm8k":
        assert figures["pass_at_1_released"]["mean"] == 100
    # boxed, as models write it
    boxed, samples = score([{"id": i, "prediction": f"so we get $\\boxed{{{a}}}$."} for i, a in gold.items()],
                           "--format", name, question_file)
    assert boxed["pass_at_1"]["mean"] == 100, [s for s in samples if not s["corrected"]["right"]][:5]


def lines_of(path):
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def behind_bars(path):
    return [line.split("||", 1)[1] for line in path.read_text().split("\n") if "||" in line]


def chains(path):
    return [("\n".join(r["steps"] + ["### " + r["answer"]]), r["answer"]) for r in json.loads(path.read_text())]


# (solution, gold answer): the answer is a field of its own, or what the set's own mark says it is.
SOLUTIONS = {
    "gsm8k/test.jsonl": (1319, lambda p: [(r["answer"], r["answer"].split("#### ")[1]) for r in lines_of(p)]),
    "gsm8k/train.jsonl": (7473, lambda p: [(r["answer"], r["answer"].split("#### ")[1]) for r in lines_of(p)]),
    "gsm8k_aug/test.txt": (1319, lambda p: [(t, t.split("#### ")[1]) for t in behind_bars(p)]),
    "gsm8k_aug/valid.txt": (500, lambda p: [(t, t.split("#### ")[1]) for t in behind_bars(p)]),
    "gsm8k_aug/train_no_aug.txt": (6973, lambda p: [(t, t.split("#### ")[1]) for t in behind_bars(p)]),
    "gsm8k_aug/coconut_gsm_test.json": (1319, chains), "gsm8k_aug/coconut_gsm_valid.json": (500, chains),
    "gsm8k_aug_nl/example_train_processed.jsonl": (6, lambda p: [(r["cot"], r["answer"]) for r in lines_of(p)]),
    "gsm8k_aug_nl/example_test_processed.jsonl": (2, lambda p: [(r["cot"], r["answer"]) for r in lines_of(p)]),
    "math500/test.jsonl": (500, lambda p: [(r["solution"], r["answer"]) for r in lines_of(p)]),
    "prosqa/prosqa_test.json": (500, chains), "prosqa/prosqa_valid.json": (300, chains),
    "prontoqa/prontoqa_coconut_format_3000.json": (3000, chains),
}


@pytest.mark.parametrize("name", SOLUTIONS)
def test_gold_solutions_hold_their_answers(score, shared, name):
    n, read = SOLUTIONS[name]
    rows = read(shared / "data" / name)
    assert len(rows) == n
    _, samples = score([{"id": i, "prediction": p, "answer": a} for i, (p, a) in enumerate(rows)])
    assert not [(r, s["corrected"]) for r, s in zip(rows, samples) if not s["corrected"]["right"]]


@pytest.mark.parametrize("name, n", [("test.jsonl", 5000), ("train_sample3000.jsonl", 3000)])
def test_solutions_of_math_hold_what_their_reader_takes(score, shared, name, n):
    path = shared / "data/math" / name
    figures, samples = score([{"id": i, "prediction": r["solution"]} for i, r in enumerate(lines_of(path))], "-f", "math", path)
    assert len(samples) == n and figures["pass_at_1"]["mean"] == 100


def test_verdicts_equal_those_that_gsm8k_publishes_with_solutions_of_models(score, shared):
    rows, labels = [], []
    for r in lines_of(shared / "data/gsm8k/example_model_solutions.jsonl"):
        gold = re.split("####|A:", r["ground_truth"])[-1].strip()
        for one in r.values():
            if isinstance(one, dict):
                rows.append({"id": len(rows), "prediction": one["solution"], "answer": gold})
                labels.append(one["is_correct"])
    _, samples = score(rows)
    assert len(rows) == 5276 and [s["corrected"]["right"] for s in samples] == labels
    assert sum(s["released"]["right"] == label for s, label in zip(samples, labels)) == 4668


def test_wrong_answers_stay_wrong(score, shared, rotoscope, tmp_path):
    """Every gold answer against the next question's: right only where the two are the same answer."""
    for name in ("gsm8k", "math-500", "gsm-hard", "prosqa"):
        gold = gold_of(rotoscope, shared, name, tmp_path)
        ids, answers = list(gold), list(gold.values())
        rows = [{"id": i, "prediction": f"assistant\n### {answers[(n + 1) % len(ids)]} "} for n, i in enumerate(ids)]
        _, samples = score(rows, "--format", name, shared / "data" / SETS[name])
        for n, s in enumerate(samples):
            a, b = answers[n], answers[(n + 1) % len(ids)]
            if s["corrected"]["right"]:
                a, b = (re.sub(r"[\s,$\\!]|text|\.0$|circ|\^|^x=", "", t) for t in (a, b))
                assert a == b


HARD = [  # prediction, gold, right
    ("assistant\n### -5 ", "-5", True), ("### -5", "5", False), ("### 5", "-5", False), ("### 1,234", "1234", True),
    ("### 1,234", "234", False), ("### 1,234", "5,234", False), ("### 1,234,567.5", "1234567.50", True),
    ("### 12,34", "1234", False), ("### 3/4", "\\frac{3}{4}", True), ("### 3/4", "0.75", True), ("### 1/4", "3/4", False),
    ("### .5", "0.5", True), ("### 8.0", "8", True), ("### 50%", "50", True), ("### 50\\%", "50", True),
    ("### $18", "18", True), ("### \\$18.90", "18.9", True), ("### $-18", "-18", True), ("### -$18", "-18", True),
    ("### 18 dollars", "18", True), ("### 18 dollars.", "18", True), ("### 540 meters", "540", True),
    ("### 5 of 7", "7", False), ("### 10:30", "30", False), ("### 2\\pi", "2", False), ("### 2k", "2", False),
    ("### 2^5", "2", False), ("### \\dfrac34", "\\frac{3}{4}", True), ("### \\tfrac{3}{4}", "3/4", True),
    ("### \\frac 59", "\\frac{5}{9}", True), ("### -\\frac{3}{8}", "-0.375", True), ("### \\frac{-3}{8}", "-0.375", True),
    ("### 1\\frac{4}{5}", "1.8", True), ("### 137 \\frac{1}{2}", "137.5", True), ("### \\frac{270}7\\text{ degrees}", "270/7", True),
    ("### 90", "90^\\circ", True), ("### 90^{\\circ}", "90^\\circ", True), ("### 5.4", "5.4 \\text{ cents}", True),
    ("### 15", "15\\mbox{ cm}^2", True), ("### Evelyn", "\\text{Evelyn}", True), ("### evelyn", "\\text{Evelyn}", True),
    ("### C", "\\text{(C)}", True), ("### B", "\\text{(C)}", False), ("### 10080", "10,\\!080", True),
    ("### 11111111100", "11,\\! 111,\\! 111,\\! 100", True), ("### (3,4]", "(3, 4]", True), ("### [3,4]", "(3,4]", False),
    ("### 3\\sqrt{13}", "3 \\sqrt{13}", True), ("### 3\\sqrt13", "3 \\sqrt{1}3", True), ("### \\sqrt5", "\\sqrt{5}", True),
    ("### x=5", "5", True), ("### 5", "x=5", True), ("### \\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\frac{\\pi}{2})", True),
    ("### 4210_{5}", "4210_5", True), ("### 4210_5", "4210_6", False), ("### 1,-2", "1, -2", True), ("### 58500", "58,500", True),
    ("The answer is 42.", "42", True), ("The answer is: 42", "42", True), ("Answer: 42\nmore 7", "42", True),
    ("so 6 * 7 = 42", "42", True), ("so 6 * 7 = 42 eggs", "42", True), ("He has 10-5=5 left", "5", True),
    ("it drops to -5", "-5", True), ("#### 72", "72", True), ("a b\n#### 72 dollars", "72", True), ("\\boxed{12}", "12", True),
    ("\\boxed{\\frac{1}{2}}", "0.5", True), ("first \\boxed{1} then \\boxed{2}", "2", True), ("first \\boxed{1} then \\boxed{2}", "1", False),
    ("", "", True), ("", "5", False), ("###", "5", False), ("### 5 \n### 6", "5", True), ("### True", "True", True),
    ("### False", "True", False), ("### Tom is a lempus", "Tom is a lempus.", True), ("### Tom is a lempus.", "Tom is a brimpus.", False),
    ("### 3244047.1", "3244047.0999999996", True), ("### 0.0000003509", "3.509e-07", True), ("### 1e5", "100000", True),
    ("### 1/0", "5", False), ("### −5", "-5", True), ("### 120\nassistant\n### 7", "120", True), ("### 5.", "5", True),
]


def test_hard_cases_of_the_corrected_rule(score):
    _, samples = score([{"id": i, "prediction": p, "answer": a} for i, (p, a, _) in enumerate(HARD)])
    got = [(p, a, s["corrected"]) for (p, a, _), s in zip(HARD, samples)]
    assert not [g for g, (_, _, right) in zip(got, HARD) if g[2]["right"] != right]


def test_nothing_crashes_it(score):
    rng = random.Random(8)
    pieces = ["\\frac", "{", "}", "\\text{", "\\sqrt", "^", "_", "\\", "\\boxed{", "###", "1", ",", "234", ".", "e", "-", "/", "$",
              "\\left", "\\\\", "\u2212", "x=", "(", "A", ")", "\x00", "\U0001f600", "answer is", "\n"]
    texts = ["".join(rng.choice(pieces) for _ in range(rng.randrange(30))) for _ in range(5000)]
    texts += ["\\text{" * 20000, "\\frac" * 20000, "{" * 60000, "1" * 60000, "\\boxed{" * 9000, "Therefore x " * 6000, "1." * 30000]
    figures, samples = score([{"id": i, "prediction": t, "answer": texts[-1 - i % 5000]} for i, t in enumerate(texts)])
    assert len(samples) == len(texts) and figures["failures"] == 0


def test_figures_over_seeds(score):
    rng = random.Random(2)
    files, want = [], []
    for seed in range(5):
        rows = [{"id": i, "answer": "1", "prediction": str(rng.choice([1, 1, 2])), "seconds": rng.random(), "latents": 32,
                 "text_tokens": 64 + i, "teacher_latents": 80, "seed": 100 + seed} for i in range(40)]
        rows[3] = {"id": 3, "answer": "1", "error": "no memory", "seed": 100 + seed}
        files.append(rows)
        want.append(100 * sum(r.get("prediction") == "1" for r in rows) / 40)
    figures, _ = score(files)
    assert figures["seeds"] == [100, 101, 102, 103, 104] and figures["failures"] == 5 and figures["samples"] == 200
    pass1 = figures["pass_at_1"]
    assert pass1["per_seed"] == pytest.approx(want)
    # Student's t of 4 degrees of freedom at 0.975, from tables
    assert pass1["interval95"] == pytest.approx(2.7764451052 * statistics.stdev(want) / math.sqrt(5), rel=1e-9)
    assert figures["pass_at_1_released_of_answered"]["mean"] == pytest.approx(statistics.mean(want) * 40 / 39)
    assert figures["length"]["mean"] == 32
    assert figures["pass_at_1_per_length"]["mean"] == pytest.approx(statistics.mean(want) / 32)
    answered = [r for rows in files for r in rows if "text_tokens" in r]
    assert figures["text_tokens_per_latent"]["mean"] == pytest.approx(
        sum(r["text_tokens"] for r in answered) / sum(r["latents"] for r in answered))
    assert figures["compression_released_ratio"]["mean"] == pytest.approx(statistics.mean(r["text_tokens"] / 80 for r in answered))
    assert figures["compression_released_saved_percent"]["mean"] == pytest.approx(
        statistics.mean(100 * (1 - 80 / r["text_tokens"]) for r in answered))


def test_coconuts_chain(score):
    rows = [{"id": i, "prediction": p, "answer": "3", "steps": ["<<1+1=2>>", "<<2+1=3>>"]} for i, p in enumerate(
        ["<<1+1=2>>\n<<2+1=3>>\n### 3", "<<1+1=2>>\n### 3", "<<1+1=2>>\n<<2+1=3>>", " <<1+1=2>>\n<<2+1=3>> \n#", "### 3"])]
    _, samples = score(rows)
    assert [s["chain_exact"] for s in samples] == [coconut_chain(r["prediction"], r["steps"]) for r in rows]
    assert [s["chain_exact"] for s in samples] == [True, False, True, True, False]


def test_missing_predictions_are_wrong_and_others_are_refused(score, shared):
    path = shared / "data/gsm8k_aug/test.txt"
    figures, samples = score([{"id": "0", "prediction": "18"}, {"id": 1, "prediction": "ERROR: x"}], "--format", "gsm8k-aug", path)
    assert figures["failures"] == 1318 and figures["pass_at_1"]["mean"] == pytest.approx(100 / 1319)
    assert {s.get("failure") for s in samples[1:]} == {"ERROR: x", "missing"}
    for rows, said in [([{"id": "no", "prediction": "1"}], b":1: no question has the id 'no'"),
                       ([{"id": "0", "prediction": "1"}, {"id": "0", "prediction": "1"}], b"two predictions"),
                       ([{"id": "0", "prediction": 1}], b":1: 'prediction' is no string"),
                       ([{"id": "0", "prediction": "", "latents": -1}], b"'latents'"),
                       (["{\n"], b":1: byte"), (["[]\n"], b"not a JSON object"), (["\n"], b":1: ")]:
        done, _ = score(rows, "--format", "gsm8k-aug", path, check=False)
        assert done.returncode == 1 and said in done.stderr, done.stderr
    done, _ = score([{"id": 1, "prediction": "1"}], check=False)
    assert done.returncode == 1 and b"'answer' is missing" in done.stderr


def test_tokens_of_gold_traces(score, shared, rotoscope, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    folder = shared / "tokenizers/qwen3"
    figures, samples = score([{"id": str(i), "prediction": "1", "latents": 4} for i in range(1319)], "--format", "gsm8k-aug",
                             "--tokenizer", folder, shared / "data/gsm8k_aug/test.txt")
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    lines = (shared / "data/gsm8k_aug/test.txt").read_text().split("\n")[:1319]
    want = [len(tokenizer.encode(line.split("||", 1)[1].rsplit("####", 1)[0].strip()).ids) for line in lines]
    assert [s.get("text_tokens", 0) for s in samples] == want
    assert figures["text_tokens_per_latent"]["mean"] == pytest.approx(sum(want) / (4 * sum(w > 0 for w in want)))
