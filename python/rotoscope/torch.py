"""PyTorch: a map-style dataset, a stream of ragged batches, and a loader whose place in a run is a few numbers.

    from rotoscope.torch import Loader
    loader = Loader("out/gsm8k-aug.json", split="train", budget=16384, bucket=True, num_workers=4)
    for batch in loader:                     # one epoch; the next `for` is the next epoch
        batch["embeddings"]                  # (sum of K, d) torch.bfloat16
        batch["cu_seqlens"]                  # (n + 1) int32: sample i has rows cu_seqlens[i] : cu_seqlens[i + 1]
        batch["question_ids"], batch["question_cu_seqlens"]
    state = loader.state_dict()              # save it with the model; load it on any number of ranks
"""
from __future__ import annotations

import collections
import os
from typing import Any, Deque, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
import torch.utils.data as data

from .batches import Batches
from .dataset import Batch, Dataset, Sample, as_torch
from .dataset import open as open_dataset

IDS = ("question_ids", "trace_ids", "answer_ids")
TEXTS = ("id", "question", "trace", "answer")


def _ragged(parts: Sequence[Any]) -> Tuple[torch.Tensor, torch.Tensor]:
    """Tensors one after another, and where each begins."""
    lengths = torch.tensor([0] + [len(p) for p in parts], dtype=torch.int64)
    tensors = [torch.as_tensor(p) for p in parts]
    return torch.cat(tensors) if tensors else torch.empty(0), lengths.cumsum(0).to(torch.int32)


def collate(samples: Sequence[Dict[str, Any]]) -> Dict[str, Any]:
    """Samples of `MapDataset` to one ragged batch: embeddings (sum of K, d) and cu_seqlens, as int32 for flash
    attention; token ids one after another with a cu_seqlens of their own; texts and images as lists.
    """
    if isinstance(samples, dict):  # MapDataset.__getitems__ has done it
        return samples
    out: Dict[str, Any] = {}
    for key in samples[0] if samples else ():
        values = [s[key] for s in samples]
        if key == "embeddings":
            out["embeddings"], out["cu_seqlens"] = _ragged(values)
        elif key in IDS:
            out[key], out[key[:-len("ids")] + "cu_seqlens"] = _ragged(values)
        elif key in ("index", "row", "K"):
            out[key] = torch.tensor(values, dtype=torch.int64)
        else:
            out[key] = values
    return out


def pad(batch: Dict[str, Any]) -> Tuple[torch.Tensor, torch.Tensor]:
    """Of a ragged batch: embeddings (n, largest K, d) with zeros behind each sample, and a mask (n, largest K)."""
    cu = batch["cu_seqlens"].tolist()
    parts = [batch["embeddings"][a:b] for a, b in zip(cu, cu[1:])]
    padded = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
    k = torch.tensor([len(p) for p in parts])
    return padded, torch.arange(padded.shape[1])[None, :] < k[:, None]


def _from_batch(ds: Dataset, batch: Batch, tokens: bool) -> Dict[str, Any]:
    out: Dict[str, Any] = {"index": torch.from_numpy(batch.index), "embeddings": as_torch(batch.embeddings),
                           "cu_seqlens": torch.from_numpy(batch.cu_seqlens.astype(np.int32)),
                           "K": torch.from_numpy(batch.K)}
    if tokens:
        read = [ds.tokens(int(i)) for i in batch.index]
        for key in IDS:
            out[key], out[key[:-len("ids")] + "cu_seqlens"] = _ragged([r[key] for r in read])
        for key in TEXTS:
            out[key] = [r[key] for r in read]
    return out


class MapDataset(data.Dataset):  # type: ignore[type-arg]
    """A split as a map-style dataset: ``DataLoader(MapDataset("out/x.json", "train"), batch_size=16,
    collate_fn=rotoscope.torch.collate, shuffle=True, num_workers=4)``.

    Works with fork and spawn workers. A DataLoader that fetches whole batches (``__getitems__``) gets them in one
    call of the library. Embeddings are copies, free to be written to.
    """

    def __init__(self, path: Union[str, "os.PathLike[str]", Dataset], split: Optional[str] = None, *,
                 stages: Iterable[str] = ("tokens", "embeds"), **options: Any):
        self.dataset = path if isinstance(path, Dataset) else open_dataset(path, split, stages=stages, **options)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample: Sample = self.dataset[index]
        if "embeddings" in sample:
            values = sample["embeddings"]
            sample["embeddings"] = as_torch(values if values.flags.writeable else values.copy())
        for key in IDS:
            if key in sample:
                sample[key] = torch.from_numpy(sample[key])
        if "image" in sample:
            sample["image"] = torch.from_numpy(sample["image"].copy())
        return sample

    def __getitems__(self, indices: Sequence[int]) -> Any:
        ds = self.dataset
        if "embeds" not in ds.stages or "images" in ds.stages:
            return [self[i] for i in indices]
        return _from_batch(ds, ds.batch(indices), "tokens" in ds.stages)


def _world() -> Tuple[int, int]:
    """Rank and number of ranks: of torch.distributed if it is up, else of torchrun's environment, else 0 of 1."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


class Stream(data.IterableDataset):  # type: ignore[type-arg]
    """Ragged batches of this rank, in an order that depends on the seed alone. Use it with
    ``DataLoader(stream, batch_size=None, num_workers=N)``, or better through `Loader`, which knows how far the run
    has come.

    Each batch is a dict as `collate` makes it, with a key "state": where to go on behind it. One iteration is one
    epoch, and the next iteration of the same object the next epoch.

    :param ahead: batches that the kernel is asked to read while the one before is used; 0 for none
    :param cutting: parameters of `rotoscope.Batches`: batch_size, budget, bucket, padded, shuffle, seed, block,
        drop_last, window
    """

    def __init__(self, path: Union[str, "os.PathLike[str]", Dataset], split: Optional[str] = None, *,
                 tokens: bool = True, rank: Optional[int] = None, ranks: Optional[int] = None, ahead: int = 2,
                 verify: bool = True, **cutting: Any):
        stages = ("tokens", "embeds") if tokens else ("embeds",)
        self.dataset = path if isinstance(path, Dataset) else open_dataset(path, split, stages=stages, verify=verify)
        self.tokens = tokens and "tokens" in self.dataset.stages
        known = _world()
        self.rank = known[0] if rank is None else rank
        self.ranks = known[1] if ranks is None else ranks
        self.ahead = ahead
        self.cutting = cutting
        self.state = self.batches().state_dict()  # refuses wrong parameters here, not in a worker

    def batches(self, worker: int = 0, workers: int = 1) -> Batches:
        needs_k = bool(self.cutting.get("budget") or self.cutting.get("bucket"))
        return Batches(len(self.dataset), k=self.dataset.K if needs_k else None, rank=self.rank, ranks=self.ranks,
                       worker=worker, workers=workers, **self.cutting)

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        info = data.get_worker_info()
        plan = self.batches(info.id if info else 0, info.num_workers if info else 1)
        plan.load_state_dict(self.state)
        waiting: Deque[Tuple[np.ndarray, Dict[str, int]]] = collections.deque()
        drawing = True
        while True:
            while drawing and len(waiting) <= self.ahead:
                samples = plan.next()
                if samples is None:
                    drawing = False
                    break
                if self.ahead > 0:
                    self.dataset.prefetch(samples)
                waiting.append((samples, plan.state_dict()))
            if not waiting:
                break
            samples, state = waiting.popleft()
            out = _from_batch(self.dataset, self.dataset.batch(samples), self.tokens)
            out["state"] = state
            self.state = state
            yield out
        self.state = plan.state_dict()  # the beginning of the next epoch

    def state_dict(self) -> Dict[str, int]:
        """Behind the batch that was yielded last, in this process."""
        return dict(self.state)

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        self.batches().load_state_dict(state)
        self.state = {k: int(v) for k, v in state.items()}


class Loader:
    """A DataLoader over a `Stream` that counts what was taken from it, not what its workers have read ahead.

    ``for batch in loader`` is one epoch from where it stands. ``state_dict()`` after a batch, loaded on every rank of
    a run with any number of ranks and workers, goes on behind that step: no sample is lost or repeated.

    :param num_workers: processes that read; 0 reads in this one
    :param loader: further parameters of torch.utils.data.DataLoader (pin_memory, multiprocessing_context, …)
    :param parameters: those of `Stream`
    """

    def __init__(self, path: Union[str, "os.PathLike[str]", Dataset], split: Optional[str] = None, *,
                 num_workers: int = 0, loader: Optional[Dict[str, Any]] = None, **parameters: Any):
        self.stream = Stream(path, split, **parameters)
        self._options = dict(loader or {}, batch_size=None, num_workers=num_workers)
        self._state = self.stream.state_dict()

    @property
    def dataset(self) -> Dataset:
        return self.stream.dataset

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        self.stream.load_state_dict(self._state)
        epoch = self._state["epoch"]
        for batch in data.DataLoader(self.stream, **self._options):
            self._state = batch.pop("state")
            yield batch
        self._state = {**self._state, "epoch": epoch + 1, "position": 0, "batch": 0}

    def state_dict(self) -> Dict[str, int]:
        """Where the run stands, as plain numbers; the same on every rank after the same number of steps."""
        return dict(self._state)

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Goes on from a state of any number of ranks and workers. UsageError if it is of other data, of another
        seed or of another way to cut batches."""
        self.stream.load_state_dict(state)
        self._state = self.stream.state_dict()


__all__: List[str] = ["Loader", "MapDataset", "Stream", "collate", "pad"]
