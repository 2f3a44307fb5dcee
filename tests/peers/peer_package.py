"""Fixtures of the tests of the Python package: the package on the library under test, and datasets small enough to
look at, built by the program: a plain one, one with packed embeddings, one with rows that were skipped."""
import json
import os
import pathlib
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
LIBRARY = TOP / os.environ.get("BUILD", "build") / "librotoscope.so"
os.environ["ROTOSCOPE_LIBRARY"] = str(LIBRARY)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TOP / "python"), os.environ.get("PYTHONPATH")]))
sys.path.insert(0, str(TOP / "python"))

ROWS = 40


def row(i):
    steps = "\n".join(f"{i} + {j} = <<{i}+{j}={i + j}>>{i + j}" for j in range(1 + i % 4))
    return {"id": f"case-{i}", "question": f"What is {i} and so on? ½", "cot": steps, "answer": str(i * 2)}


@pytest.fixture(scope="session")
def tiny(rotoscope, tmp_path_factory):
    folder = tmp_path_factory.mktemp("a b") / "tiny"
    rotoscope("init-model", folder, "--arch", "tiny", "--seed", "3")
    return folder


@pytest.fixture(scope="session")
def make_dataset(rotoscope, tiny, tmp_path_factory):
    def make(name, lines, *sets):
        folder = tmp_path_factory.mktemp("root of " + name)
        (folder / "rows.jsonl").write_text("".join(line + "\n" for line in lines))
        config = folder / "config.yaml"
        config.write_text(json.dumps({
            "name": name, "root": "out", "splits": {"train": {"files": ["rows.jsonl"], "format": "jsonl"}},
            "tokenizer": {"path": str(tiny)}, "render": {"preset": "rot-paper"}, "encode": {"checkpoint": str(tiny)},
            "store": {"shard_samples": 16, "commit_samples": 4}}))
        rotoscope("build", "-c", config, *[a for s in sets for a in ("--set", s)])
        return folder / "out" / f"{name}.json"

    return make


@pytest.fixture(scope="session")
def plain(make_dataset):
    return make_dataset("plain", [json.dumps(row(i)) for i in range(ROWS)])


@pytest.fixture(scope="session")
def packed(make_dataset):
    return make_dataset("packed", [json.dumps(row(i)) for i in range(ROWS)], "store.embeds_codec=zstd-bf16")


@pytest.fixture(scope="session")
def gaps(make_dataset):
    lines = ["{" if i % 7 == 2 else json.dumps(row(i)) for i in range(ROWS)]
    return make_dataset("gaps", lines, "on.bad_row=skip")
