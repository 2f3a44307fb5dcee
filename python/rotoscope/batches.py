"""The order of samples and their batches: a function of a seed, the same for any number of ranks and workers."""
from __future__ import annotations

import ctypes as c
from typing import Any, Dict, Iterator, Optional

import numpy as np

from . import _lib
from ._lib import check, lib


def permutation(n: int, seed: int = 0, epoch: int = 0, block: int = 0) -> np.ndarray:
    """The order of `n` samples in `epoch`. With `block`, neighbours stay together in blocks of that many."""
    order = _lib.RotOrder(n, seed, block, True)
    return np.fromiter((lib.rot_order_at(c.byref(order), epoch, i) for i in range(n)), np.int64, n)


class Batches:
    """Batches of sample numbers.

    Iterating gives one epoch of int64 arrays, from where it stands; iterating again gives the next. All ranks see
    the same batches in the same order and take every `ranks`-th, so that the samples of a step do not depend on who
    reads them. `state_dict` is a few numbers; it may be loaded with another number of ranks, and every sample that
    is left comes exactly once.

    :param n: number of samples, ``len(dataset)``
    :param k: K of every sample, ``dataset.K``: needed with `budget` or `bucket`
    :param batch_size: samples in a batch at most; left out: 1, or no limit (as 0) where there is a `budget`
    :param budget: merged tokens in a batch at most
    :param padded: count a batch as its largest K times its samples, as a padded model does
    :param bucket: batches of similar K within a window, in shuffled order
    :param block: shuffle blocks of this many neighbours, and within them, for disks that seek
    :param drop_last: leave out a last step in which some rank would have no batch
    :param window: samples that are sorted and cut together
    """

    def __init__(self, n: int, *, k: Optional[np.ndarray] = None, batch_size: Optional[int] = None, budget: int = 0,
                 shuffle: bool = True, seed: int = 0, block: int = 0, padded: bool = False, bucket: bool = False,
                 drop_last: bool = False, window: int = 0, rank: int = 0, ranks: int = 1, worker: int = 0,
                 workers: int = 1):
        self._pointer = c.c_void_p()
        if batch_size is None:
            batch_size = 0 if budget else 1
        if k is not None and len(k) != n:
            raise ValueError(f"{len(k)} values of K for {n} samples")
        for name, value in (("n", n), ("batch_size", batch_size), ("budget", budget), ("seed", seed), ("block", block),
                            ("window", window), ("rank", rank), ("worker", worker)):
            if value < 0:
                raise ValueError(f"{name} is {value}")
        options = lib.rot_batches_options_default()
        options.order = _lib.RotOrder(n, seed, block, shuffle)
        options.batch_size, options.budget, options.window = batch_size, budget, window
        options.padded, options.bucket, options.drop_last = padded, bucket, drop_last
        options.rank, options.ranks, options.worker, options.workers = rank, ranks, worker, workers
        self._k = np.ascontiguousarray(k, np.uint32) if k is not None and (budget or bucket) else None  # is borrowed
        check("rot_batches_open", c.byref(options), self._k.ctypes.data if self._k is not None and n else
              (c.byref(c.c_uint32()) if self._k is not None else None), c.byref(self._pointer))

    def __del__(self) -> None:
        if self._pointer:
            lib.rot_batches_close(c.byref(self._pointer))

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            out = self.next()
            if out is None:
                return
            yield out

    def next(self) -> Optional[np.ndarray]:
        """The next batch, or None at the end of an epoch."""
        samples, n = c.c_void_p(), c.c_size_t()
        lib.rot_batches_next(self._pointer, c.byref(samples), c.byref(n))
        if n.value == 0:
            return None
        return np.frombuffer(c.string_at(samples.value or 0, 8 * n.value), np.int64).copy()

    def state_dict(self) -> Dict[str, int]:
        """Where it stands: behind the step of the batch that came last, of all ranks."""
        state = _lib.RotBatchesState()
        lib.rot_batches_get_state(self._pointer, c.byref(state))
        return {name: int(getattr(state, name)) for name in _lib.STATE}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Goes on from there. UsageError: a state of other data, another seed or another way to cut batches."""
        try:
            value = _lib.RotBatchesState(*(int(state[name]) for name in _lib.STATE))
        except (KeyError, TypeError) as e:
            raise ValueError(f"not a state of rotoscope.Batches: {state!r}") from e
        check("rot_batches_set_state", self._pointer, c.byref(value))
