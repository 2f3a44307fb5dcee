"""Encoder input against the software that the published code uses: qwen-vl-utils and the Qwen3-VL Fast
processor. Byte for byte."""
import json
import math
import os
import random
import struct
import subprocess
import zlib

import numpy as np
import pytest

pytest.importorskip("torch")
import peer_torch  # noqa: E402,F401
from PIL import Image  # noqa: E402
from qwen_vl_utils import process_vision_info  # noqa: E402
from qwen_vl_utils.vision_process import smart_resize as first_resize  # noqa: E402
from safetensors import safe_open  # noqa: E402
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize as second_resize  # noqa: E402
from transformers.models.qwen2_vl.image_processing_qwen2_vl_fast import Qwen2VLImageProcessorFast  # noqa: E402


@pytest.fixture(scope="module")
def model(rotoscope, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "a model"
    rotoscope("init-model", path)
    return path


@pytest.fixture(scope="module")
def processor(model):
    return Qwen2VLImageProcessorFast.from_pretrained(model)


def text_like(rng, height, width, channels):
    """Mostly white, with dark strokes: the values that rendered text has, and all others too."""
    noise = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    strokes = rng.random((height, width, 1)) < 0.35
    image = np.where(strokes, noise, 255).astype(np.uint8)
    return image[:, :, 0] if channels == 1 else image


def widths(n, seed):
    known = [24, 60, 97, 98, 99, 100, 209, 210, 300, 433, 434, 1000, 1057, 1500, 1777, 1778, 1800, 2000, 3000, 5614]
    rng = random.Random(seed)
    return known + [rng.randint(8, 5614) for _ in range(n - len(known))]


def reference(geometry, image, processor):
    messages = [{"role": "user", "content": [{"type": "image", "image": image}]}]
    if geometry == "released":
        (resized,), _ = process_vision_info(messages)
        done = processor(images=[resized], return_tensors="pt")
    else:
        (resized,), _ = process_vision_info(messages, image_patch_size=16)
        done = processor(images=[resized], return_tensors="pt", do_resize=False)
    return done["pixel_values"].numpy(), done["image_grid_thw"][0].numpy()


def compare(geometry, folder, images, model, processor, rotoscope):
    names = []
    for i, array in enumerate(images):
        names.append(folder / f"{i:04d}.{'pgm' if array.ndim == 2 else 'ppm'}")
        Image.fromarray(array).save(names[-1])
    out = folder / "out put.safetensors"
    rotoscope("encode", "-m", model, "--geometry", geometry, "--pixels", "-o", out, *names)
    with safe_open(out, "np") as file:
        assert len(list(file.keys())) == 2 * len(images)
        for name, array in zip(names, images):
            pixels, grid = reference(geometry, Image.open(name), processor)
            ours = file.get_tensor(name.stem + ".pixels")
            assert ours.dtype == np.float32 and file.get_tensor(name.stem + ".grid").dtype == np.int64
            assert file.get_tensor(name.stem + ".grid").tolist() == grid.tolist(), array.shape
            assert ours.shape == pixels.shape, array.shape
            assert ours.tobytes() == pixels.tobytes(), (array.shape, int((ours != pixels).sum()))


@pytest.mark.parametrize("geometry", ["released", "patch16"])
def test_pixels_of_lines_are_byte_equal(geometry, rotoscope, model, processor, tmp_path):
    rng = np.random.default_rng(4)
    images = [text_like(rng, 32, w, 1 if i % 4 else 3) for i, w in enumerate(widths(200, 3))]
    compare(geometry, tmp_path, images, model, processor, rotoscope)


@pytest.mark.parametrize("geometry", ["released", "patch16"])
def test_pixels_of_pages_are_byte_equal(geometry, rotoscope, model, processor, tmp_path):
    rng = np.random.default_rng(5)
    sizes = [(1, 1), (1, 200), (200, 1), (13, 17), (28, 28), (32, 32), (3000, 20), (700, 900), (1333, 999)]
    sizes += [(int(h), int(w)) for h, w in rng.integers(20, 800, (30, 2))]
    images = [text_like(rng, h, w, 1 if i % 3 else 3) for i, (h, w) in enumerate(sizes)]
    compare(geometry, tmp_path, images, model, processor, rotoscope)


def test_a_grey_image_is_an_rgb_image_of_equal_channels(rotoscope, model, tmp_path):
    grey = text_like(np.random.default_rng(6), 32, 777, 1)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.repeat(grey[:, :, None], 3, 2)).save(tmp_path / "rgb.png")
    for geometry in ("released", "patch16", "native"):
        out = tmp_path / "out.safetensors"
        rotoscope("encode", "-m", model, "--geometry", geometry, "--pixels", "-o", out, tmp_path / "grey.png", tmp_path / "rgb.png")
        with safe_open(out, "np") as file:
            assert file.get_tensor("grey.pixels").tobytes() == file.get_tensor("rgb.pixels").tobytes()


def test_native_pads_with_white_at_the_right_and_bottom(rotoscope, model, processor, tmp_path):
    image = text_like(np.random.default_rng(7), 40, 90, 3)
    Image.fromarray(image).save(tmp_path / "x.png")
    rotoscope("encode", "-m", model, "--geometry", "native", "--pixels", "-o", tmp_path / "o", tmp_path / "x.png")
    padded = np.full((64, 96, 3), 255, np.uint8)
    padded[:40, :90] = image
    done = processor(images=[Image.fromarray(padded)], return_tensors="pt", do_resize=False)
    with safe_open(tmp_path / "o", "np") as file:
        assert file.get_tensor("x.pixels").tobytes() == done["pixel_values"].numpy().tobytes()


def test_scalar_and_vector_paths_give_the_same_bytes(rotoscope, model, tmp_path, monkeypatch):
    Image.fromarray(text_like(np.random.default_rng(8), 32, 1234, 1)).save(tmp_path / "x.png")
    rotoscope("encode", "-m", model, "--pixels", "-o", tmp_path / "a", tmp_path / "x.png")
    monkeypatch.setenv("ROT_CPU", "ref")
    rotoscope("encode", "-m", model, "--pixels", "-o", tmp_path / "b", tmp_path / "x.png")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


GRIDS = r"""
#include <stdio.h>
#include "rotoscope/geometry.h"
int main(void)
{
    const int heights[] = {1, 16, 27, 28, 31, 32, 33, 48, 64, 100, 513, 2048, 7000};
    rot_preprocessor p = rot_preprocessor_default();
    for (int i = 0; i < 13; i++)
        for (int w = 1; w <= 7000; w++)
            for (int g = 0; g < 2; g++) {
                rot_grid grid = {0};
                int rc = rot_geometry_grid((rot_geometry)g, &p, w, heights[i], &grid, NULL);
                printf("%d %d %d %d %d %d %d %d %d %d\n", g, heights[i], w, rc, grid.first_height, grid.first_width,
                       grid.height, grid.width, grid.grid_h * grid.grid_w, grid.k);
            }
    return 0;
}
"""


def expected_sizes(geometry, height, width):
    factor = 28 if geometry == 0 else 32
    first = first_resize(height, width, factor)
    return first, first if geometry else second_resize(*first, factor=32, min_pixels=65536, max_pixels=16777216)


def test_every_size_equals_the_python_functions(tmp_path):
    build = peer_torch.TOP / os.environ.get("BUILD", "build")
    (tmp_path / "grids.c").write_text(GRIDS)
    objects = [build / "encoder/geometry.o", build / "base/err.o"]
    subprocess.run(["gcc", f"-I{peer_torch.TOP}/include", "-o", tmp_path / "grids", tmp_path / "grids.c", *objects, "-lm"], check=True)
    n = 0
    for line in subprocess.run([tmp_path / "grids"], check=True, capture_output=True, text=True).stdout.splitlines():
        geometry, height, width, rc, *ours = map(int, line.split())
        try:
            first, last = expected_sizes(geometry, height, width)
        except ValueError:
            assert rc == -6, line
            continue
        patches = last[0] // 16 * (last[1] // 16)
        assert rc == 0 and ours == [*first, *last, patches, patches // 4], (line, first, last)
        n += 1
    assert n > 100000


def test_wrong_use_of_encode(rotoscope, model, tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("x.png", "b/x.pgm"):
        Image.new("L", (64, 32)).save(tmp_path / name)
    Image.new("L", (7000, 32)).save(tmp_path / "long.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    out = tmp_path / "out.safetensors"

    def fails(code, word, *args):
        done = rotoscope("encode", *args, check=False)
        assert done.returncode == code and word in done.stderr.decode(), (args, done)
        assert not out.exists() and not list(tmp_path.glob("*.tmp.*"))

    fails(2, "both would be the tensor 'x'", "-m", model, "-o", out, tmp_path / "x.png", tmp_path / "b/x.pgm")
    fails(1, "bad.png", "-m", model, "-o", out, tmp_path / "x.png", tmp_path / "bad.png")
    fails(2, "nowhere.png", "-m", model, "-o", out, tmp_path / "nowhere.png")
    fails(1, "long.png", "-m", model, "-o", out, "--pixels", tmp_path / "long.png")
    fails(2, "which images", "-m", model, "-o", out)
    fails(2, "-o OUT", "-m", model, tmp_path / "x.png")
    fails(2, "-m DIR", "-o", out, tmp_path / "x.png")
    fails(2, "no such checkpoint", "-m", tmp_path / "no", "-o", out, tmp_path / "x.png")
    fails(2, "geometry", "-m", model, "-o", out, "--geometry", "patch14", tmp_path / "x.png")
    fails(2, "dtype", "-m", model, "-o", out, "--dtype", "f16", tmp_path / "x.png")
    fails(2, "backend", "-m", model, "-o", out, "--backend", "tpu", tmp_path / "x.png")
    fails(1, "out.safetensors", "-m", model, "-o", tmp_path / "no folder/out.safetensors", "--pixels", tmp_path / "x.png")


def test_json_says_what_was_encoded(rotoscope, model, tmp_path):
    Image.new("L", (1000, 32), 255).save(tmp_path / "x.png")
    done = rotoscope("encode", "-m", model, "-o", tmp_path / "o", "--pixels", "--json", tmp_path / "x.png")
    assert json.loads(done.stdout) == {"file": str(tmp_path / "x.png"), "name": "x", "width": 1000, "height": 32,
                                       "k": 96, "grid": [1, 4, 96]}
    assert math.prod(json.loads(done.stdout)["grid"]) == 384


def test_png_files_of_any_kind_are_read_as_the_published_code_reads_them(rotoscope, model, processor, tmp_path):
    rng = np.random.default_rng(9)
    rgba = rng.integers(0, 256, (50, 90, 4), dtype=np.uint8)
    rgb, grey = Image.fromarray(rgba[:, :, :3]), Image.fromarray(rgba[:, :, 0])
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    Image.fromarray(rgba[:, :, :2]).save(tmp_path / "grey_alpha.png")
    grey.save(tmp_path / "grey_transparent.png", transparency=int(rgba[0, 0, 0]))
    rgb.save(tmp_path / "rgb_transparent.png", transparency=tuple(map(int, rgba[0, 0, :3])))
    rgb.quantize(16).save(tmp_path / "palette.png", transparency=3)
    grey.convert("1").save(tmp_path / "bits.png")
    deep = rng.integers(0, 65536, (50, 90, 3), dtype=np.uint16).astype(">u2")
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 90, 50, 16, 2, 0, 0, 0)),
              (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in deep))), (b"IEND", b"")]
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks))
    files = sorted(tmp_path.glob("*.png"))
    assert len(files) == 7
    rotoscope("encode", "-m", model, "--pixels", "-o", tmp_path / "o", *files)
    with safe_open(tmp_path / "o", "np") as file:
        for path in files:
            assert file.get_tensor(path.stem + ".pixels").tobytes() == reference("released", Image.open(path), processor)[0].tobytes(), path
