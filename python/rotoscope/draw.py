"""Text to pixels and to token ids, as the builder makes them."""
from __future__ import annotations

import ctypes as c
import os
from typing import Any, Dict, List, Sequence, Tuple, Union

import numpy as np

from . import _lib
from ._lib import check, lib

# Words of the config, in the order of the enums of include/rotoscope/render.h.
_WORDS = {"mode": ("line", "page"), "newline": ("space", "keep", "marker"), "layout": ("raqm", "basic"),
          "blend": ("over", "max"), "missing_glyph": ("fail", "skip", "draw")}
_COLORS = ("text_color", "background_color")
_PRESETS: Dict[str, Dict[str, Any]] = {"rot-paper": {}, "rot-released": {"size_px": 16, "newline": "keep"}}


def _color(text: str) -> Tuple[int, int, int]:
    if len(text) != 7 or text[0] != "#":
        raise ValueError(f"{text!r} is no color such as '#000000'")
    try:
        return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
    except ValueError:
        raise ValueError(f"{text!r} is no color such as '#000000'") from None


def _options(keys: Dict[str, Any]) -> _lib.RotRenderOptions:
    options: _lib.RotRenderOptions = lib.rot_render_options_default()
    known = {field[0] for field in options._fields_} - {"size", "n_fonts"}
    preset = keys.pop("preset", "rot-paper")
    if preset not in _PRESETS:
        raise ValueError(f"preset: {preset!r} is none of {', '.join(_PRESETS)}")
    for key, value in {**_PRESETS[preset], **keys}.items():
        if key not in known:
            raise TypeError(f"unknown key {key!r}; there are {', '.join(sorted(known | {'preset'}))}")
        if key == "fonts":
            names = [value] if isinstance(value, (str, os.PathLike)) else list(value)
            if not 1 <= len(names) <= _lib.MAX_FONTS:
                raise ValueError(f"fonts: {len(names)} of them, 1 to {_lib.MAX_FONTS} are possible")
            options.fonts = (c.c_char_p * _lib.MAX_FONTS)(*(os.fsencode(name) for name in names))
            options.n_fonts = len(names)
        elif key in _WORDS:
            if value not in _WORDS[key]:
                raise ValueError(f"{key}: {value!r} is none of {', '.join(_WORDS[key])}")
            setattr(options, key, _WORDS[key].index(value))
        elif key in _COLORS:
            setattr(options, key, (c.c_uint8 * 3)(*_color(value)))
        else:
            setattr(options, key, value)
    return options


class Renderer:
    """Draws texts with one set of keys; keeps fonts, shaping tables and glyphs between calls. Not for two threads
    at once.

    The keys are those of `render:` in a config, with the same defaults: ``Renderer(size_px=24, newline="marker")``,
    and ``missing_glyph``.
    """

    def __init__(self, **keys: Any):
        self._renderer, self._worker = c.c_void_p(), c.c_void_p()
        options = _options(dict(keys))
        check("rot_renderer_open", c.byref(options), c.byref(self._renderer))
        check("rot_render_worker_open", self._renderer, c.byref(self._worker))

    def __del__(self) -> None:
        if getattr(self, "_worker", None):
            lib.rot_render_worker_close(c.byref(self._worker))
        if getattr(self, "_renderer", None):
            lib.rot_renderer_close(c.byref(self._renderer))

    def __call__(self, text: str) -> np.ndarray:
        """uint8, (height, width), or (height, width, 3) if a color is not grey."""
        data = text.encode("utf-8", "surrogatepass")
        image = _lib.RotImage()
        check("rot_render", self._worker, data, len(data), c.byref(image), None)
        shape = (image.width_px, image.height_px, image.channels)
        size = shape[0] * shape[1] * shape[2]
        columns = np.frombuffer(c.string_at(image.pixels, size), np.uint8).reshape(shape).swapaxes(0, 1)
        return np.ascontiguousarray(columns[:, :, 0] if image.channels == 1 else columns)


def render(text: str, **keys: Any) -> np.ndarray:
    """Draws `text` as the builder does: uint8, (height, width), or (height, width, 3) in color.

    Keys as for `Renderer`, which is the quicker way to draw many.
    """
    return Renderer(**keys)(text)


def png(image: np.ndarray) -> bytes:
    """A PNG file of uint8 pixels, (height, width) or (height, width, 3)."""
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(f"{image.dtype} {image.shape} is no image: uint8, (height, width) or (height, width, 3)")
    columns = np.ascontiguousarray(image.swapaxes(0, 1))
    view = _lib.RotImage(columns.ctypes.data, image.shape[1], image.shape[0], 1 if image.ndim == 2 else 3)
    data, n = c.c_void_p(), c.c_size_t()
    check("rot_image_encode", c.byref(view), 0, c.byref(data), c.byref(n))
    try:
        return c.string_at(data.value or 0, n.value)
    finally:
        _free(data)


_free = c.CDLL(None).free
_free.argtypes, _free.restype = [c.c_void_p], None


class Tokenizer:
    """Token ids as Hugging Face's tokenizers gives them, special tokens in the text recognised, none added. Not for
    two threads at once.

    :param dir: a folder with a tokenizer.json
    """

    def __init__(self, dir: Union[str, "os.PathLike[str]"]):  # noqa: A002
        self._tokenizer, self._worker = c.c_void_p(), c.c_void_p()
        check("rot_tokenizer_open", os.fsencode(dir), c.byref(self._tokenizer))
        check("rot_tokenizer_worker_open", self._tokenizer, c.byref(self._worker))

    def __del__(self) -> None:
        if getattr(self, "_worker", None):
            lib.rot_tokenizer_worker_close(c.byref(self._worker))
        if getattr(self, "_tokenizer", None):
            lib.rot_tokenizer_close(c.byref(self._tokenizer))

    def __call__(self, text: str) -> np.ndarray:
        """int32 ids."""
        data = text.encode("utf-8", "surrogatepass")
        ids, n = c.c_void_p(), c.c_size_t()
        check("rot_tokenizer_encode", self._worker, data, len(data), c.byref(ids), c.byref(n))
        if n.value == 0:
            return np.empty(0, np.int32)
        return np.frombuffer(c.string_at(ids.value or 0, 4 * n.value), np.int32).copy()


def tokenize(dir: Union[str, "os.PathLike[str]"],  # noqa: A002
             text: Union[str, Sequence[str]]) -> Union[np.ndarray, List[np.ndarray]]:
    """Token ids of a text (int32), or of each of several, with the tokenizer.json in `dir`."""
    tokenizer = Tokenizer(dir)
    return tokenizer(text) if isinstance(text, str) else [tokenizer(one) for one in text]


__all__ = ["Renderer", "Tokenizer", "png", "render", "tokenize"]
