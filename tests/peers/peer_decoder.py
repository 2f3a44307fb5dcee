"""The decoder of trainer/decoder.h from Python, by ctypes on the shared library: for tests alone."""
import ctypes as C
import os
import pathlib

import numpy as np

TOP = pathlib.Path(__file__).resolve().parents[2]
F32, BF16 = 0, 1


class Err(C.Structure):
    _fields_ = [("code", C.c_int), ("message", C.c_char * 1024)]


class Lora(C.Structure):
    _fields_ = [("r", C.c_int), ("alpha", C.c_double), ("dropout", C.c_double), ("targets", C.c_char_p),
                ("seed", C.c_uint64)]


class Options(C.Structure):
    _fields_ = [("size", C.c_size_t), ("checkpoint", C.c_char_p), ("adapter", C.c_char_p), ("backend", C.c_char_p),
                ("precision", C.c_int), ("threads", C.c_int), ("train_all", C.c_bool), ("train_embedding", C.c_bool),
                ("lora", Lora), ("checkpointing", C.c_bool), ("dropout", C.c_bool),
                ("extra_rows", C.c_uint32)]


class Info(C.Structure):
    _fields_ = [("model_type", C.c_char * 32)] + \
               [(n, C.c_int32) for n in "d layers heads kv_heads head_dim mlp_width vocab positions".split()] + \
               [("tied", C.c_bool), ("eos", C.c_int32 * 4), ("n_eos", C.c_int32), ("bos", C.c_int32),
                ("pad", C.c_int32), ("n_parameters", C.c_int64), ("n_trained", C.c_int64)]


class Param(C.Structure):
    _fields_ = [("name", C.c_char_p), ("n_dims", C.c_int), ("shape", C.c_int64 * 4), ("n", C.c_size_t),
                ("value", C.POINTER(C.c_float)), ("grad", C.POINTER(C.c_float))]


class Failed(Exception):
    def __init__(self, err):
        super().__init__(err.message.decode(errors="replace"))
        self.code = err.code


def library():
    lib = C.CDLL(str(TOP / os.environ.get("BUILD", "build") / "librotoscope.so"))
    lib.rot_decoder_options_default.restype = Options
    lib.rot_decoder_get_info.restype = C.POINTER(Info)
    lib.rot_decoder_params.restype = C.POINTER(Param)
    return lib


def floats(array):
    return None if array is None else array.ctypes.data_as(C.POINTER(C.c_float))


def ints(array):
    return array.ctypes.data_as(C.POINTER(C.c_int32))


class Decoder:
    def __init__(self, checkpoint, lora=None, **options):
        self.lib = library()
        o = self.lib.rot_decoder_options_default()
        o.precision = F32
        o.checkpoint = os.fsencode(str(checkpoint))
        for key, value in options.items():
            setattr(o, key, os.fsencode(str(value)) if key in ("adapter", "backend") else value)
        for key, value in (lora or {}).items():
            setattr(o.lora, key, value.encode() if isinstance(value, str) else value)
        self.handle = C.c_void_p()
        self.call("rot_decoder_open", C.byref(o), C.byref(self.handle))
        self.info = self.lib.rot_decoder_get_info(self.handle).contents

    def call(self, name, *args):
        err = Err()
        if getattr(self.lib, name)(*args, C.byref(err)) < 0:
            raise Failed(err)

    def close(self):
        self.lib.rot_decoder_close(C.byref(self.handle))

    def params(self):
        """{name: (value, grad)}, views of the decoder's memory."""
        n = C.c_size_t()
        first = self.lib.rot_decoder_params(self.handle, C.byref(n))
        out = {}
        for p in first[:n.value]:
            shape = tuple(p.shape[:p.n_dims])
            out[p.name.decode()] = (np.ctypeslib.as_array(p.value, (p.n,)).reshape(shape),
                                    np.ctypeslib.as_array(p.grad, (p.n,)).reshape(shape))
        return out

    def zero_grad(self):
        self.lib.rot_decoder_zero_grad(self.handle)

    def update(self):
        self.call("rot_decoder_update", self.handle)

    def save(self, path, masters=False):
        self.call("rot_decoder_save", self.handle, os.fsencode(str(path)), C.c_bool(masters))

    def save_adapter(self, path):
        self.call("rot_decoder_save_adapter", self.handle, os.fsencode(str(path)))

    def embed(self, ids):
        ids = np.ascontiguousarray(ids, np.int32)
        out = np.empty((ids.size, self.info.d), np.float32)
        self.call("rot_decoder_embed", self.handle, ints(ids), C.c_size_t(ids.size), floats(out))
        return out

    def embed_backward(self, ids, rows):
        ids = np.ascontiguousarray(ids, np.int32)
        self.lib.rot_decoder_embed_backward(self.handle, ints(ids), C.c_size_t(ids.size), floats(rows))

    def set_row(self, index, row):
        self.call("rot_decoder_set_row", self.handle, C.c_int32(index), floats(np.ascontiguousarray(row, np.float32)))

    def logits(self, hidden):
        out = np.empty((len(hidden), self.info.vocab), np.float32)
        self.call("rot_decoder_logits", self.handle, floats(hidden), C.c_size_t(len(hidden)), floats(out))
        return out

    def cross_entropy(self, hidden, labels, weights=None):
        """(losses, gradient of hidden or None)"""
        labels = np.ascontiguousarray(labels, np.int32)
        losses = np.empty(len(hidden), np.float32)
        grad = None if weights is None else np.empty_like(hidden)
        weights = None if weights is None else np.ascontiguousarray(weights, np.float32)
        self.call("rot_decoder_cross_entropy", self.handle, floats(hidden), ints(labels), floats(weights),
                  C.c_size_t(len(hidden)), floats(losses), floats(grad))
        return losses, grad


class Context:
    def __init__(self, decoder, capacity, keep_grad=False):
        self.decoder, self.n = decoder, len(capacity)
        self.handle = C.c_void_p()
        decoder.call("rot_context_open", decoder.handle, C.c_size_t(self.n), ints(np.asarray(capacity, np.int32)),
                     C.c_bool(keep_grad), C.byref(self.handle))

    def close(self):
        self.decoder.lib.rot_context_close(C.byref(self.handle))

    def dropout(self, seed, keys):
        keys = None if keys is None else (C.c_uint64 * self.n)(*keys)
        self.decoder.lib.rot_context_dropout(self.handle, C.c_uint64(seed), keys)

    def truncate(self, lengths):
        self.decoder.lib.rot_context_truncate(self.handle, ints(np.asarray(lengths, np.int32)))

    def forward(self, counts, inputs, save=False):
        inputs = np.ascontiguousarray(inputs, np.float32)
        hidden = np.empty_like(inputs)
        self.decoder.call("rot_context_forward", self.handle, ints(np.asarray(counts, np.int32)), floats(inputs),
                          C.c_bool(save), floats(hidden))
        return hidden

    def backward(self, d_hidden, shape=None):
        out = np.empty(shape or d_hidden.shape, np.float32)
        d_hidden = None if d_hidden is None else np.ascontiguousarray(d_hidden, np.float32)
        self.decoder.call("rot_context_backward", self.handle, floats(d_hidden), floats(out))
        return out
