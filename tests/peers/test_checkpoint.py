"""Random checkpoints: transformers, tokenizers and safetensors read what init-model writes; and what our
reader says of checkpoints that are not whole."""
import json
import math
import shutil

import numpy as np
import pytest

pytest.importorskip("torch")
import peer_torch  # noqa: E402,F401
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, Qwen3VLForConditionalGeneration  # noqa: E402
from transformers.models.qwen3_vl import modeling_qwen3_vl as qwen  # noqa: E402

PREFIX = "model.visual."


def tower_of(path, attention="sdpa"):
    config = AutoConfig.from_pretrained(path).vision_config
    config._attn_implementation = attention
    tower = qwen.Qwen3VLVisionModel._from_config(config).eval()
    weights = {k[len(PREFIX):]: v for k, v in load_file(path / "model.safetensors").items() if k.startswith(PREFIX)}
    tower.load_state_dict(weights, strict=True)
    return tower.float()


def line_patches(grid_h, grid_w, seed=0):
    """Patches like those of a rendered line: most pixels white."""
    generator = torch.Generator().manual_seed(seed)
    n = grid_h * grid_w
    dark = torch.rand(n, 256, generator=generator) * 2 - 1
    strokes = (torch.rand(n, 256, generator=generator) < 0.2) & (torch.rand(n, 1, generator=generator) < 0.6)
    return torch.where(strokes, dark, torch.ones(1)).repeat(1, 6), torch.tensor([[1, grid_h, grid_w]])


@pytest.fixture(scope="module")
def tiny(rotoscope, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "tiny one"
    rotoscope("init-model", path)
    return path


SHAPES = {
    "tiny": [],
    "8b-shaped": ["--arch", "8b", "--depth", "3", "--width", "288", "--heads", "4", "--mlp", "1076", "--out", "96"],
    "deep": ["--depth", "24", "--width", "128", "--heads", "2", "--mlp", "200", "--seed", "3"],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_attention_is_peaked_and_activations_stay_in_range(shape, rotoscope, tmp_path, monkeypatch):
    rotoscope("init-model", tmp_path / "m", *SHAPES[shape])
    tower = tower_of(tmp_path / "m", "eager")
    eager, entropies, sizes = qwen.eager_attention_forward, [], []

    def watched(*args, **kwargs):
        out, weights = eager(*args, **kwargs)
        entropy = -(weights * weights.clamp_min(1e-30).log()).sum(-1).mean() / math.log(weights.shape[-1])
        entropies.append(entropy.item())
        return out, weights

    monkeypatch.setattr(qwen, "eager_attention_forward", watched)
    for block in tower.blocks:
        block.register_forward_hook(lambda module, args, out: sizes.append(out.pow(2).mean().sqrt().item()))
    pixels, grid = line_patches(4, 96)
    with torch.no_grad():
        out, taps = tower(pixels, grid)
    assert len(entropies) == len(sizes) == len(tower.blocks)
    assert max(entropies) < 0.8 and min(entropies) > 0.3, entropies  # 1 would be uniform
    assert 0.5 < min(sizes) and max(sizes) < 5, sizes
    for features in (out, *taps):
        assert torch.isfinite(features).all()
        assert 0.2 < features.pow(2).mean().sqrt() < 5
        assert features.std(0).mean() > 0.1  # tokens differ


def test_a_wrong_position_would_show(tiny):
    tower = tower_of(tiny)
    pixels, grid = line_patches(2, 60)
    with torch.no_grad():
        right = tower(pixels, grid)[0]
        true = tower.rot_pos_emb
        tower.rot_pos_emb = lambda grid_thw: true(grid_thw).roll(1, 0)  # every row the angles of its neighbour
        wrong = tower(pixels, grid)[0]
    assert (wrong - right).norm() / right.norm() > 0.1


@pytest.mark.parametrize("dtype", ["bf16", "f16", "f32"])
def test_types_are_written_as_asked(dtype, rotoscope, tmp_path):
    rotoscope("init-model", "-o", tmp_path / "m", "--dtype", dtype, "--seed", "5", "--depth", "2")
    rotoscope("init-model", tmp_path / "f32", "--dtype", "f32", "--seed", "5", "--depth", "2")
    ours, exact = load_file(tmp_path / "m/model.safetensors"), load_file(tmp_path / "f32/model.safetensors")
    wanted = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}[dtype]
    assert ours.keys() == exact.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == wanted and torch.equal(tensor, exact[name].to(wanted)), name
    assert AutoConfig.from_pretrained(tmp_path / "m").dtype == wanted


def test_transformers_loads_the_whole_model(rotoscope, tmp_path):
    path = tmp_path / "m"
    rotoscope("init-model", path, "--text")
    model, info = Qwen3VLForConditionalGeneration.from_pretrained(path, output_loading_info=True, dtype=torch.float32)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    assert set(load_file(path / "model.safetensors")) == set(model.state_dict()) - {"lm_head.weight"}
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert model.config.text_config.vocab_size >= len(tokenizer) + 3
    assert tokenizer.convert_tokens_to_ids("<|image_pad|>") == model.config.image_token_id
    assert tokenizer.convert_tokens_to_ids("<|vision_start|>") == model.config.vision_start_token_id
    ids = tokenizer("Anna has 3 * 4 = 12 apples.", return_tensors="pt").input_ids
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    assert torch.isfinite(logits).all() and logits.std() > 0.1


def test_real_configs_match_the_model_class(rotoscope, tmp_path):
    """Names and shapes of a full-size 8B and 4B, on the meta device; the weights of a shallow tower on disk."""
    for arch, tied in (("2b", True), ("8b", False)):
        path = tmp_path / arch
        rotoscope("init-model", path, "--arch", arch, "--depth", "1")
        config = AutoConfig.from_pretrained(path)
        assert config.tie_word_embeddings == tied
        assert config.text_config.hidden_size == config.vision_config.out_hidden_size
        with torch.device("meta"):
            tower = qwen.Qwen3VLVisionModel._from_config(config.vision_config)
        ours = {k: v.shape for k, v in load_file(path / "model.safetensors").items()}
        assert ours == {PREFIX + k: v.shape for k, v in tower.state_dict().items()}


def test_the_processor_is_the_fast_one_with_its_floor(tiny):
    processor = AutoImageProcessor.from_pretrained(tiny, use_fast=True)
    assert type(processor).__name__ == "Qwen2VLImageProcessorFast"
    assert dict(processor.size) == {"shortest_edge": 65536, "longest_edge": 16777216}
    assert processor.patch_size == 16 and list(processor.image_mean) == [0.5] * 3


def test_a_tokenizer_is_copied(rotoscope, shared, tmp_path):
    source = shared / "tokenizers/qwen3"
    rotoscope("init-model", tmp_path / "m", "--tokenizer", source)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        if (source / name).exists():
            assert (tmp_path / "m" / name).read_bytes() == (source / name).read_bytes()
    config = json.loads((tmp_path / "m/config.json").read_text())
    assert config["image_token_id"] == 151655 and config["text_config"]["eos_token_id"] == 151645
    assert config["text_config"]["vocab_size"] >= 151672


def encode(rotoscope, path, tmp_path, *args):
    Image.fromarray(np.full((32, 300), 255, np.uint8)).save(tmp_path / "x.png")
    return rotoscope("encode", "-m", path, "-o", tmp_path / "o", *args, tmp_path / "x.png", check=False)


@pytest.mark.parametrize("how", ["whole", "two shards", "visual.", "bare", "transformers"])
def test_every_way_of_storing_reads_alike(how, rotoscope, tiny, tmp_path):
    path = tmp_path / "other"
    shutil.copytree(tiny, path)
    tensors = load_file(tiny / "model.safetensors")
    (path / "model.safetensors").unlink()
    if how == "transformers":
        tower = tower_of(tiny).bfloat16()
        tower.save_pretrained(path)  # writes the tower's own config.json, and bare names
    elif how == "two shards":
        names = sorted(tensors)
        parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
        for file, part in parts.items():
            save_file({n: tensors[n] for n in part}, path / file, {"format": "pt"})
        index = {"metadata": {}, "weight_map": {n: f for f, part in parts.items() for n in part}}
        (path / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        new = {"whole": PREFIX, "visual.": "visual.", "bare": ""}[how]
        save_file({new + k[len(PREFIX):]: v for k, v in tensors.items()}, path / "model.safetensors", {"format": "pt"})
    assert encode(rotoscope, path, tmp_path).returncode == 0
    first = (tmp_path / "o").read_bytes()
    assert encode(rotoscope, tiny, tmp_path).returncode == 0
    assert (tmp_path / "o").read_bytes() == first


def broken(tiny, tmp_path, **change):
    path = tmp_path / "broken"
    shutil.copytree(tiny, path)
    tensors = load_file(path / "model.safetensors")
    for name in change.get("drop", []):
        del tensors[PREFIX + name]
    for name, tensor in change.get("put", {}).items():
        tensors[PREFIX + name] = tensor
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    return path


def test_broken_checkpoints_name_what_is_wrong(rotoscope, tiny, tmp_path):
    def fails(path, code, *words):
        done = encode(rotoscope, path, tmp_path)
        text = done.stderr.decode()
        assert done.returncode == code and all(w in text for w in words), (done.returncode, text)
        assert not (tmp_path / "o").exists()
        shutil.rmtree(path)

    qkv = "blocks.3.attn.qkv.weight"
    fails(broken(tiny, tmp_path, drop=[qkv]), 1, qkv, "missing")
    fails(broken(tiny, tmp_path, put={qkv: torch.zeros(256, 768)}), 1, qkv, "[256, 768]", "[768, 256]")
    fails(broken(tiny, tmp_path, put={qkv: torch.zeros(768, 256, dtype=torch.int32)}), 1, qkv, "BF16")
    fails(broken(tiny, tmp_path, drop=[qkv], put={f"blocks.3.attn.{x}.weight": torch.zeros(256, 256) for x in "qkv"}), 1, qkv)
    path = broken(tiny, tmp_path)
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    fails(path, 1, "model.safetensors", "truncated")
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        path = broken(tiny, tmp_path)
        (path / name).unlink()
        fails(path, 2, "safetensors" if name.startswith("model") else name)
    path = broken(tiny, tmp_path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "model_type": "llava"}))
    fails(path, 2, "llava", "supported: qwen3_vl")
    path = broken(tiny, tmp_path)
    (path / "config.json").write_text("{\n  \"model_type\": oops\n}")
    fails(path, 1, "config.json", "line 2")


def test_a_folder_is_not_overwritten(rotoscope, tiny):
    before = (tiny / "model.safetensors").stat().st_mtime_ns
    done = rotoscope("init-model", tiny, check=False)
    assert done.returncode == 2 and b"there already" in done.stderr
    assert (tiny / "model.safetensors").stat().st_mtime_ns == before


def test_wrong_options_are_exit_2(rotoscope, tmp_path):
    for word, *args in (("custom", "--arch", "5b"), ("seed", "--seed", "-1"), ("seed", "--seed", "x"), ("depth", "--depth", "0"),
                        ("dtype", "--dtype", "int8"), ("heads", "--heads", "7"), ("tokenizer.json", "--tokenizer", str(tmp_path)),
                        ("out is missing", "--arch", "custom", "--depth", "1", "--width", "64", "--heads", "1", "--mlp", "9")):
        done = rotoscope("init-model", tmp_path / "no", *args, check=False)
        assert done.returncode == 2 and word in done.stderr.decode(), (args, done)
    assert rotoscope("init-model", check=False).returncode == 2
    assert not (tmp_path / "no").exists()
