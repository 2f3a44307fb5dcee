"""Decoders from scratch: transformers reads them without a missing or unexpected key, and their weights are
distributed as its own initialisation draws them."""
import json

import numpy as np
import pytest

pytest.importorskip("torch")
import peer_torch  # noqa: E402,F401
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, set_seed  # noqa: E402

TINY = ["qwen3-tiny", "llama-tiny", "gpt2-tiny"]


@pytest.fixture(scope="module")
def models(rotoscope, tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoders")
    for arch in TINY:
        rotoscope("init-model", folder / arch, "--arch", arch, "--seed", "4")
    return folder


def load(folder):
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return model.eval()


@pytest.mark.parametrize("arch", TINY)
def test_transformers_reads_every_key(models, arch):
    model = load(models / arch)
    tokenizer = AutoTokenizer.from_pretrained(models / arch)
    ids = tokenizer("Maya has 12 pencils. How many are left?", return_tensors="pt").input_ids
    assert ids.shape[1] > 8 and int(ids.max()) < model.config.vocab_size
    assert torch.isfinite(model(ids).logits).all()
    assert model.generate(ids, max_new_tokens=4, do_sample=False).shape[1] >= ids.shape[1] + 1


@pytest.mark.parametrize("arch", TINY)
def test_tensors_are_those_that_transformers_would_save(models, arch, tmp_path):
    ours = load_file(models / arch / "model.safetensors")
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(models / arch)).save_pretrained(tmp_path)
    theirs = load_file(tmp_path / "model.safetensors")
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


@pytest.mark.parametrize("arch", TINY)
def test_weights_are_distributed_as_transformers_draws_them(models, arch, tmp_path):
    ours = load_file(models / arch / "model.safetensors")
    set_seed(1)
    fresh = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(models / arch))
    fresh.save_pretrained(tmp_path)
    for name, want in load_file(tmp_path / "model.safetensors").items():
        a, b = ours[name].double().flatten(), want.double().flatten()
        if b.min() == b.max():
            assert torch.equal(a, b), name
            continue
        n = len(a)  # both spreads are known to about 1 / sqrt(2 n)
        assert abs(a.std() / b.std() - 1) < 5 / np.sqrt(n), name
        assert abs(a.mean()) < 5 * b.std() / np.sqrt(n), name
        # quantiles of a normal distribution, not of something bell-shaped
        q = torch.tensor([0.001, 0.01, 0.25, 0.75, 0.99, 0.999], dtype=torch.float64)
        z = torch.quantile(a[:1 << 20], q) / b.std()
        assert torch.allclose(z, torch.distributions.Normal(0.0, 1.0).icdf(q).double(), atol=30 / np.sqrt(n)), name


def test_gpt2_has_its_own_kind_of_tokenizer(models, rotoscope):
    tokenizer = AutoTokenizer.from_pretrained(models / "gpt2-tiny")
    assert tokenizer.eos_token == tokenizer.pad_token == tokenizer.bos_token == "<|endoftext|>"
    config = json.loads((models / "gpt2-tiny" / "config.json").read_text())
    assert config["eos_token_id"] == tokenizer.eos_token_id and config["vocab_size"] == len(tokenizer)
    texts = ["It's 12 o'clock, 3*4=<<3*4=12>>12.", "  two  spaces\n\nand lines", "<|endoftext|>x<|im_end|>", "café e\u0301"]
    lines = "".join(json.dumps(t) + "\n" for t in texts)
    done = rotoscope("tokenize", "-t", models / "gpt2-tiny", input=lines.encode())
    ours = [json.loads(line)["ids"] for line in done.stdout.splitlines()]
    assert ours == [tokenizer(t).input_ids for t in texts]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(models, rotoscope, tmp_path):
    for name, seed in (("same", "4"), ("other", "5")):
        rotoscope("init-model", tmp_path / name, "--arch", "GPT2-Tiny", "--seed", seed)
    first = (models / "gpt2-tiny" / "model.safetensors").read_bytes()
    assert (tmp_path / "same" / "model.safetensors").read_bytes() == first
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != first


def test_sizes_and_a_tokenizer_of_ones_own(rotoscope, shared, tmp_path):
    rotoscope("init-model", tmp_path / "q", "--arch", "qwen3-tiny", "--depth", "2", "--width", "96", "--heads", "6",
              "--mlp", "100", "--dtype", "bf16", "--tokenizer", shared / "tokenizers" / "qwen3")
    model = load(tmp_path / "q")
    assert AutoConfig.from_pretrained(tmp_path / "q").dtype == torch.bfloat16
    assert (model.config.hidden_size, model.config.num_hidden_layers, model.config.num_key_value_heads) == (96, 2, 3)
    assert model.config.eos_token_id == 151645 and model.config.vocab_size == 151680
    rotoscope("init-model", tmp_path / "g", "--arch", "gpt2-tiny", "--width", "96", "--heads", "2", "--mlp", "100")
    assert load(tmp_path / "g").config.n_inner == 100


@pytest.mark.parametrize("arch, published", [("gpt2", 124_439_808 - 50257 * 768), ("qwen3-100m", None)])
def test_larger_shapes(rotoscope, tmp_path, arch, published):
    rotoscope("init-model", tmp_path / "m", "--arch", arch, "--dtype", "bf16")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    n = sum(v.numel() for v in load_file(tmp_path / "m" / "model.safetensors").values())
    if published:
        assert n - config["vocab_size"] * 768 == published
    else:
        assert 95e6 < n < 105e6


def test_what_has_no_effect_is_refused(rotoscope, tmp_path):
    for args, said in [(["--text"], b"text has no effect"), (["--out", "64"], b"out has no effect"),
                       (["--heads", "3"], b"share keys and values")]:
        done = rotoscope("init-model", tmp_path / "no", "--arch", "qwen3-tiny", *args, check=False)
        assert done.returncode == 2 and said in done.stderr
    done = rotoscope("init-model", tmp_path / "no", "--arch", "gpt2-tiny", "--heads", "3", check=False)
    assert done.returncode == 2 and b"no multiple" in done.stderr and not (tmp_path / "no").exists()
