"""Rotoscope: target embeddings of rendered reasoning, read from a store.

    import rotoscope
    ds = rotoscope.open("out/gsm8k-aug.json", split="train")
    len(ds), ds[0]["question"], ds[0]["K"]        # samples; a dict per sample
    ds[0].embeddings_f32                          # (K, d) float32; ds[0]["embeddings"] are bfloat16 bits, no copy
    ds.by_id("train-17")                          # by the id of the input
    ds.batch([3, 1, 4])                           # ragged: embeddings (sum of K, d) and cu_seqlens

PyTorch: `rotoscope.torch`. Order and batches by themselves: `Batches`, `permutation`. Drawing and tokenizing as the
builder does: `render`, `tokenize`. Other formats: ``python -m rotoscope export --help``.
"""
from ._lib import (CorruptError, InputError, MissingError, NoMemoryError, NotFoundError, RotoscopeError, UsageError)
from .batches import Batches, permutation
from .dataset import Batch, Dataset, Sample, as_torch, bf16_to_f32, open  # noqa: A004
from .draw import Renderer, Tokenizer, png, render, tokenize

__all__ = ["Batch", "Batches", "CorruptError", "Dataset", "InputError", "MissingError", "NoMemoryError",
           "NotFoundError", "Renderer", "RotoscopeError", "Sample", "Tokenizer", "UsageError", "as_torch",
           "bf16_to_f32", "open", "permutation", "png", "render", "tokenize"]
