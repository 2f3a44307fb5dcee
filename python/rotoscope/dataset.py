"""Samples of a dataset: by number, by id, in ragged batches."""
from __future__ import annotations

import ctypes as c
import operator
import os
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from . import _lib
from ._lib import check, lib

STAGES = ("tokens", "images", "embeds")


def bf16_to_f32(bits: np.ndarray) -> np.ndarray:
    """float32 values of bfloat16 bits (uint16), exact; float32 arrays are returned as they are."""
    if bits.dtype == np.float32:
        return bits
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _address(values: np.ndarray) -> int:
    """What values.ctypes.data is, in a third of the time."""
    address: int = values.__array_interface__["data"][0]
    return address


def _integers(indices: Any) -> np.ndarray:
    """int64 of sample numbers. A mask or fractions would be other samples than those that were meant."""
    values = np.asarray(indices)
    if values.dtype.kind not in "iu" and values.size:
        raise TypeError(f"indices of type {values.dtype}; integers are wanted")
    return np.ascontiguousarray(values, np.int64)


def as_torch(values: np.ndarray) -> Any:
    """A torch tensor on the same memory: torch.bfloat16 of uint16 bits, torch.float32 of float32.

    torch has no read-only tensors. Writing into a tensor on a zero-copy view of the store ends the process with a
    signal, because the store is mapped for reading; `.clone()` it first.
    """
    import torch

    if not values.flags.writeable:  # says the same as above, once per process, which nobody needs in a loader
        class Writable:
            __array_interface__ = {**values.__array_interface__, "data": (values.__array_interface__["data"][0], False)}
            base = values
        values = np.asarray(Writable())
    if values.dtype == np.uint16:
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(values)


class _Handle:
    """Owns a rot_reader. Views of the store keep it alive."""

    def __init__(self, path: str, split: Optional[str], stages: Optional[str], verify: bool, keep_index: bool):
        self.pointer = c.c_void_p()
        options = lib.rot_reader_options_default()
        options.stages = stages.encode() if stages is not None else None
        options.verify = verify
        options.keep_index = keep_index
        check("rot_reader_open", os.fsencode(path), split.encode() if split is not None else None, c.byref(options),
              c.byref(self.pointer))

    def __del__(self) -> None:
        if self.pointer:
            lib.rot_reader_close(c.byref(self.pointer))


class _View:
    """What numpy needs to look at memory of the store; keeps the reader open."""

    __slots__ = ("__array_interface__", "owner")

    def __init__(self, address: int, shape: Tuple[int, ...], typestr: str, owner: _Handle):
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": typestr, "data": (address, True)}
        self.owner = owner


class Sample(Dict[str, Any]):
    """One sample as a dict.

    Keys, as far as the stages are open:

    ==============================================  ==============================================================
    index, row                                      its number, and the row of the input that it was
    id, question, trace, answer                     texts
    question_ids, trace_ids, answer_ids             int32 arrays; a training sequence is question, K embeddings,
                                                    answer
    K, grid                                         merged vision tokens, and (1, height, width) in patches
    embeddings                                      (K, d): uint16 holding bfloat16 bits, or float32
    deepstack                                       (K, taps, d) of a dataset built with ``encode.deepstack``
    image                                           (height, width) or (height, width, 3), uint8
    ==============================================  ==============================================================
    """

    @property
    def embeddings_f32(self) -> np.ndarray:
        """(K, d) float32, a copy."""
        return bf16_to_f32(self["embeddings"])

    @property
    def embeddings_torch(self) -> Any:
        """(K, d) torch.bfloat16 (or float32) on the same memory; see `as_torch` before writing to it."""
        return as_torch(self["embeddings"])


@dataclass
class Batch:
    """Embeddings of several samples one after another, as flash attention takes them.

    Sample i has rows ``cu_seqlens[i]`` up to ``cu_seqlens[i + 1]``.
    """

    index: np.ndarray       # (n) int64
    embeddings: np.ndarray  # (sum of K, d) uint16 holding bfloat16 bits, or float32
    cu_seqlens: np.ndarray  # (n + 1) int64

    @property
    def K(self) -> np.ndarray:
        """(n) merged tokens of each sample."""
        return np.diff(self.cu_seqlens)

    @property
    def embeddings_f32(self) -> np.ndarray:
        """(sum of K, d) float32."""
        return bf16_to_f32(self.embeddings)

    @property
    def embeddings_torch(self) -> Any:
        """(sum of K, d) torch.bfloat16 (or float32) on the same memory."""
        return as_torch(self.embeddings)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> np.ndarray:
        """(K, d) of sample i of the batch, a view."""
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        i %= len(self)
        return self.embeddings[self.cu_seqlens[i]:self.cu_seqlens[i + 1]]


class Dataset(Sequence[Sample]):
    """A split of a dataset. Open one with `rotoscope.open`.

    ``len(ds)`` counts samples: rows of the input that no stage skipped. ``ds[i]`` is a `Sample`, ``ds.by_id(id)``
    the one with that id, ``ds.batch(indices)`` a ragged `Batch`.

    Any number of threads may use it at once. It goes on working in a child after fork, and can be pickled (the copy
    opens the same file again), so it can be handed to a DataLoader with either kind of worker.

    Every record is checked against its hash the first time that this object touches it, and damage raises
    `CorruptError`, which names the row; ``verify=False`` leaves that out.
    """

    def __init__(self, path: Union[str, "os.PathLike[str]"], split: Optional[str] = None, *,
                 stages: Optional[Iterable[str]] = None, verify: bool = True, keep_index: bool = True):
        self._arguments = (os.path.abspath(os.fspath(path)), split, None if stages is None else tuple(stages), verify,
                           keep_index)
        path_, _, stages_, _, _ = self._arguments
        self._handle = _Handle(path_, split, None if stages_ is None else ",".join(stages_), verify, keep_index)
        self._reader = self._handle.pointer
        info = lib.rot_reader_get_info(self._reader).contents
        self.path: str = path_
        self.name: str = info.name.decode()
        self.split: str = info.split.decode()
        self.root: str = info.root.decode()
        self.rows: int = info.rows
        self.skipped: int = info.skipped
        self.width: int = info.embeds_width  # of a row of a batch: d, or with deepstack taps (1 + taps) d
        self.taps: int = info.embeds_taps
        self.stages: Tuple[str, ...] = tuple(
            s for s, has in zip(STAGES, (info.has_tokens, info.has_images, info.has_embeds)) if has)
        self._n: int = info.samples
        self._dtype = np.dtype(np.float32 if info.embeds_dtype == _lib.DTYPE_F32 else np.uint16)
        self._typestr = "<f4" if info.embeds_dtype == _lib.DTYPE_F32 else "<u2"
        self._k: Optional[np.ndarray] = None
        self._d: int = self.width // (1 + self.taps)

    def __reduce__(self) -> Any:
        path, split, stages, verify, keep_index = self._arguments
        return _reopen, (path, split, stages, verify, keep_index)

    def __repr__(self) -> str:
        return f"<rotoscope.Dataset {self.name}, split {self.split}: {self._n} samples, {', '.join(self.stages)}>"

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[Sample]:
        for i in range(self._n):
            yield self[i]

    def _index(self, index: Any) -> int:
        i = operator.index(index)
        if not -self._n <= i < self._n:
            raise IndexError(f"sample {i} of {self._n}")
        return i % self._n

    def _indices(self, indices: Any) -> np.ndarray:
        out = _integers(indices)
        if out.ndim != 1:
            raise ValueError(f"indices of shape {out.shape}; one dimension is wanted")
        if out.size and (out.min() < -self._n or out.max() >= self._n):
            raise IndexError(f"samples {out.min()} to {out.max()} of {self._n}")
        if out.size and out.min() < 0:
            out = np.where(out < 0, out + self._n, out)
        return out

    # ---- one sample -------------------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._n))]
        i = self._index(index)
        out = Sample(index=i, row=self.row(i))
        if "tokens" in self.stages:
            out.update(self.tokens(i))
        if "embeds" in self.stages:
            record, rows = self._embeddings(i)
            out["embeddings"] = rows[:, : self._d]
            if self.taps:
                out["deepstack"] = rows[:, self._d :].reshape(len(rows), self.taps, self._d)
            out["K"] = record.shape[0]
            out["grid"] = (1, record.shape[2], record.shape[3])
        if "images" in self.stages:
            out["image"] = self.image(i)
        return out

    def by_id(self, id: str) -> Sample:  # noqa: A002
        """The sample with this id of the input. The first call makes an index on disk, or opens it."""
        sample: Sample = self[self.find(id)]
        return sample

    def find(self, id: str) -> int:  # noqa: A002
        """The number of the sample with this id. NotFoundError if there is none."""
        key = id.encode()
        out = c.c_uint64()
        check("rot_reader_find", self._reader, key, len(key), c.byref(out))
        return out.value

    def row(self, index: int) -> int:
        """The row of the input that sample `index` was; they differ where rows were skipped."""
        out = c.c_uint64()
        check("rot_reader_row", self._reader, self._index(index), c.byref(out))
        return out.value

    def sample_of_row(self, row: int) -> int:
        """The inverse of `row`. NotFoundError: the row was skipped."""
        out = c.c_uint64()
        if row < 0:
            raise IndexError(row)
        check("rot_reader_sample", self._reader, row, c.byref(out))
        return out.value

    def _read(self, stage: str, i: int) -> "Tuple[_lib.RotRecord, np.ndarray]":
        record = _lib.RotRecord()
        check("rot_reader_peek", self._reader, stage.encode(), i, c.byref(record))
        buffer = np.empty(max(record.n_bytes, 1), np.uint8)
        check("rot_reader_read", self._reader, stage.encode(), i, buffer.ctypes.data, record.n_bytes, c.byref(record))
        return record, buffer

    def tokens(self, index: int) -> Dict[str, Any]:
        """Texts and token ids of a sample: id, question, trace, answer, question_ids, trace_ids, answer_ids."""
        record, buffer = self._read("tokens", self._index(index))
        texts = _lib.RotSampleTexts()
        check("rot_reader_texts", c.byref(record), c.byref(texts))
        out: Dict[str, Any] = {}
        for name in ("id", "question", "trace", "answer"):
            out[name] = c.string_at(getattr(texts, name), getattr(texts, "n_" + name)).decode()
        ids = buffer[:4 * sum(record.shape[:3])].view(np.int32)
        begin = 0
        for name, n in zip(("question_ids", "trace_ids", "answer_ids"), record.shape):
            out[name] = ids[begin:begin + n]
            begin += n
        return out

    def image(self, index: int) -> np.ndarray:
        """Pixels of a sample, uint8: (height, width), or (height, width, 3) in colour."""
        record, buffer = self._read("images", self._index(index))
        width, height, channels = record.shape[:3]
        columns = buffer[:record.n_bytes].reshape(width, height, channels).swapaxes(0, 1)
        return columns[:, :, 0] if channels == 1 else columns

    def _embeddings(self, i: int) -> "Tuple[_lib.RotRecord, np.ndarray]":
        record = _lib.RotRecord()
        check("rot_reader_view", self._reader, b"embeds", i, c.byref(record))
        if record.payload:
            shape = (record.shape[0], record.shape[1])
            return record, np.asarray(_View(record.payload, shape, self._typestr, self._handle))
        record, buffer = self._read("embeds", i)
        return record, buffer[:record.n_bytes].view(self._dtype).reshape(record.shape[0], record.shape[1])

    def embeddings(self, index: int) -> np.ndarray:
        """(K, d) of a sample: bfloat16 bits as uint16, or float32.

        A read-only view of the store where it is stored as it is (``store.embeds_codec: none``); it keeps the store
        open. Else a new array. `bf16_to_f32` and `as_torch` turn it into numbers.
        """
        return self._embeddings(self._index(index))[1][:, : self._d]

    def deepstack(self, index: int) -> np.ndarray:
        """(K, taps, d) of a sample of a dataset that was built with ``encode.deepstack``; taps is 0 in others."""
        rows = self._embeddings(self._index(index))[1]
        return rows[:, self._d :].reshape(len(rows), self.taps, self._d)

    @property
    def K(self) -> np.ndarray:
        """(n) uint32: merged tokens of every sample, from an index; no payload is read."""
        if self._k is None:
            pointer = c.c_void_p()
            check("rot_reader_k", self._reader, c.byref(pointer))
            self._k = np.asarray(_View(pointer.value or 1, (self._n,), "<u4", self._handle))
        return self._k

    # ---- many samples -----------------------------------------------------------------------------------------

    def batch(self, indices: Any, *, out: Optional[np.ndarray] = None, threads: int = 1) -> Batch:
        """Embeddings of samples `indices`, one after another, in one call of the library.

        `out` is an array to read into, of at least (sum of K, d): a loop that passes the same one again saves
        the kernel from handing out fresh pages. `threads` copy at once.
        """
        wanted = _integers(indices)
        if wanted.ndim != 1:
            wanted = self._indices(wanted)
        n = len(wanted)
        cu = np.empty(n + 1, np.int64)
        try:
            check("rot_reader_lengths", self._reader, _address(wanted), n, _address(cu))
        except _lib.NotFoundError:  # counted from the end, or out of range; looking first would cost every batch
            wanted = self._indices(wanted)
            check("rot_reader_lengths", self._reader, _address(wanted), n, _address(cu))
        total = int(cu[n])
        if out is None:
            out = np.empty((total, self.width), self._dtype)
        elif out.dtype != self._dtype or out.ndim != 2 or out.shape[1] != self.width or len(out) < total:
            raise ValueError(f"out is {out.dtype} {out.shape}, and {self._dtype} ({total}, {self.width}) is needed")
        elif not (out.flags.c_contiguous and out.flags.writeable):
            raise ValueError("out is not contiguous and writable")
        check("rot_reader_batch", self._reader, _address(wanted), n, _address(cu), _address(out), len(out), threads)
        return Batch(wanted, out[:total], cu)

    def prefetch(self, indices: Any, stage: str = "embeds") -> None:
        """Asks the kernel to read these samples' records ahead; returns at once.

        Call it for the batch after next: random reads from a disk then overlap, which is many times faster.
        """
        wanted = self._indices(indices)
        check("rot_reader_prefetch", self._reader, stage.encode(), wanted.ctypes.data, len(wanted))

    def drop(self, indices: Any, stage: str = "embeds") -> None:
        """Says that these records are done with, so that their pages may go: for one pass over more than memory."""
        wanted = self._indices(indices)
        check("rot_reader_drop", self._reader, stage.encode(), wanted.ctypes.data, len(wanted))

    def scan(self, batch_size: int = 64, *, drop_behind: bool = True) -> Iterator[Batch]:
        """All embeddings in the order of the store, in batches; reads one batch ahead and drops those behind."""
        for begin in range(0, self._n, batch_size):
            here = np.arange(begin, min(begin + batch_size, self._n))
            ahead = np.arange(begin + batch_size, min(begin + 2 * batch_size, self._n))
            if len(ahead):
                self.prefetch(ahead)
            yield self.batch(here)
            if drop_behind:
                self.drop(here)


def _reopen(path: str, split: Optional[str], stages: Optional[Tuple[str, ...]], verify: bool,
            keep_index: bool) -> Dataset:
    return Dataset(path, split, stages=stages, verify=verify, keep_index=keep_index)


def open(path: Union[str, "os.PathLike[str]"], split: Optional[str] = None, *,  # noqa: A001
         stages: Optional[Iterable[str]] = None, verify: bool = True, keep_index: bool = True) -> Dataset:
    """Opens a split of a dataset.

    :param path: the dataset's JSON file, such as ``out/gsm8k-aug.json``
    :param split: its name; may be left out if there is only one
    :param stages: which to read, of "tokens", "images", "embeds"; all that are built if left out
    :param verify: check every record against its hash at its first touch
    :param keep_index: write the indexes for ids, K and skipped rows beside the stages, once, instead of making them
        anew in every process
    """
    return Dataset(path, split, stages=stages, verify=verify, keep_index=keep_index)


__all__: List[str] = ["Batch", "Dataset", "Sample", "as_torch", "bf16_to_f32", "open"]
