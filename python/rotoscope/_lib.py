"""librotoscope through ctypes: the structs and functions of include/rotoscope that the package uses.

Everything else in the package goes through `lib` and `check` of this module.
"""
from __future__ import annotations

import ctypes as c
import os
import pathlib
import threading
from typing import Any, Optional, Type

# include/rotoscope/render.h
MAX_FONTS = 16


class RotErr(c.Structure):
    _fields_ = [("code", c.c_int), ("message", c.c_char * 1024)]


class RotImage(c.Structure):
    _fields_ = [("pixels", c.c_void_p), ("width_px", c.c_int32), ("height_px", c.c_int32), ("channels", c.c_int32)]


class RotRecord(c.Structure):
    _fields_ = [("kind", c.c_int), ("dtype", c.c_int), ("shape", c.c_uint32 * 4), ("payload", c.c_void_p),
                ("n_bytes", c.c_size_t)]


class RotReaderOptions(c.Structure):
    _fields_ = [("size", c.c_size_t), ("stages", c.c_char_p), ("verify", c.c_bool), ("keep_index", c.c_bool)]


class RotReaderInfo(c.Structure):
    _fields_ = [("name", c.c_char_p), ("split", c.c_char_p), ("root", c.c_char_p), ("rows", c.c_uint64),
                ("samples", c.c_uint64), ("skipped", c.c_uint64), ("has_tokens", c.c_bool), ("has_images", c.c_bool),
                ("has_embeds", c.c_bool), ("embeds_codec", c.c_int), ("embeds_dtype", c.c_int),
                ("embeds_width", c.c_uint32), ("embeds_taps", c.c_uint32)]


class RotSampleTexts(c.Structure):
    _fields_ = ([(name, c.c_void_p) for name in ("question_ids", "trace_ids", "answer_ids")]
                + [(name, c.c_uint32) for name in ("n_question_ids", "n_trace_ids", "n_answer_ids")]
                + [(name, c.c_void_p) for name in ("id", "question", "trace", "answer")]
                + [(name, c.c_uint32) for name in ("n_id", "n_question", "n_trace", "n_answer")])


class RotOrder(c.Structure):
    _fields_ = [("n", c.c_uint64), ("seed", c.c_uint64), ("block", c.c_uint64), ("shuffle", c.c_bool)]


class RotBatchesOptions(c.Structure):
    _fields_ = [("size", c.c_size_t), ("order", RotOrder), ("batch_size", c.c_uint64), ("budget", c.c_uint64),
                ("padded", c.c_bool), ("bucket", c.c_bool), ("drop_last", c.c_bool), ("window", c.c_uint64),
                ("rank", c.c_uint32), ("ranks", c.c_uint32), ("worker", c.c_uint32), ("workers", c.c_uint32)]


STATE = ("epoch", "position", "batch", "digest")


class RotBatchesState(c.Structure):
    _fields_ = [(name, c.c_uint64) for name in STATE]


class RotRenderOptions(c.Structure):
    _fields_ = [("size", c.c_size_t), ("fonts", c.c_char_p * MAX_FONTS), ("n_fonts", c.c_int), ("size_px", c.c_double),
                ("height_px", c.c_int), ("padding_px", c.c_int), ("mode", c.c_int), ("newline", c.c_int),
                ("thought_markers", c.c_bool), ("text_color", c.c_uint8 * 3), ("background_color", c.c_uint8 * 3),
                ("layout", c.c_int), ("blend", c.c_int), ("letter_spacing_px", c.c_double), ("width_px", c.c_int),
                ("page_height_px", c.c_int), ("line_spacing_px", c.c_int), ("missing_glyph", c.c_int)]


class RotRenderInfo(c.Structure):
    _fields_ = [("missing", c.c_int), ("first_missing", c.c_uint32), ("lines", c.c_int)]


MIRRORED = {"rot_err": RotErr, "rot_image": RotImage, "rot_record": RotRecord, "rot_reader_options": RotReaderOptions,
            "rot_reader_info": RotReaderInfo, "rot_sample_texts": RotSampleTexts, "rot_order": RotOrder,
            "rot_batches_options": RotBatchesOptions, "rot_batches_state": RotBatchesState,
            "rot_render_options": RotRenderOptions, "rot_render_info": RotRenderInfo}

KIND_TOKENS, KIND_IMAGE, KIND_EMBEDS = 1, 2, 3
DTYPE_BF16, DTYPE_F32 = 1, 2

# ---- errors -----------------------------------------------------------------------------------------------------


class RotoscopeError(Exception):
    """An error that the library reports. `code` is its number, `name` its short name, such as "corrupt"."""

    code: int = 0
    name: str = ""


class UsageError(RotoscopeError, ValueError):
    """The call or an option makes no sense."""


class MissingError(RotoscopeError, FileNotFoundError):
    """A file that was named is not there, or is not what it should be."""

    def __str__(self) -> str:  # an OSError would print its errno
        return str(self.args[0]) if self.args else ""


class NotFoundError(RotoscopeError, LookupError):
    """No such sample, row, id, split or stage."""


class CorruptError(RotoscopeError):
    """A hash, a header or a size does not fit: `rotoscope verify` names every bad record."""


class InputError(RotoscopeError, ValueError):
    """Text that cannot be drawn or tokenized."""


class NoMemoryError(RotoscopeError, MemoryError):
    """No memory."""


_ERRORS: "dict[int, Type[RotoscopeError]]" = {
    -1: UsageError, -2: UsageError, -3: MissingError, -4: InputError, -6: InputError, -7: InputError,
    -11: NoMemoryError, -13: NotFoundError, -14: CorruptError}


def error(err: RotErr, code: int) -> RotoscopeError:
    out = _ERRORS.get(code, RotoscopeError)(err.message.decode(errors="replace"))
    out.code = code
    out.name = lib.rot_error_name(code).decode()
    return out


# ---- functions --------------------------------------------------------------------------------------------------

_SIGNATURES: "dict[str, tuple[Any, list[Any]]]" = {
    "rot_error_name": (c.c_char_p, [c.c_int]),
    "rot_abi_size": (c.c_size_t, [c.c_int, c.POINTER(c.c_char_p)]),
    "rot_reader_options_default": (RotReaderOptions, []),
    "rot_reader_open": (c.c_int, [c.c_char_p, c.c_char_p, c.c_void_p, c.c_void_p, c.c_void_p]),
    "rot_reader_close": (None, [c.c_void_p]),
    "rot_reader_get_info": (c.POINTER(RotReaderInfo), [c.c_void_p]),
    "rot_reader_row": (c.c_int, [c.c_void_p, c.c_uint64, c.c_void_p, c.c_void_p]),
    "rot_reader_sample": (c.c_int, [c.c_void_p, c.c_uint64, c.c_void_p, c.c_void_p]),
    "rot_reader_find": (c.c_int, [c.c_void_p, c.c_char_p, c.c_size_t, c.c_void_p, c.c_void_p]),
    "rot_reader_k": (c.c_int, [c.c_void_p, c.c_void_p, c.c_void_p]),
    "rot_reader_peek": (c.c_int, [c.c_void_p, c.c_char_p, c.c_uint64, c.c_void_p, c.c_void_p]),
    "rot_reader_view": (c.c_int, [c.c_void_p, c.c_char_p, c.c_uint64, c.c_void_p, c.c_void_p]),
    "rot_reader_read": (c.c_int, [c.c_void_p, c.c_char_p, c.c_uint64, c.c_void_p, c.c_size_t, c.c_void_p, c.c_void_p]),
    "rot_reader_texts": (c.c_int, [c.c_void_p, c.c_void_p, c.c_void_p]),
    "rot_reader_lengths": (c.c_int, [c.c_void_p, c.c_void_p, c.c_size_t, c.c_void_p, c.c_void_p]),
    "rot_reader_batch": (c.c_int, [c.c_void_p, c.c_void_p, c.c_size_t, c.c_void_p, c.c_void_p, c.c_uint64, c.c_int,
                                   c.c_void_p]),
    "rot_reader_prefetch": (c.c_int, [c.c_void_p, c.c_char_p, c.c_void_p, c.c_size_t, c.c_void_p]),
    "rot_reader_drop": (c.c_int, [c.c_void_p, c.c_char_p, c.c_void_p, c.c_size_t, c.c_void_p]),
    "rot_order_at": (c.c_uint64, [c.c_void_p, c.c_uint64, c.c_uint64]),
    "rot_batches_options_default": (RotBatchesOptions, []),
    "rot_batches_open": (c.c_int, [c.c_void_p, c.c_void_p, c.c_void_p, c.c_void_p]),
    "rot_batches_close": (None, [c.c_void_p]),
    "rot_batches_next": (None, [c.c_void_p, c.c_void_p, c.c_void_p]),
    "rot_batches_get_state": (None, [c.c_void_p, c.c_void_p]),
    "rot_batches_set_state": (c.c_int, [c.c_void_p, c.c_void_p, c.c_void_p]),
    "rot_render_options_default": (RotRenderOptions, []),
    "rot_renderer_open": (c.c_int, [c.c_void_p, c.c_void_p, c.c_void_p]),
    "rot_renderer_close": (None, [c.c_void_p]),
    "rot_render_worker_open": (c.c_int, [c.c_void_p, c.c_void_p, c.c_void_p]),
    "rot_render_worker_close": (None, [c.c_void_p]),
    "rot_render": (c.c_int, [c.c_void_p, c.c_char_p, c.c_size_t, c.c_void_p, c.c_void_p, c.c_void_p]),
    "rot_image_encode": (c.c_int, [c.c_void_p, c.c_int, c.c_void_p, c.c_void_p, c.c_void_p]),
    "rot_tokenizer_open": (c.c_int, [c.c_char_p, c.c_void_p, c.c_void_p]),
    "rot_tokenizer_close": (None, [c.c_void_p]),
    "rot_tokenizer_worker_open": (c.c_int, [c.c_void_p, c.c_void_p, c.c_void_p]),
    "rot_tokenizer_worker_close": (None, [c.c_void_p]),
    "rot_tokenizer_encode": (c.c_int, [c.c_void_p, c.c_char_p, c.c_size_t, c.c_void_p, c.c_void_p, c.c_void_p]),
}


def _load() -> c.CDLL:
    here = pathlib.Path(__file__).resolve().parent
    named = os.environ.get("ROTOSCOPE_LIBRARY")
    tried = [named] if named else [str(here / "librotoscope.so"),
                                   str(here.parents[1] / "build" / "librotoscope.so"), "librotoscope.so.0"]
    found: Optional[c.CDLL] = None
    cause = ""
    for name in tried:
        if "/" in name and not os.path.exists(name):
            cause = cause or f"{name}: no such file"
            continue
        try:
            found = c.CDLL(name)
            break
        except OSError as e:
            cause = str(e)
    if found is None:
        raise ImportError(f"rotoscope: no librotoscope.so could be loaded ({cause}). Build it with `make`, install "
                          "the packages of tools/packages.txt, or name it in ROTOSCOPE_LIBRARY")
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(found, name)
        function.restype = result
        function.argtypes = arguments
    _check_sizes(found)
    return found


def _check_sizes(found: c.CDLL) -> None:
    """A library whose structs are not those above would read and write where it must not."""
    seen = set()
    name = c.c_char_p()
    i = 0
    while True:
        size = found.rot_abi_size(i, c.byref(name))
        if size == 0:
            break
        key = (name.value or b"").decode()
        seen.add(key)
        if key in MIRRORED and c.sizeof(MIRRORED[key]) != size:
            raise ImportError(f"rotoscope: {key} has {size} bytes in the library and {c.sizeof(MIRRORED[key])} here: "
                              "the library and the package are of different versions")
        i += 1
    if set(MIRRORED) - seen:
        raise ImportError(f"rotoscope: the library does not tell the size of {sorted(set(MIRRORED) - seen)}")


lib = _load()
_errs = threading.local()


def check(name: str, *arguments: Any) -> None:
    """Calls a function whose last parameter is a rot_err; raises what it reports."""
    err = getattr(_errs, "err", None)
    if err is None:  # one per thread; to clear a kilobyte for every call would cost more than many calls
        err = _errs.err = RotErr()
    code = getattr(lib, name)(*arguments, c.byref(err))
    if code < 0:
        raise error(err, code)
