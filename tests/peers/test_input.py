"""Rows of the input readers against Python's json and re on real data, and the same files compressed."""
import ctypes
import decimal
import gzip
import json
import os
import pathlib
import random
import re

import pytest
import zstandard

TOP = pathlib.Path(__file__).resolve().parents[2]
FORMATS = {name: i for i, name in enumerate((
    "jsonl", "gsm8k", "gsm8k-aug", "math", "coconut", "gsm8k-aug-nl", "math-500", "svamp", "gsm-hard", "multiarith",
    "prontoqa", "prosqa"))}


class Err(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 1024)]


class Split(ctypes.Structure):  # rot_split_config
    _fields_ = [("name", ctypes.c_char_p), ("files", ctypes.POINTER(ctypes.c_char_p)), ("n_files", ctypes.c_int),
                ("format", ctypes.c_int), *[("key_" + k, ctypes.c_char_p) for k in ("id", "question", "cot", "answer")],
                ("strip_calculator", ctypes.c_bool)]


class Row(ctypes.Structure):  # rot_row
    _fields_ = [("index", ctypes.c_uint64), *[(k, ctypes.c_void_p) for k in ("id", "question", "trace", "answer")],
                *[("n_" + k, ctypes.c_size_t) for k in ("id", "question", "trace", "answer")],
                ("bad", ctypes.c_char_p), ("bad_cause", ctypes.c_char_p), ("file", ctypes.c_char_p),
                ("line", ctypes.c_uint64), ("offset", ctypes.c_uint64), ("source", ctypes.c_void_p),
                ("n_source", ctypes.c_size_t)]


@pytest.fixture(scope="session")
def library():
    return ctypes.CDLL(str(TOP / os.environ.get("BUILD", "build") / "librotoscope.so"))


def read(library, paths, format, strip=False, **keys):
    """[(id, question, trace, answer)], a bad row as its cause."""
    split = Split(name=b"s", n_files=len(paths), format=FORMATS[format], strip_calculator=strip,
                  files=(ctypes.c_char_p * len(paths))(*[str(p).encode() for p in paths]),
                  **{"key_" + k: v.encode() for k, v in keys.items()})
    handle, err, row, rows = ctypes.c_void_p(), Err(), Row(), []
    assert library.rot_input_open(ctypes.byref(split), ctypes.byref(handle), ctypes.byref(err)) == 0, err.message
    while (rc := library.rot_input_next(handle, ctypes.byref(row), ctypes.byref(err))) > 0:
        assert row.index == len(rows)
        rows.append(row.bad_cause.decode() if row.bad else tuple(
            ctypes.string_at(getattr(row, k), getattr(row, "n_" + k)).decode()
            for k in ("id", "question", "trace", "answer")))
    library.rot_input_close(ctypes.byref(handle))
    assert rc == 0, err.message
    return rows


def lines(path):
    text = path.read_bytes().decode()
    return (text[:-1] if text.endswith("\n") else text).split("\n")


@pytest.mark.parametrize("strip", [False, True])
@pytest.mark.parametrize("name", ["train", "test"])
def test_gsm8k(library, shared, name, strip):
    path, want = shared / f"data/gsm8k/{name}.jsonl", []
    for i, line in enumerate(lines(path)):
        row = json.loads(line)
        trace, answer = (part.strip() for part in row["answer"].rsplit("####", 1))
        want.append((str(i), row["question"], re.sub("<<.*?>>", "", trace) if strip else trace, answer))
    assert len(want) > 1000
    assert read(library, [path], "gsm8k", strip) == want


def test_gsm8k_aug_over_two_files(library, shared):
    paths, want = [shared / f"data/gsm8k_aug/{n}.txt" for n in ("train_no_aug", "valid", "test")], []
    for path in paths:
        for line in lines(path):
            question, rest = line.split("||", 1)
            trace, answer = rest.rsplit("####", 1)
            want.append((str(len(want)), question.strip(), trace.strip(), answer.strip()))
    rows = read(library, paths, "gsm8k-aug")
    assert len(want) == 6973 + 500 + 1319 and rows == want
    assert sum(row[2] == "" for row in rows) >= 24


@pytest.mark.parametrize("name", ["valid", "test"])
def test_coconut_gives_the_rows_of_its_text(library, shared, name):
    text = read(library, [shared / f"data/gsm8k_aug/{name}.txt"], "gsm8k-aug")
    path = shared / f"data/gsm8k_aug/coconut_gsm_{name}.json"
    rows = read(library, [path], "coconut")
    assert rows == [(str(i), r["question"], " ".join(r["steps"]), r["answer"])
                    for i, r in enumerate(json.loads(path.read_text()))]
    assert len(rows) == len(text)
    differ = [(a, b) for a, b in zip(rows, text) if (a[1].strip(), a[2], a[3]) != (b[1], b[2], b[3])]
    # The JSON's answers have lost their thousands commas; nothing else differs.
    assert all(a[:1] == b[:1] and a[1].strip() == b[1] and a[2] == b[2] and a[3] == b[3].replace(",", "")
               for a, b in differ), differ[:3]


@pytest.mark.parametrize("name", ["prosqa/prosqa_test", "prosqa/prosqa_valid", "prontoqa/prontoqa_coconut_format_3000"])
def test_coconut_with_other_keys(library, shared, name):
    path = shared / f"data/{name}.json"
    assert read(library, [path], "coconut") == [(str(i), r["question"], " ".join(r["steps"]), r["answer"])
                                                for i, r in enumerate(json.loads(path.read_text()))]


def last_boxed(text):
    """The content of the last box whose braces close, as MATH's own evaluation counts them."""
    for at in sorted((m.start() for m in re.finditer(r"\\(boxed|fbox)(?=[\s{])", text)), reverse=True):
        after = re.match(r"\\(?:boxed|fbox)(\s*)", text[at:])
        rest = text[at + after.end():]
        if not rest.startswith("{"):
            return rest.split("$")[0].strip()
        depth = 0
        for i, c in enumerate(rest):
            depth += (c == "{" and rest[i - 1] != "\\") - (c == "}" and rest[i - 1] != "\\") if i else 1
            if depth == 0:
                return rest[1:i]
    return None


@pytest.mark.parametrize("name", ["math/test", "math/train_sample3000", "math500/test"])
def test_math(library, shared, name):
    path, want = shared / f"data/{name}.jsonl", []
    for i, line in enumerate(lines(path)):
        row = json.loads(line)
        answer = last_boxed(row["solution"])
        want.append("format" if answer is None else (str(i), row["problem"], row["solution"], answer))
    assert read(library, [path], "math") == want
    if name.startswith("math500"):  # has its answers written out
        want = [json.loads(line)["answer"] for line in lines(path)]
        rows = read(library, [path], "math", id="unique_id")
        assert sum(row[3] == answer for row, answer in zip(rows, want)) >= 0.9 * len(want)
        assert [row[0] for row in rows] == [json.loads(line)["unique_id"] for line in lines(path)]


def test_rot_jsonl(library, shared):
    for path in sorted(shared.glob("data/gsm8k_aug_nl/*.jsonl")):
        want = []
        for i, row in enumerate(map(json.loads, lines(path))):
            own = row.get("id", str(i))
            want.append((own, row["question"], row["cot"], row["answer"]) if isinstance(own, str) else "key")
        assert read(library, [path], "jsonl") == want


def test_gsm8k_aug_nl_numbers_its_rows(library, shared):
    for path in sorted(shared.glob("data/gsm8k_aug_nl/*.jsonl")):
        assert read(library, [path], "gsm8k-aug-nl") == [
            (str(i), r["question"], r["cot"], r["answer"]) for i, r in enumerate(map(json.loads, lines(path)))]


def number(value):
    """The shortest decimal text that reads back as the same float, and no point in a whole number."""
    text = format(decimal.Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def test_math_500(library, shared):
    path = shared / "data/math500/test.jsonl"
    assert read(library, [path], "math-500") == [
        (r["unique_id"], r["problem"], r["solution"], r["answer"]) for r in map(json.loads, lines(path))]


def test_svamp(library, shared):
    path = shared / "data/svamp/SVAMP.json"
    want = []
    for r in json.loads(path.read_text()):
        body = r["Body"].strip()
        body += "" if body[-1] in ".?!" else "."
        want.append((r["ID"], f"{body} {r['Question'].strip()}", r["Equation"].strip(), number(r["Answer"])))
    assert len(want) == 1000 and read(library, [path], "svamp") == want


def test_gsm_hard(library, shared):
    path = shared / "data/gsm_hard/gsmhardv2.jsonl"
    want = [(str(i), r["input"], r["code"].strip(), number(r["target"])) for i, r in enumerate(map(json.loads, lines(path)))]
    rows = read(library, [path], "gsm-hard")
    assert rows == want and [float(r[3]) for r in rows] == [json.loads(line)["target"] for line in lines(path)]


def test_multiarith(library, shared):
    path = shared / "data/multiarith/MultiArith.json"
    want = [(str(i), r["sQuestion"].strip(), r["lEquations"][0], number(r["lSolutions"][0]))
            for i, r in enumerate(json.loads(path.read_text()))]
    assert len(want) == 600 and read(library, [path], "multiarith") == want


def test_numbers_of_any_size(library, tmp_path):
    values = [0.0, -0.0, 0.1, 1 / 3, 5e-324, 1.7976931348623157e308, 1e21, 1e20, 123456789012345678, -2**53, 1e-7, 1e-8]
    values += [random.Random(3).uniform(-1, 1) * 10.0**e for e in range(-12, 25)]
    path = tmp_path / "x"
    path.write_text("".join(json.dumps({"input": "q", "code": "c", "target": v}) + "\n" for v in values))
    answers = [row[3] for row in read(library, [path], "gsm-hard")]
    assert [type(v)(a) for a, v in zip(answers, values)] == values
    assert all(a == (number(v) if v else "0") for a, v in zip(answers, values)
               if isinstance(v, float) and (1e-7 <= abs(v) < 1e16 or v == 0))


def test_other_sets_by_renamed_keys(library, shared):
    path = shared / "data/gsm8k/train.jsonl"
    want = [json.loads(line) for line in lines(path)]
    assert read(library, [path], "jsonl", cot="question", answer="answer") == [
        (str(i), r["question"], r["question"], r["answer"]) for i, r in enumerate(want)]


def test_compressed_equals_plain(library, shared, tmp_path):
    path = shared / "data/gsm8k/test.jsonl"
    data, cut = path.read_bytes(), 300_001
    want = read(library, [path], "gsm8k")
    for name, pack in (("x", gzip.compress), ("x.txt", zstandard.ZstdCompressor().compress)):
        packed = tmp_path / name  # the name says nothing
        packed.write_bytes(pack(data[:cut]) + pack(data[cut:]))
        assert read(library, [packed], "gsm8k") == want
