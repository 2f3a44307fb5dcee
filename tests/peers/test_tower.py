"""The tower against transformers' Qwen3VLVisionModel on random checkpoints, both against float64.

Gates: float32 per-token relative L2 <= 1e-4; bf16 mean token cosine >= 0.999 and relative L2 no more than
1.5 times that of transformers in bf16. All images of a case go through one call: one packed batch."""
import json

import numpy as np
import pytest

import peer_torch  # noqa: F401  (before transformers)
import torch
from peer_backends import bf16_backends
from safetensors.torch import load_file
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

# width and height in pixels of images for the native geometry: grids of 2 x 270 (over 256 wide), 4 x 96,
# 8 x 20, 2 x 2, 12 x 6, 2 x 188
SIZES = [(4300, 32), (1530, 64), (320, 128), (20, 9), (90, 190), (3000, 32)]
FEW = [(2400, 32), (320, 128)]


def custom(depth, width, heads, mlp, out):
    return ["--arch", "custom", "--depth", depth, "--width", width, "--heads", heads, "--mlp", mlp, "--out", out]


CASES = {
    "tiny": (["--arch", "tiny"], SIZES),
    "odd-144": (custom(4, 144, 2, 4304, 320), SIZES),
    "odd-576": (custom(4, 576, 8, 4304, 1000), SIZES),
    "2b-4-blocks": (custom(4, 1024, 16, 4096, 2048), SIZES),
    "4b-4-blocks": (custom(4, 1024, 16, 4096, 2560), SIZES),
    "8b-4-blocks": (custom(4, 1152, 16, 4304, 4096), SIZES),
    "4b-full": (["--arch", "4b"], FEW),
}


def write_image(path, width, height, seed):
    """Dark strokes on white, some noise: contrast as text has it."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width), 255, np.uint8)
    for _ in range(width // 6):
        x, y = rng.integers(width), rng.integers(height)
        pixels[y : y + rng.integers(1, 9), x : x + rng.integers(1, 4)] = rng.integers(0, 120)
    noise = rng.integers(0, 4, pixels.shape, dtype=np.uint8)
    path.write_bytes(b"P5\n%d %d\n255\n" % (width, height) + (pixels - noise).tobytes())


def torch_model(checkpoint, dtype, attention):
    config = Qwen3VLVisionConfig(**json.loads((checkpoint / "config.json").read_text())["vision_config"])
    config._attn_implementation = attention
    model = Qwen3VLVisionModel(config)
    rotation = model.rotary_pos_emb.inv_freq.clone()
    weights = {}
    for file in sorted(checkpoint.glob("*.safetensors")):
        for name, tensor in load_file(file).items():
            if "visual." in name:
                weights[name.split("visual.", 1)[1]] = tensor
    model.load_state_dict(weights)
    model = model.to(dtype).eval()
    # from_pretrained keeps this buffer in float32 (it is no parameter); .to(bfloat16) would round it
    model.rotary_pos_emb.inv_freq = rotation.to(torch.float64 if dtype == torch.float64 else torch.float32)
    return model


def outputs(model, pixels, grid):
    """Merged tokens and the list of taps: transformers 4 gives a pair, 5 an object."""
    with torch.no_grad():
        out = model(pixels, grid)
    return (out.pooler_output, out.deepstack_features) if hasattr(out, "pooler_output") else out


def run_torch(checkpoint, dtype, pixels, grid, attention="sdpa"):
    return outputs(torch_model(checkpoint, dtype, attention), pixels.to(dtype), grid)[0].double()


class Case:
    def __init__(self, name, folder, rotoscope, arguments, sizes):
        self.name = name
        self.folder, self.rotoscope = folder, rotoscope
        self.checkpoint = folder / "checkpoint"
        rotoscope("init-model", self.checkpoint, *arguments)
        self.images = [folder / f"i{i}.pgm" for i in range(len(sizes))]
        for i, (path, (width, height)) in enumerate(zip(self.images, sizes)):
            write_image(path, width, height, i)
        stored = self.encode("--pixels")
        self.pixels = torch.cat([stored[f"i{i}.pixels"] for i in range(len(sizes))])
        self.grid = torch.stack([stored[f"i{i}.grid"] for i in range(len(sizes))])
        self.exact = run_torch(self.checkpoint, torch.float64, self.pixels, self.grid)

    def encode(self, *options):
        out = self.folder / "out.safetensors"
        self.rotoscope("encode", "-m", self.checkpoint, *self.images, "-o", out, "--geometry", "native", *options)
        return load_file(out)

    def tokens(self, *options):
        stored = self.encode(*options)
        return torch.cat([stored[f"i{i}"] for i in range(len(self.images))])


@pytest.fixture(scope="module", params=list(CASES))
def case(request, tmp_path_factory, rotoscope):
    made = Case(request.param, tmp_path_factory.mktemp(request.param), rotoscope, *CASES[request.param])
    yield made
    for file in made.checkpoint.glob("*.safetensors"):
        file.unlink()  # a full one has 800 MB


def relative(x, exact):
    return ((x - exact).norm() / exact.norm()).item()


def per_token(x, exact):
    return ((x - exact).norm(dim=1) / exact.norm(dim=1)).max().item()


def test_f32_equals_float64(case):
    got = case.tokens("--dtype", "f32")
    assert got.dtype == torch.float32 and got.shape == case.exact.shape
    worst = per_token(got.double(), case.exact)
    print(f"\nf32 ref: worst token {worst:.2e}")
    assert worst <= 1e-4


def test_f32_equals_transformers_f32(case):
    if case.name == "4b-full":
        pytest.skip("float64 is enough at full depth")
    theirs = run_torch(case.checkpoint, torch.float32, case.pixels, case.grid, "eager")
    assert per_token(case.tokens("--dtype", "f32").double(), theirs) <= 1e-4


def test_bf16_is_as_near_as_transformers(case, monkeypatch):
    theirs = relative(run_torch(case.checkpoint, torch.bfloat16, case.pixels, case.grid), case.exact)
    seen = {}
    for backend in bf16_backends(case, monkeypatch, case.name in ("tiny", "odd-144")):
        got = case.tokens("--backend", backend)
        assert got.dtype == torch.bfloat16
        if backend in seen:  # amx on real tiles, then in C
            assert torch.equal(got.view(torch.int16), seen[backend].view(torch.int16))
        seen[backend] = got
        got = got.double()
        cosine = torch.nn.functional.cosine_similarity(got, case.exact, dim=1)
        ours = relative(got, case.exact)
        print(f"\nbf16 {backend}: relative L2 {ours:.2e} (transformers {theirs:.2e}), cosine mean "
              f"{cosine.mean():.6f} min {cosine.min():.6f}")
        assert cosine.mean() >= 0.999
        assert ours <= 1.5 * theirs


def torch_taps(checkpoint, dtype, case):
    taps = outputs(torch_model(checkpoint, dtype, "sdpa"), case.pixels.to(dtype), case.grid)[1]
    return [tap.double() for tap in taps]


def test_deepstack_equals_transformers(case, monkeypatch):
    """Every tap passes the gates of the merged output, and that one keeps its bits."""
    if case.name == "4b-full":
        pytest.skip("drawn as those of 4 blocks")
    exact = torch_taps(case.checkpoint, torch.float64, case)
    config = json.loads((case.checkpoint / "config.json").read_text())["vision_config"]
    assert len(exact) == len(config["deepstack_visual_indexes"]) > 0

    def planes(*options):
        stored = case.encode("--deepstack", *options)
        assert len(stored) == len(case.images) * (1 + len(exact))
        merged = torch.cat([stored[f"i{i}"] for i in range(len(case.images))])
        assert torch.equal(merged, case.tokens(*options))
        return [torch.cat([stored[f"i{i}.deepstack.{j}"] for i in range(len(case.images))])
                for j in range(len(exact))]

    for got, want in zip(planes("--dtype", "f32"), exact):
        assert per_token(got.double(), want) <= 1e-4
    theirs = [relative(tap, want) for tap, want in zip(torch_taps(case.checkpoint, torch.bfloat16, case), exact)]
    for backend in bf16_backends(case, monkeypatch, case.name in ("tiny", "odd-144")):
        for j, (got, want) in enumerate(zip(planes("--backend", backend), exact)):
            ours = relative(got.double(), want)
            cosine = torch.nn.functional.cosine_similarity(got.double(), want, dim=1).mean()
            print(f"\nbf16 {backend}, tap {j}: relative L2 {ours:.2e} (transformers {theirs[j]:.2e}), "
                  f"cosine {cosine:.6f}")
            assert cosine >= 0.999 and ours <= 1.5 * theirs[j]


def test_checkpoint_would_show_mistakes(case):
    """Weights under which a mistake is invisible would make the other tests worthless."""
    if case.name == "4b-full":
        pytest.skip("drawn as those of 4 blocks")
    with torch.no_grad():
        model = torch_model(case.checkpoint, torch.float32, "sdpa")
        x, grid = case.pixels.float(), case.grid
        model.rotary_pos_emb.inv_freq.zero_()  # no rotation
        assert relative(outputs(model, x, grid)[0].double(), case.exact) > 0.02
        model = torch_model(case.checkpoint, torch.float32, "sdpa")
        model.pos_embed.weight.copy_(model.pos_embed.weight.roll(1, 0))  # positions off by one column
        assert relative(outputs(model, x, grid)[0].double(), case.exact) > 0.02
        model = torch_model(case.checkpoint, torch.float32, "sdpa")
        model.merger.act_fn = torch.nn.GELU(approximate="tanh")  # the blocks' GELU in the merger
        assert per_token(outputs(model, x, grid)[0].double(), case.exact) > 1e-4


def coarse_rotations(module):
    """Positions as bfloat16 has them: odd ones beyond 256 are lost."""
    def forward(n):
        return torch.outer(torch.arange(n).bfloat16().float(), module.inv_freq)

    module.forward = forward


def norm_after_the_merge(merger):
    def forward(x):
        width = merger.norm.weight.numel()
        x = x.view(-1, 4 * width)
        x = torch.nn.functional.layer_norm(x, (4 * width,), merger.norm.weight.repeat(4), merger.norm.bias.repeat(4), 1e-6)
        return merger.linear_fc2(merger.act_fn(merger.linear_fc1(x)))

    merger.forward = forward


def test_traps_would_be_seen(case, monkeypatch):
    """What other implementations got wrong (each is some way off the exact result, and far outside of the gate)."""
    if case.name not in ("tiny", "odd-144"):
        pytest.skip("the same weights in other sizes")
    x, grid = case.pixels.float(), case.grid

    def off(mistake):
        model = torch_model(case.checkpoint, torch.float32, "sdpa")
        mistake(model)
        with torch.no_grad():
            return per_token(outputs(model, x, grid)[0].double(), case.exact)

    def other_gelu(model):
        for block in model.blocks:
            block.mlp.act_fn = torch.nn.GELU()

    assert off(lambda model: None) <= 1e-4
    assert off(other_gelu) > 1e-4
    assert off(lambda model: norm_after_the_merge(model.merger)) > 1e-2
    assert off(lambda model: coarse_rotations(model.rotary_pos_emb)) > 1e-2
    linspace = torch.linspace

    def corners_not_aligned(first, last, n, **options):
        return ((linspace(0, n - 1, n, **options) + 0.5) * (last + 1) / n - 0.5).clamp(first, last)

    monkeypatch.setattr(torch, "linspace", corners_not_aligned)
    assert off(lambda model: None) > 1e-2
