"""LLaVA-1.6 against transformers: the Fast processor's pixels byte for byte, image features (tower, projector,
unpadding, newlines) against float64 by the gates of test_tower.py, K of many sizes."""
import json
import os
import subprocess

import numpy as np
import pytest

import peer_torch  # (before transformers)
import torch
from peer_backends import bf16_backends
from PIL import Image
from safetensors.torch import load_file
from test_tower import per_token, relative, write_image
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText
from transformers.models.llava_next.modeling_llava_next import LlavaNextModel

# every pinpoint; paddings of an odd number of pixels at the top and at the left; a line of which no row is left
SIZES = [(300, 32), (32, 300), (500, 480), (1900, 600), (337, 1009), (1001, 333), (3000, 32), (336, 336), (97, 61)]
CASES = {
    "llava-tiny": (["--arch", "llava-tiny"], SIZES),
    "llava-7b-4-blocks": (["--arch", "llava-7b", "--depth", 4], [(300, 32), (500, 470)]),
}


def torch_model(checkpoint, dtype):
    config = AutoConfig.from_pretrained(checkpoint)
    config.text_config.num_hidden_layers = 1
    config.text_config.intermediate_size = 8
    model = LlavaNextModel._from_config(config)
    weights = load_file(checkpoint / "model.safetensors")
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and all(name.startswith("language_model.") for name in missing)
    return model.to(dtype).eval()


def features(model, views, sizes):
    """Image by image: pixel_values of several images would be padded to the same number of views."""
    with torch.no_grad():
        return torch.cat([model.get_image_features(v[None].to(model.dtype), torch.tensor([s]))[0]
                          for v, s in zip(views, sizes)]).double()


class Case:
    def __init__(self, name, folder, rotoscope, arguments, sizes):
        self.name, self.folder, self.rotoscope = name, folder, rotoscope
        self.checkpoint = folder / "checkpoint"
        rotoscope("init-model", self.checkpoint, *arguments)
        self.images = [folder / f"i{i}.pgm" for i in range(len(sizes))]
        for i, (path, (width, height)) in enumerate(zip(self.images, sizes)):
            write_image(path, width, height, i)
        processor = AutoImageProcessor.from_pretrained(self.checkpoint, use_fast=True)
        assert type(processor).__name__ == "LlavaNextImageProcessorFast"
        self.views = [processor(images=[Image.open(p).convert("RGB")], return_tensors="pt")["pixel_values"][0]
                      for p in self.images]
        self.sizes = [(height, width) for width, height in sizes]
        self.exact = features(torch_model(self.checkpoint, torch.float64), self.views, self.sizes)

    def encode(self, images, *options):
        out = self.folder / "out.safetensors"
        self.rotoscope("encode", "-m", self.checkpoint, *images, "-o", out, *options)
        return load_file(out)

    def tokens(self, *options):
        stored = self.encode(self.images, *options)
        return torch.cat([stored[f"i{i}"] for i in range(len(self.images))])


@pytest.fixture(scope="module", params=list(CASES))
def case(request, tmp_path_factory, rotoscope):
    made = Case(request.param, tmp_path_factory.mktemp(request.param), rotoscope, *CASES[request.param])
    yield made
    for file in made.checkpoint.glob("*.safetensors"):
        file.unlink()


def patches_of(views):
    """(views, 3, 336, 336) to rows of 3 * 14 * 14, view after view, in raster order."""
    n, side = views.shape[0], views.shape[2] // 14
    return views.view(n, 3, side, 14, side, 14).permute(0, 2, 4, 1, 3, 5).reshape(n * side * side, -1)


def test_pixels_are_byte_equal(case):
    stored = case.encode(case.images, "--pixels")
    for i, views in enumerate(case.views):
        assert stored[f"i{i}.pixels"].numpy().tobytes() == patches_of(views).contiguous().numpy().tobytes(), case.sizes[i]


def test_f32_equals_float64(case):
    got = case.tokens("--dtype", "f32")
    assert got.dtype == torch.float32 and got.shape == case.exact.shape
    worst = per_token(got.double(), case.exact)
    print(f"\nf32 ref: worst token {worst:.2e}")
    assert worst <= 1e-4


def test_bf16_is_as_near_as_transformers(case, monkeypatch):
    theirs = relative(features(torch_model(case.checkpoint, torch.bfloat16), case.views, case.sizes), case.exact)
    for backend in bf16_backends(case, monkeypatch, case.name == "llava-tiny"):
        if backend == "ref" and case.name != "llava-tiny":
            continue  # slow
        got = case.tokens("--backend", backend).double()
        cosine = torch.nn.functional.cosine_similarity(got, case.exact, dim=1)
        ours = relative(got, case.exact)
        print(f"\nbf16 {backend}: relative L2 {ours:.2e} (transformers {theirs:.2e}), cosine mean "
              f"{cosine.mean():.6f} min {cosine.min():.6f}")
        assert cosine.mean() >= 0.999
        assert ours <= 1.5 * theirs


def test_an_image_alone_has_the_bits_it_has_in_a_batch(case):
    if case.name != "llava-tiny":
        pytest.skip("a matter of the walk, not of the size")
    together = case.encode(case.images)
    backwards = case.encode(case.images[::-1], "--threads", "1")
    for i, image in enumerate(case.images):
        alone = case.encode([image])[f"i{i}"]
        assert torch.equal(alone.view(torch.int16), together[f"i{i}"].view(torch.int16))
        assert torch.equal(alone.view(torch.int16), backwards[f"i{i}"].view(torch.int16))


def test_checkpoint_would_show_mistakes(case):
    def wrong(change):
        model = torch_model(case.checkpoint, torch.float32)
        with torch.no_grad():
            change(model)
        out = features(model, case.views, case.sizes)
        return per_token(out, case.exact) if out.shape == case.exact.shape else 1

    if case.name != "llava-tiny":
        pytest.skip("drawn alike")
    tower = "vision_tower"
    assert wrong(lambda m: None) < 1e-4
    assert wrong(lambda m: setattr(m.config, "vision_feature_layer", -1)) > 0.02
    assert wrong(lambda m: m.image_newline.mul_(1.01)) > 0.005
    assert wrong(lambda m: getattr(m, tower).vision_model.embeddings.class_embedding.zero_()) > 1e-3
    table = lambda m: getattr(m, tower).vision_model.embeddings.position_embedding.weight  # noqa: E731
    assert wrong(lambda m: table(m).copy_(table(m).roll(1, 0))) > 0.02
    assert wrong(lambda m: setattr(m.multi_modal_projector, "act", torch.nn.GELU(approximate="tanh"))) > 1e-4

    def plain_gelu(model):
        for layer in getattr(model, tower).vision_model.encoder.layers:
            layer.mlp.activation_fn = torch.nn.GELU()
    assert wrong(plain_gelu) > 1e-3


def test_pixels_of_many_sizes_are_byte_equal(rotoscope, tmp_path):
    """Lines, columns and pages; grey and colour; odd paddings on either side."""
    rotoscope("init-model", tmp_path / "m", "--arch", "llava-tiny", "--depth", "2")
    processor = AutoImageProcessor.from_pretrained(tmp_path / "m", use_fast=True)
    rng = np.random.default_rng(3)
    sizes = [(1, 1), (1, 300), (300, 1), (32, 1057), (672, 672), (336, 1008), (1008, 336)]
    sizes += [(int(h), int(w)) for h, w in rng.integers(2, 900, (25, 2))] + [(32, int(w)) for w in rng.integers(30, 3000, 12)]
    names = []
    for i, (h, w) in enumerate(sizes):
        image = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
        names.append(tmp_path / f"{i:03d}.{'ppm' if i % 3 else 'pgm'}")
        Image.fromarray(image if i % 3 else image[:, :, 0]).save(names[-1])
    for at in range(0, len(names), 10):
        rotoscope("encode", "-m", tmp_path / "m", "--pixels", "-o", tmp_path / "o", *names[at:at + 10])
        stored = load_file(tmp_path / "o")
        for name, size in zip(names[at:at + 10], sizes[at:at + 10]):
            views = processor(images=[Image.open(name).convert("RGB")], return_tensors="pt")["pixel_values"][0]
            assert stored[name.stem + ".pixels"].numpy().tobytes() == patches_of(views).contiguous().numpy().tobytes(), size


KS = r"""
#include <stdio.h>
#include "rotoscope/geometry.h"
int main(void)
{
    rot_preprocessor p = {.family = ROT_FAMILY_LLAVA_NEXT, .patch_px = 14, .temporal = 1, .merge = 1, .min_pixels = 1,
                          .max_pixels = 1 << 30, .tile_px = 336, .n_pinpoints = 5,
                          .pinpoints = {{336, 672}, {672, 336}, {672, 672}, {1008, 336}, {336, 1008}}};
    const int heights[] = {1, 2, 16, 31, 32, 33, 64, 100, 336, 513, 672, 1008, 2048};
    for (int i = 0; i < 13; i++)
        for (int w = 1; w <= 3000; w++) {
            rot_grid g = {0};
            int rc = rot_geometry_grid(ROT_GEOMETRY_RELEASED, &p, w, heights[i], &g, NULL);
            printf("%d %d %d %d %d %d %d %d\n", heights[i], w, rc, g.first_height, g.first_width, g.height, g.width, g.k);
        }
    return 0;
}
"""


def test_every_size_equals_the_python_functions(tmp_path):
    from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
    from transformers.image_utils import ChannelDimension
    from transformers.models.llava_next.modeling_llava_next import unpad_image

    build = peer_torch.TOP / os.environ.get("BUILD", "build")
    (tmp_path / "k.c").write_text(KS)
    objects = [build / "encoder/geometry.o", build / "base/err.o"]
    subprocess.run(["gcc", f"-I{peer_torch.TOP}/include", "-o", tmp_path / "k", tmp_path / "k.c", *objects, "-lm"], check=True)
    pinpoints = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    n = 0
    for line in subprocess.run([tmp_path / "k"], check=True, capture_output=True, text=True).stdout.splitlines():
        height, width, rc, *ours = map(int, line.split())
        best = select_best_resolution((height, width), pinpoints)
        if best is None:
            assert rc == -6, line
            continue
        first = get_patch_output_size(np.broadcast_to(np.uint8(0), (3, height, width)), best, ChannelDimension.FIRST)
        left = unpad_image(torch.empty(1, best[0] // 14, best[1] // 14, device="meta"), (height, width)).shape
        assert rc == 0 and ours == [*first, *best, 576 + left[1] * (left[2] + 1)], (line, first, best, left)
        n += 1
    assert n > 30000


def test_transformers_loads_the_whole_model(rotoscope, tmp_path):
    rotoscope("init-model", tmp_path / "m", "--arch", "llava-tiny", "--text")
    model, info = AutoModelForImageTextToText.from_pretrained(tmp_path / "m", output_loading_info=True, dtype=torch.float32)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    with torch.no_grad():
        logits = model(input_ids=torch.arange(20, 30)[None]).logits
    assert torch.isfinite(logits).all() and logits.std() > 0.1
    model.save_pretrained(tmp_path / "again")  # and what it writes is read
    for name in ("preprocessor_config.json",):
        (tmp_path / "again" / name).write_bytes((tmp_path / "m" / name).read_bytes())
    write_image(tmp_path / "x.pgm", 300, 32, 0)
    for folder in ("m", "again"):
        rotoscope("encode", "-m", tmp_path / folder, "-o", tmp_path / f"{folder}.out", tmp_path / "x.pgm")
    assert load_file(tmp_path / "m.out")["x"].equal(load_file(tmp_path / "again.out")["x"])


def test_only_the_geometries_that_exist(rotoscope, tmp_path):
    write_image(tmp_path / "x.pgm", 300, 32, 0)
    rotoscope("init-model", tmp_path / "llava", "--arch", "llava-tiny")
    rotoscope("init-model", tmp_path / "qwen", "--arch", "qwen2.5-tiny")
    for model, geometry, words in (("llava", "native", ("native", "LLaVA-1.6")), ("llava", "patch16", ("patch16", "LLaVA-1.6")),
                                   ("qwen", "patch16", ("patch16", "Qwen2.5-VL"))):
        done = rotoscope("encode", "-m", tmp_path / model, "-o", tmp_path / "o", "--geometry", geometry, tmp_path / "x.pgm", check=False)
        assert done.returncode == 2 and all(w in done.stderr.decode() for w in words), done.stderr


@pytest.mark.parametrize("change, words", [
    ({"vision_feature_layer": [-2, -5]}, "vision_feature_layer"),
    ({"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy"),
    ({"image_grid_pinpoints": [[336, 600]]}, "image_grid_pinpoints"),
    ({"image_grid_pinpoints": [[672, 672]]}, "not those of config.json"),
    ({"vision_config": None}, "vision_config"),
])
def test_what_is_not_computed_is_refused(change, words, rotoscope, tmp_path):
    rotoscope("init-model", tmp_path / "m", "--arch", "llava-tiny")
    config = json.loads((tmp_path / "m/config.json").read_text())
    (tmp_path / "m/config.json").write_text(json.dumps({**config, **change}))
    write_image(tmp_path / "x.pgm", 300, 32, 0)
    done = rotoscope("encode", "-m", tmp_path / "m", "-o", tmp_path / "o", tmp_path / "x.pgm", check=False)
    assert done.returncode in (1, 2) and words in done.stderr.decode(), done.stderr
