"""A split in the formats of other libraries, written through those libraries.

    python -m rotoscope export out/gsm8k-aug.json --split train --to webdataset -o out/wds
    python -m rotoscope export out/gsm8k-aug.json --split train --to parquet -o out/train.parquet --where 'K<=128'

Embeddings keep their bits: uint16 holding bfloat16 (numpy, MDS and Arrow have no bfloat16), or float32. `rotoscope
export` writes npy, safetensors, png and jsonl.
"""
from __future__ import annotations

import importlib
import json
import operator
import os
import pathlib
import re
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from .dataset import Dataset, Sample
from .draw import png

IDS = ("question_ids", "trace_ids", "answer_ids")
TEXTS = ("id", "question", "trace", "answer")


def _library(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as e:
        raise ImportError(f"exporting needs the package {package}: pip install {package} ({e})") from e


# ---- which samples ----------------------------------------------------------------------------------------------

_OPERATORS: Dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "=": operator.eq, "!=": operator.ne, "<=": operator.le, "<": operator.lt, ">=": operator.ge,
    ">": operator.gt}
_NUMBERS: Dict[str, Callable[[Sample], int]] = {
    "index": lambda s: s["index"], "row": lambda s: s["row"], "K": lambda s: s["K"],
    "width": lambda s: s["image"].shape[1], "height": lambda s: s["image"].shape[0],
    **{name: (lambda s, name=name: len(s[name])) for name in IDS}}  # type: ignore[misc]


def condition(text: str) -> Callable[[Sample], bool]:
    """A test of samples from "KEY OP VALUE". Keys: index, row, K, width, height; question_ids, trace_ids and
    answer_ids, which are compared by their number; id, question, trace and answer, which are compared as text, with
    `==` and `!=` alone. Operators: == != < <= > >=."""
    match = re.fullmatch(r"\s*(\w+)\s*(==|=|!=|<=|<|>=|>)\s*(.*?)\s*", text, re.S)
    if not match:
        raise ValueError(f"--where {text!r}: KEY OP VALUE is wanted, such as K<=128")
    key, op, value = match.groups()
    compare = _OPERATORS[op]
    if key in TEXTS and compare in (operator.eq, operator.ne):
        return lambda s: compare(s[key], value)
    if key not in _NUMBERS:
        raise ValueError(f"--where {text!r}: {key} {op} is not possible; keys are {', '.join([*_NUMBERS, *TEXTS])}")
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"--where {text!r}: {value!r} is no number") from None
    get = _NUMBERS[key]

    def test(sample: Sample) -> bool:
        try:
            return compare(get(sample), number)
        except KeyError as e:
            raise ValueError(f"--where {text!r}: the stage that has it is not open") from e

    return test


def select(ds: Dataset, where: Sequence[str] = (), limit: Optional[int] = None) -> Iterator[Sample]:
    """Samples that fulfil every condition, at most `limit`, in order."""
    tests = [condition(w) for w in where]
    n = 0
    for i in range(len(ds)):
        if limit is not None and n >= limit:
            return
        sample = ds[i]
        if all(test(sample) for test in tests):
            n += 1
            yield sample


# ---- formats ----------------------------------------------------------------------------------------------------


def _empty_folder(out: pathlib.Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is there already, and is no empty folder")
    out.mkdir(parents=True, exist_ok=True)


def _json(sample: Sample) -> Dict[str, Any]:
    return {key: value.tolist() if key in IDS else value
            for key, value in sample.items() if key not in ("embeddings", "image")}


def to_webdataset(ds: Dataset, samples: Iterator[Sample], out: pathlib.Path) -> int:
    """OUT/000000.tar … with a json, an embeddings.npy and a png for every sample."""
    wds = _library("webdataset", "webdataset")
    _empty_folder(out)
    n = 0
    with wds.ShardWriter(str(out / "%06d.tar"), maxcount=10_000, verbose=0) as sink:
        for sample in samples:
            item: Dict[str, Any] = {"__key__": f"{sample['index']:09d}", "json": json.dumps(_json(sample)).encode()}
            if "embeddings" in sample:
                item["embeddings.npy"] = np.asarray(sample["embeddings"])
            if "image" in sample:
                item["png"] = png(sample["image"])
            sink.write(item)
            n += 1
    return n


def to_mds(ds: Dataset, samples: Iterator[Sample], out: pathlib.Path) -> int:
    """A folder of MDS shards: a column for every key, images as PNG in bytes."""
    streaming = _library("streaming", "mosaicml-streaming")
    columns = {"index": "int", "row": "int"}
    if "tokens" in ds.stages:
        columns.update({**{t: "str" for t in TEXTS}, **{t: "ndarray:int32" for t in IDS}})
    if "embeds" in ds.stages:
        kind = "float32" if ds.batch([]).embeddings.dtype == np.float32 else "uint16"
        columns.update({"K": "int", "grid": "ndarray:int32", "embeddings": f"ndarray:{kind}"})
    if "images" in ds.stages:
        columns["image"] = "bytes"
    _empty_folder(out)
    n = 0
    with streaming.MDSWriter(out=str(out), columns=columns, hashes=["xxh3_64"]) as sink:
        for sample in samples:
            item = dict(sample)
            if "grid" in item:
                item["grid"] = np.array(item["grid"], np.int32)
                item["embeddings"] = np.ascontiguousarray(item["embeddings"])
            if "image" in item:
                item["image"] = png(item["image"])
            sink.write(item)
            n += 1
    return n


def to_parquet(ds: Dataset, samples: Iterator[Sample], out: pathlib.Path) -> int:
    """One Parquet file: texts, lists of ids, K, grid; embeddings as the bytes of (K, d) and d and dtype beside
    them; images as PNG."""
    pa, pq = _library("pyarrow", "pyarrow"), _library("pyarrow.parquet", "pyarrow")
    if out.exists():
        raise FileExistsError(f"{out} is there already")
    fields = [("index", pa.int64()), ("row", pa.int64())]
    if "tokens" in ds.stages:
        fields += [(t, pa.string()) for t in TEXTS] + [(t, pa.list_(pa.int32())) for t in IDS]
    if "embeds" in ds.stages:
        fields += [("K", pa.int32()), ("grid", pa.list_(pa.int32())), ("d", pa.int32()), ("dtype", pa.string()),
                   ("embeddings", pa.large_binary())]
    if "images" in ds.stages:
        fields.append(("image", pa.binary()))
    schema = pa.schema(fields, metadata={"rotoscope": json.dumps({"name": ds.name, "split": ds.split, "root": ds.root})})
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(out.name + ".tmp")
    n = 0
    with pq.ParquetWriter(unfinished, schema, compression="zstd") as sink:
        group: List[Dict[str, Any]] = []
        size = 0
        for sample in samples:
            item = dict(sample)
            if "embeddings" in item:
                values = item["embeddings"]
                item.update(d=values.shape[1], dtype="float32" if values.dtype == np.float32 else "bfloat16",
                            embeddings=values.tobytes())
                size += values.nbytes
            if "image" in item:
                item["image"] = png(item["image"])
            group.append(item)
            n += 1
            if len(group) == 1024 or size > 64 << 20:
                sink.write_table(pa.Table.from_pylist(group, schema))
                group, size = [], 0
        if group:
            sink.write_table(pa.Table.from_pylist(group, schema))
    os.replace(unfinished, out)
    return n


FORMATS: Dict[str, Callable[[Dataset, Iterator[Sample], pathlib.Path], int]] = {
    "webdataset": to_webdataset, "mds": to_mds, "parquet": to_parquet}


def export(ds: Dataset, to: str, out: "os.PathLike[str] | str", *, where: Sequence[str] = (),
           limit: Optional[int] = None) -> int:
    """Writes the samples of `ds` that fulfil the conditions in `where` (see `condition`), at most `limit`, to `out`;
    returns how many. `to` is "webdataset", "mds" or "parquet"; ImportError says which package is missing."""
    if to not in FORMATS:
        raise ValueError(f"{to!r} is none of {', '.join(FORMATS)}")
    if limit is not None and limit < 0:
        raise ValueError(f"limit is {limit}")
    for text in where:
        condition(text)
    return FORMATS[to](ds, select(ds, where, limit), pathlib.Path(out))


__all__: Tuple[str, ...] = ("FORMATS", "condition", "export", "select")
