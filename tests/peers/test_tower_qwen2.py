"""The towers of Qwen2.5-VL and Qwen2-VL against transformers on random checkpoints, both against float64.
The gates are those of test_tower.py."""
import json

import numpy as np
import pytest

import peer_torch  # noqa: F401  (before transformers)
import torch
from peer_backends import bf16_backends
from safetensors.torch import load_file
from test_tower import per_token, relative, write_image
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen25
from transformers.models.qwen2_vl import modeling_qwen2_vl as qwen2

# width and height in pixels for the native geometry: grids of 2 x 300 (one row of merged tokens, over 256
# patches wide), 2 x 2, 16 x 24 (whole windows), 10 x 14 and 12 x 36 (merged sides that are no multiples of 4),
# 18 x 6, 2 x 6
SIZES = [(4190, 28), (20, 9), (336, 224), (190, 140), (500, 160), (80, 250), (84, 28)]
FEW = [(1200, 28), (250, 140)]
CASES = {
    "qwen2.5-tiny": (["--arch", "qwen2.5-tiny"], SIZES),
    "qwen2.5-3b-8-blocks": (["--arch", "qwen2.5-3b", "--depth", 8], FEW),
    "qwen2.5-full": (["--arch", "qwen2.5-3b"], FEW),
    "qwen2-tiny": (["--arch", "qwen2-tiny"], SIZES),
    "qwen2-2b-4-blocks": (["--arch", "qwen2-2b", "--depth", 4], FEW),
}


def torch_model(checkpoint, dtype, attention="sdpa"):
    config = AutoConfig.from_pretrained(checkpoint).vision_config
    config._attn_implementation = attention
    if json.loads((checkpoint / "config.json").read_text())["model_type"] == "qwen2_vl":
        model = qwen2.Qwen2VisionTransformerPretrainedModel._from_config(config)
    else:
        model = qwen25.Qwen2_5_VisionTransformerPretrainedModel._from_config(config)
    rotation = model.rotary_pos_emb.inv_freq.clone()
    weights = load_file(checkpoint / "model.safetensors")
    model.load_state_dict({k[len("visual."):]: v for k, v in weights.items() if k.startswith("visual.")})
    model = model.to(dtype).eval()
    # from_pretrained keeps this buffer in float32 (it is no parameter); .to(bfloat16) would round it
    model.rotary_pos_emb.inv_freq = rotation.to(torch.float64 if dtype == torch.float64 else torch.float32)
    return model


def run_torch(checkpoint, dtype, pixels, grid, attention="sdpa"):
    with torch.no_grad():
        return torch_model(checkpoint, dtype, attention)(pixels.to(dtype), grid).double()


class Case:
    def __init__(self, name, folder, rotoscope, arguments, sizes):
        self.name, self.folder, self.rotoscope = name, folder, rotoscope
        self.checkpoint = folder / "checkpoint"
        rotoscope("init-model", self.checkpoint, *arguments)
        self.images = [folder / f"i{i}.pgm" for i in range(len(sizes))]
        for i, (path, (width, height)) in enumerate(zip(self.images, sizes)):
            write_image(path, width, height, i)
        stored = self.encode(self.images, "--pixels")
        self.pixels = torch.cat([stored[f"i{i}.pixels"] for i in range(len(sizes))])
        self.grid = torch.stack([stored[f"i{i}.grid"] for i in range(len(sizes))])
        self.exact = run_torch(self.checkpoint, torch.float64, self.pixels, self.grid)

    def encode(self, images, *options):
        out = self.folder / "out.safetensors"
        self.rotoscope("encode", "-m", self.checkpoint, *images, "-o", out, "--geometry", "native", *options)
        return load_file(out)

    def tokens(self, *options):
        stored = self.encode(self.images, *options)
        return torch.cat([stored[f"i{i}"] for i in range(len(self.images))])


@pytest.fixture(scope="module", params=list(CASES))
def case(request, tmp_path_factory, rotoscope):
    made = Case(request.param, tmp_path_factory.mktemp(request.param), rotoscope, *CASES[request.param])
    yield made
    for file in made.checkpoint.glob("*.safetensors"):
        file.unlink()  # a full one has 1.3 GB


def test_f32_equals_float64(case):
    got = case.tokens("--dtype", "f32")
    assert got.dtype == torch.float32 and got.shape == case.exact.shape
    worst = per_token(got.double(), case.exact)
    print(f"\nf32 ref: worst token {worst:.2e}")
    assert worst <= 1e-4


def test_bf16_is_as_near_as_transformers(case, monkeypatch):
    theirs = relative(run_torch(case.checkpoint, torch.bfloat16, case.pixels, case.grid), case.exact)
    for backend in bf16_backends(case, monkeypatch, "tiny" in case.name):
        got = case.tokens("--backend", backend)
        assert got.dtype == torch.bfloat16
        got = got.double()
        cosine = torch.nn.functional.cosine_similarity(got, case.exact, dim=1)
        ours = relative(got, case.exact)
        print(f"\nbf16 {backend}: relative L2 {ours:.2e} (transformers {theirs:.2e}), cosine mean "
              f"{cosine.mean():.6f} min {cosine.min():.6f}")
        assert cosine.mean() >= 0.999
        assert ours <= 1.5 * theirs


def test_an_image_alone_has_the_bits_it_has_in_a_batch(case):
    if "tiny" not in case.name:
        pytest.skip("a matter of the walk, not of the size")
    together = case.encode(case.images)
    backwards = case.encode(case.images[::-1], "--threads", "1")
    for i, image in enumerate(case.images):
        alone = case.encode([image])[f"i{i}"]
        assert torch.equal(alone.view(torch.int16), together[f"i{i}"].view(torch.int16))
        assert torch.equal(alone.view(torch.int16), backwards[f"i{i}"].view(torch.int16))


def wrong(case, change):
    with torch.no_grad():
        model = torch_model(case.checkpoint, torch.float32)
        change(model)
        return per_token(model(case.pixels.float(), case.grid).double(), case.exact)


def test_checkpoint_would_show_mistakes(case):
    """Weights under which a mistake is invisible would make the other tests worthless."""
    if "tiny" not in case.name:
        pytest.skip("drawn alike")
    assert wrong(case, lambda m: None) < 1e-4
    assert wrong(case, lambda m: m.rotary_pos_emb.inv_freq.zero_()) > 0.02
    gelu = torch.nn.GELU(approximate="tanh")
    assert wrong(case, lambda m: m.merger.mlp.__setitem__(1, gelu)) > 1e-4
    if case.name.startswith("qwen2-"):
        def plain_gelu(model):
            for block in model.blocks:
                block.mlp.act = torch.nn.GELU()
        assert wrong(case, plain_gelu) > 1e-3
        return

    def all_full(model):
        model.fullatt_block_indexes = list(range(len(model.blocks)))
    assert wrong(case, all_full) > 0.02

    def no_full(model):
        model.fullatt_block_indexes = []
    assert wrong(case, no_full) > 0.02

    def order_instead_of_inverse(model):
        true = model.get_window_index
        mistaken = torch.argsort

        def index(grid):
            order, starts = true(grid)
            torch.argsort = lambda x: order if x is order else mistaken(x)
            return order, starts
        model.get_window_index = index
    try:
        argsort = torch.argsort
        assert wrong(case, order_instead_of_inverse) > 0.02
    finally:
        torch.argsort = argsort


@pytest.mark.parametrize("arch", ["qwen2.5-tiny", "qwen2-tiny"])
def test_transformers_loads_the_whole_model(arch, rotoscope, tmp_path):
    rotoscope("init-model", tmp_path / "m", "--arch", arch, "--text")
    model, info = AutoModelForImageTextToText.from_pretrained(tmp_path / "m", output_loading_info=True, dtype=torch.float32)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    with torch.no_grad():
        logits = model(input_ids=torch.arange(20, 30)[None]).logits
    assert torch.isfinite(logits).all() and logits.std() > 0.1


@pytest.mark.parametrize("arch", ["qwen2.5-3b", "qwen2.5-7b", "qwen2-2b", "qwen2-7b"])
def test_real_configs_match_the_model_class(arch, rotoscope, tmp_path):
    rotoscope("init-model", tmp_path / "m", "--arch", arch, "--depth", "1")
    with torch.device("meta"):
        config = AutoConfig.from_pretrained(tmp_path / "m").vision_config
        kind = qwen2.Qwen2VisionTransformerPretrainedModel if "qwen2-" in arch else qwen25.Qwen2_5_VisionTransformerPretrainedModel
        tower = kind._from_config(config)
    ours = {k: v.shape for k, v in load_file(tmp_path / "m/model.safetensors").items()}
    assert ours == {"visual." + k: v.shape for k, v in tower.state_dict().items()}


def test_published_configs_are_read(rotoscope, tmp_path):
    """As they are published: keys at their class defaults left out, names that transformers ignores beside them."""
    folder = tmp_path / "m"
    rotoscope("init-model", folder, "--arch", "qwen2.5-3b", "--depth", "1")
    config = json.loads((folder / "config.json").read_text())
    vision = config["vision_config"]
    for key in ("model_type", "num_heads", "in_channels", "fullatt_block_indexes", "temporal_patch_size"):
        del vision[key]
    vision |= {"in_chans": 3, "spatial_patch_size": 14, "tokens_per_second": 2}
    (folder / "config.json").write_text(json.dumps(config))
    preprocessor = json.loads((folder / "preprocessor_config.json").read_text())
    del preprocessor["size"]
    preprocessor |= {"min_pixels": 3136, "max_pixels": 12845056, "image_processor_type": "Qwen2VLImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    write_image(tmp_path / "x.pgm", 200, 32, 0)
    done = rotoscope("encode", "-m", folder, "-o", tmp_path / "o", "--json", tmp_path / "x.pgm")
    assert json.loads(done.stdout)["grid"] == [1, 2, 14]
    assert np.isfinite(load_file(tmp_path / "o")["x"].float().numpy()).all()
