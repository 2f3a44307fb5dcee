"""trainer/decoder.h against transformers, torch's autograd and peft's files, on random checkpoints."""
import json

import numpy as np
import pytest

import peer_torch  # noqa: F401  (before transformers)
import torch
import transformers
from safetensors import safe_open
from safetensors.numpy import load_file

from peer_decoder import BF16, Context, Decoder, Failed

FAMILIES = ["qwen3", "qwen3-untied", "qwen3_vl", "llama", "gpt2"]


def make_model(family):
    torch.manual_seed(7)
    common = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                  intermediate_size=72, vocab_size=131, max_position_embeddings=64, eos_token_id=5)
    if family.startswith("qwen3_vl"):
        vision = dict(depth=1, hidden_size=32, num_heads=2, intermediate_size=32, out_hidden_size=48,
                      deepstack_visual_indexes=[0])
        config = transformers.Qwen3VLConfig(
            text_config=dict(common, head_dim=16, rope_theta=5e6, tie_word_embeddings=True, rope_scaling={
                "rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True}),
            vision_config=vision, tie_word_embeddings=True)
        model = transformers.Qwen3VLForConditionalGeneration(config)
    elif family.startswith("qwen3"):
        config = transformers.Qwen3Config(**common, head_dim=16, rope_theta=1e6,
                                          tie_word_embeddings=family == "qwen3")
        model = transformers.Qwen3ForCausalLM(config)
    elif family == "llama":
        config = transformers.LlamaConfig(**common, rope_theta=500.0, tie_word_embeddings=False, rope_scaling=dict(
            rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=64))
        model = transformers.LlamaForCausalLM(config)
    else:
        config = transformers.GPT2Config(n_embd=48, n_layer=3, n_head=4, vocab_size=131, n_positions=64,
                                         eos_token_id=5, bos_token_id=5, attn_pdrop=0, embd_pdrop=0, resid_pdrop=0)
        model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():  # so that no norm is the identity and no bias zero, and attention is not flat
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 0.2 + (1 if p.dim() == 1 and p.mean() > 0.5 else 0))
    return model.eval()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    made = {}

    def get(family, dtype=torch.float32):
        if (family, dtype) not in made:
            path = tmp_path_factory.mktemp(family)
            model = make_model(family).to(dtype)
            model.save_pretrained(path)  # and again in fp32: .float() would leave the rotations rounded
            made[family, dtype] = (path, type(model).from_pretrained(path, dtype=torch.float32).eval())
        return made[family, dtype]

    return get


def rel(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30)


def draw_ids(n, seed=0):
    return np.random.default_rng(seed).integers(6, 131, n).astype(np.int32)


def torch_embed(model, ids):
    return model.get_input_embeddings()(torch.from_numpy(ids.astype(np.int64)))


def run_torch(model, rows):
    """Hidden states behind the final norm and logits of one sequence (n, d)."""
    n = len(rows)
    kwargs = {}
    if model.config.model_type == "qwen3_vl":
        kwargs["position_ids"] = torch.arange(n).expand(3, 1, n)
    out = model(inputs_embeds=rows[None], output_hidden_states=True, use_cache=False, **kwargs)
    return out.hidden_states[-1][0], out.logits[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_logits_equal_transformers(checkpoints, family, dtype):
    path, model = checkpoints(family, dtype)
    decoder = Decoder(path)
    lengths = [17, 1, 40]
    ids = [draw_ids(n, n) for n in lengths]
    context = Context(decoder, lengths)
    logits = decoder.logits(context.forward(lengths, np.concatenate([decoder.embed(i) for i in ids])))
    with torch.no_grad():
        want = np.concatenate([run_torch(model, torch_embed(model, i))[1].numpy() for i in ids])
    assert rel(logits, want) <= 1e-5
    context.close()
    decoder.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_through_the_cache_give_the_same_logits(checkpoints, family):
    path, model = checkpoints(family)
    decoder = Decoder(path)
    ids = draw_ids(30)
    rows = decoder.embed(ids)
    context = Context(decoder, [30, 30])
    pieces = [context.forward([9, 0], rows[:9]), context.forward([1, 3], np.concatenate([rows[9:10], rows[:3]]))[:1],
              context.forward([20, 0], rows[10:])]
    with torch.no_grad():
        want = run_torch(model, torch_embed(model, ids))[1].numpy()
    assert rel(decoder.logits(np.concatenate(pieces)), want) <= 1e-5
    context.close()
    decoder.close()


def torch_loss(model, rows, labels, weights):
    hidden, logits = run_torch(model, rows)
    losses = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels.astype(np.int64)), reduction="none")
    return (losses * torch.from_numpy(weights)).sum(), losses


def gradients(decoder, ids, labels, weights, segments=((0, None),), dropout=None):
    """Losses and input gradients of one sequence, run in saved segments."""
    rows = decoder.embed(ids)
    context = Context(decoder, [len(ids)], keep_grad=True)
    if dropout:
        context.dropout(*dropout)
    hidden = np.concatenate([context.forward([len(rows[a:b])], rows[a:b], save=True) for a, b in segments])
    losses, d_hidden = decoder.cross_entropy(hidden, labels, weights)
    d_rows = np.concatenate([context.backward(d_hidden[a:b]) for a, b in reversed(segments)][::-1])
    decoder.embed_backward(ids, d_rows)
    context.close()
    return losses, d_rows


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("segments", [((0, None),), ((0, 11), (11, 12), (12, 13), (13, None))])
@pytest.mark.parametrize("backend, checkpointing", [("auto", False), ("auto", True), ("ref", False)])
def test_gradients_equal_autograd(checkpoints, family, segments, backend, checkpointing):
    path, model = checkpoints(family)
    decoder = Decoder(path, train_all=True, backend=backend, checkpointing=checkpointing)
    ids, labels = draw_ids(26, 3), draw_ids(26, 4)
    weights = np.random.default_rng(5).random(26).astype(np.float32)
    losses, d_rows = gradients(decoder, ids, labels, weights, segments)
    model.zero_grad()
    rows = torch_embed(model, ids)
    rows.retain_grad()
    loss, want_losses = torch_loss(model, rows, labels, weights)
    loss.backward()
    assert rel(losses, want_losses.detach()) <= 1e-5
    assert rel(d_rows, rows.grad) <= 1e-4
    want = {n: p.grad for n, p in model.named_parameters() if p.grad is not None and "visual" not in n}
    got = decoder.params()
    assert set(got) == set(want)
    for name, (value, grad) in got.items():
        assert value.shape == tuple(want[name].shape)
        assert rel(grad, want[name]) <= 1e-4, name
    decoder.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_ids_equal_generate(checkpoints, family):
    path, model = checkpoints(family)
    decoder = Decoder(path)
    ids, n_new = draw_ids(9, 8), 24
    context = Context(decoder, [9 + n_new])
    hidden, got = context.forward([9], decoder.embed(ids)), []
    for _ in range(n_new):
        token = int(decoder.logits(hidden[-1:])[0].argmax())
        got.append(token)
        if token in decoder.info.eos[:decoder.info.n_eos]:
            break
        hidden = context.forward([1], decoder.embed([token]))
    with torch.no_grad():
        want = model.generate(torch.from_numpy(ids[None].astype(np.int64)), max_new_tokens=n_new, do_sample=False,
                              pad_token_id=0)[0, 9:].tolist()
    assert got == want
    context.close()
    decoder.close()


TARGETS = {"gpt2": "c_attn,mlp.c_proj"}
LORA = dict(r=4, alpha=6.0, seed=3)


def lora_of(family, **more):
    return dict(LORA, targets=TARGETS.get(family, "q_proj,v_proj,o_proj,gate_proj,down_proj"), **more)


def randomise(decoder, scale=0.1):
    rng = np.random.default_rng(11)
    for name, (value, _) in decoder.params().items():
        if "lora_B" in name:
            value[...] = rng.standard_normal(value.shape) * scale
    decoder.update()


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_equal_peft(checkpoints, family, tmp_path):
    peft = pytest.importorskip("peft")
    path, _ = checkpoints(family)
    decoder = Decoder(path, lora=lora_of(family))
    a = {n: v for n, (v, _) in decoder.params().items() if "lora_A" in n}
    assert all(0.8 < np.abs(v).max() * np.sqrt(v.shape[1]) <= 1 for v in a.values())
    assert all(not v.any() for n, (v, _) in decoder.params().items() if "lora_B" in n)
    randomise(decoder)
    decoder.save_adapter(tmp_path)
    base = type(make_model(family)).from_pretrained(path, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, tmp_path, is_trainable=True).eval()
    ids, labels = draw_ids(21, 3), draw_ids(21, 4)
    weights = np.random.default_rng(5).random(21).astype(np.float32)
    losses, d_rows = gradients(decoder, ids, labels, weights, ((0, 8), (8, None)))
    rows = torch_embed(base, ids).detach().requires_grad_()
    loss, want_losses = torch_loss(model, rows, labels, weights)
    loss.backward()
    assert rel(losses, want_losses.detach()) <= 1e-5
    assert rel(d_rows, rows.grad) <= 1e-4
    want = {n.replace(".default", ""): p.grad for n, p in model.named_parameters() if "lora_" in n}
    got = decoder.params()
    assert set(got) == set(want)
    for name, (_, grad) in got.items():
        assert rel(grad, want[name]) <= 1e-4, name
    again = Decoder(path, adapter=tmp_path)
    assert all(np.array_equal(v, got[n][0]) for n, (v, _) in again.params().items())
    again.close()
    decoder.close()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_weights_equal_peft(checkpoints, family, dtype, rotoscope, tmp_path):
    peft = pytest.importorskip("peft")
    path, _ = checkpoints(family, dtype)
    adapter, merged = tmp_path / "adapter", tmp_path / "merged"
    decoder = Decoder(path, lora=lora_of(family))
    randomise(decoder)
    decoder.save_adapter(adapter)
    decoder.close()
    rotoscope("merge", "-m", path, "--adapter", adapter, "-o", merged)
    kind = type(make_model(family))
    before = kind.from_pretrained(path, dtype=dtype).state_dict()
    model = peft.PeftModel.from_pretrained(kind.from_pretrained(path, dtype=dtype), adapter).merge_and_unload()
    got, want = kind.from_pretrained(merged, dtype=dtype).state_dict(), model.state_dict()
    assert set(got) == set(want)
    changed = {n for n in got if not torch.equal(got[n], before[n])}
    assert len(changed) == 3 * len(lora_of(family)["targets"].split(","))
    assert changed == {n for n in got if not torch.equal(want[n], before[n])}
    unit = 2**-22 if dtype is torch.float32 else 2**-7  # peft rounds the product, then the sum; ours once
    for name in changed:
        a, b = got[name].float(), want[name].float()
        assert ((a - b).abs() <= unit * torch.maximum(b.abs(), before[name].float().abs()) + 1e-7).all(), name


def test_an_adapter_with_a_scale_of_each_module_is_refused(checkpoints, tmp_path):
    peft = pytest.importorskip("peft")
    path, _ = checkpoints("qwen3")
    base = type(make_model("qwen3")).from_pretrained(path)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], alpha_pattern={"v_proj": 3})
    peft.get_peft_model(base, config).save_pretrained(tmp_path)
    with pytest.raises(Failed, match="alpha_pattern"):
        Decoder(path, adapter=tmp_path)


def test_a_target_that_no_linear_has_is_refused(checkpoints):
    path, _ = checkpoints("qwen3")
    with pytest.raises(Failed, match="'v_porj'"):
        Decoder(path, lora=dict(LORA, targets="q_proj,v_porj"))


M64 = (1 << 64) - 1


def random_key(key, name):
    """base/random.h, again."""
    def mix(z):
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9 & M64
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb & M64
        return z ^ (z >> 31)
    return mix(mix(key + 0x9e3779b97f4a7c15 & M64) ^ (name + 1) * 0xd1342543de82ef95 & M64)


def draws(key, n):
    """The first n 32-bit draws of a key: two of each 64 bits."""
    z = np.uint64(key) + np.arange((n + 1) // 2, dtype=np.uint64) * np.uint64(0x9e3779b97f4a7c15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
    z ^= z >> np.uint64(31)
    return np.stack([z & np.uint64(0xffffffff), z >> np.uint64(32)], 1).reshape(-1)[:n]


def mask(keys, width, p):
    kept = np.stack([draws(k, width) >= int(p * 2**32) for k in keys])
    assert not 0.1 < p or abs(kept.mean() - (1 - p)) < 5 * (p / kept.size) ** 0.5
    return torch.from_numpy(kept.astype(np.float32) / np.float32(1 - p))


class Masks:
    """torch.nn.functional.dropout with our masks, in the order in which a decoder asks for them."""

    def __init__(self, model, seed, sequence):
        self.queue, self.rows = [], [random_key(random_key(seed, sequence), i) for i in range(21)]
        c = model.config
        if c.model_type != "gpt2":
            for layer in range(c.num_hidden_layers):
                self.attention(layer, c.num_attention_heads, c.attention_dropout)
            return
        self.wide(c.n_layer, 16, c.n_embd, c.embd_pdrop)
        for layer in range(c.n_layer):
            self.attention(layer, c.n_head, c.attn_pdrop)
            self.wide(layer, 18, c.n_embd, c.resid_pdrop)
            self.wide(layer, 19, c.n_embd, c.resid_pdrop)

    def keys(self, layer, name):
        return [random_key(random_key(r, layer), name) for r in self.rows]

    def wide(self, layer, name, width, p):
        self.queue.append(mask(self.keys(layer, name), width, p))

    def attention(self, layer, heads, p):
        keys = self.keys(layer, 17)
        self.queue.append(torch.stack([mask([random_key(k, h) for k in keys], len(keys), p) for h in range(heads)]))

    def __call__(self, x, p=0.5, training=True, inplace=False):
        return x * self.queue.pop(0).reshape(x.shape) if training and p else x


@pytest.mark.parametrize("family", ["gpt2", "qwen3", "llama"])
@pytest.mark.parametrize("backend, checkpointing", [("auto", False), ("auto", True), ("ref", False)])
def test_the_models_own_dropout_equals_transformers(tmp_path, monkeypatch, family, backend, checkpointing):
    model = make_model(family)
    if family == "gpt2":
        model.config.embd_pdrop, model.config.attn_pdrop, model.config.resid_pdrop = 0.2, 0.3, 0.15
    else:
        model.config.attention_dropout = 0.3
    model.save_pretrained(tmp_path)
    model = type(model).from_pretrained(tmp_path, attn_implementation="eager").train()
    ids, labels = draw_ids(21, 3), draw_ids(21, 4)
    weights = np.random.default_rng(5).random(21).astype(np.float32)
    decoder = Decoder(tmp_path, train_all=True, backend=backend, checkpointing=checkpointing, dropout=True)
    losses, d_rows = gradients(decoder, ids, labels, weights, ((0, 9), (9, None)), (9, [77]))
    masks = Masks(model, 9, 77)
    monkeypatch.setattr(torch.nn.functional, "dropout", masks)
    rows = torch_embed(model, ids).detach().requires_grad_()
    loss, want_losses = torch_loss(model, rows, labels, weights)
    loss.backward()
    assert not masks.queue
    assert rel(losses, want_losses.detach()) <= 1e-5
    assert rel(d_rows, rows.grad) <= 1e-4
    want = dict(model.named_parameters())
    for name, (_, grad) in decoder.params().items():
        if "embed" in name or "wte" in name:  # ours has the looked up rows' too
            continue
        assert rel(grad, want[name].grad) <= 1e-4, name
    off = Decoder(tmp_path, train_all=True, backend=backend)  # what is not asked for
    assert rel(gradients(off, ids, labels, weights, dropout=(9, [77]))[0], losses) > 1e-3
    assert np.array_equal(gradients(off, ids, labels, weights, dropout=(9, [77]))[0],
                          gradients(off, ids, labels, weights)[0])
    off.close()
    decoder.close()


def test_a_dropout_that_is_none_is_refused(checkpoints, tmp_path):
    make_model("gpt2").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(dict(config, attn_pdrop=1.0)))
    with pytest.raises(Failed, match="'attn_pdrop' is no number in"):
        Decoder(tmp_path)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_dropout_has_the_same_masks_forward_and_backward(checkpoints, checkpointing):
    path, _ = checkpoints("qwen3")
    decoder = Decoder(path, lora=lora_of("qwen3", dropout=0.3), checkpointing=checkpointing)
    randomise(decoder)
    ids, labels, weights = draw_ids(21, 3), draw_ids(21, 4), np.ones(21, np.float32)

    def loss(segments=((0, None),), dropout=(9, [77])):
        decoder.zero_grad()
        return gradients(decoder, ids, labels, weights, segments, dropout)[0].astype(np.float64)

    plain, dropped = loss(dropout=None), loss()
    grads = {n: g.copy() for n, (_, g) in decoder.params().items()}
    assert rel(loss(((0, 5), (5, 6), (6, None))), dropped) <= 1e-6
    for name, (_, g) in decoder.params().items():
        assert rel(g, grads[name]) <= 1e-4, name
    assert rel(plain, dropped) > 1e-3
    assert rel(loss(dropout=(9, [78])), dropped) > 1e-3
    assert rel(loss(dropout=(8, [77])), dropped) > 1e-3
    params = {n: v for n, (v, _) in decoder.params().items()}
    start = {n: v.copy() for n, v in params.items()}
    norm = np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in grads.values()))
    step, sides = 0.02 / norm, []
    for sign in (1, -1):
        for name, value in params.items():
            value[...] = start[name] + sign * step * grads[name]
        decoder.update()
        sides.append(loss().sum())
    assert abs((sides[0] - sides[1]) / (2 * step) / norm ** 2 - 1) < 0.01
    decoder.close()


@pytest.mark.parametrize("family", ["qwen3", "qwen3-untied", "qwen3_vl", "gpt2"])
@pytest.mark.parametrize("train", [False, True])
def test_a_saved_folder_is_one_of_transformers(checkpoints, family, train, tmp_path):
    path, _ = checkpoints(family, torch.bfloat16)
    decoder = Decoder(path, extra_rows=3, train_all=train)
    row = np.random.default_rng(1).standard_normal(48).astype(np.float32) * 0.2
    decoder.set_row(132, row)
    if train:
        rng = np.random.default_rng(2)
        for value, _ in decoder.params().values():
            value += rng.standard_normal(value.shape).astype(np.float32) * 0.01
        decoder.update()
    decoder.save(tmp_path, masters=True)
    model = type(make_model(family)).from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = np.append(draw_ids(12), 132)
    context = Context(decoder, [13])
    logits = decoder.logits(context.forward([13], decoder.embed(ids)))
    with torch.no_grad():
        want = run_torch(model, torch_embed(model, ids))[1].numpy()
    assert want.shape == (13, 134)
    assert rel(logits, want) <= 1e-5
    with safe_open(tmp_path / "model.safetensors", "pt") as saved, safe_open(path / "model.safetensors", "pt") as old:
        kinds = {n: saved.get_slice(n).get_dtype() for n in saved.keys() if "visual" not in n}
        assert all((kind == "F32") == (train or "embed" in n or "wte" in n or "lm_head" in n)
                   for n, kind in kinds.items())
        for name in set(saved.keys()) - set(kinds):
            assert torch.equal(saved.get_tensor(name), old.get_tensor(name))
    context.close()
    decoder.close()


@pytest.mark.parametrize("family", ["qwen3", "llama", "gpt2"])
def test_bf16_stays_near_f32(checkpoints, family):
    path, _ = checkpoints(family)
    ids, labels, weights = draw_ids(40, 3), draw_ids(40, 4), np.ones(40, np.float32)
    results = []
    for precision in (0, BF16):
        decoder = Decoder(path, train_all=True, precision=precision)
        losses, d_rows = gradients(decoder, ids, labels, weights)
        results.append((losses, d_rows, {n: g.copy() for n, (_, g) in decoder.params().items()}))
        decoder.close()
    (losses, d_rows, grads), (losses_bf16, d_rows_bf16, grads_bf16) = results
    assert 1e-5 < rel(losses_bf16, losses) < 0.02
    assert rel(d_rows_bf16, d_rows) < 0.1
    whole, whole_bf16 = (np.concatenate([g.ravel() for g in x.values()]) for x in (grads, grads_bf16))
    assert rel(whole_bf16, whole) < 0.1


def damaged(path, to, change):
    to.mkdir()
    for file in path.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    change(to)
    return to


def change_tensor(change):
    def run(path):
        from safetensors.numpy import save_file
        tensors = load_file(path / "model.safetensors")
        change(tensors)
        save_file(tensors, path / "model.safetensors")
    return run


def change_config(**values):
    def run(path):
        config = json.loads((path / "config.json").read_text())
        config.update(values)
        (path / "config.json").write_text(json.dumps(config))
    return run


NAME = "model.layers.1.mlp.up_proj.weight"


def put_nan(tensors):
    tensors[NAME][3, 4] = np.nan


def cut(path):
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize("change, words", [
    (change_tensor(lambda t: t.pop(NAME)), [NAME, "missing"]),
    (change_tensor(lambda t: t.update({NAME: t[NAME][:, :-1].copy()})), [NAME, "(72, 47)", "(72, 48)"]),
    (change_tensor(put_nan), [NAME, "not finite", str(3 * 48 + 4)]),
    (cut, ["model.safetensors", "truncated"]),
    (change_config(model_type="mamba"), ["mamba", "qwen3", "gpt2", "llama"]),
    (change_config(num_key_value_heads=3), ["config.json", "3 key heads"]),
    (change_config(hidden_size="48"), ["config.json", "hidden_size"]),
    (change_config(rope_scaling={"rope_type": "yarn"}), ["yarn", "llama3"]),
    (change_config(hidden_act="relu"), ["relu", "silu"]),
    (lambda path: (path / "config.json").unlink(), ["config.json"]),
])
def test_bad_checkpoints_are_named(checkpoints, tmp_path, change, words):
    path = damaged(checkpoints("qwen3")[0], tmp_path / "bad", change)
    for options in ({}, {"train_all": True}):
        with pytest.raises(Failed) as failed:
            Decoder(path, **options)
        assert all(word in str(failed.value) for word in words), str(failed.value)


def test_bad_adapters_and_options_are_named(checkpoints, tmp_path):
    path, _ = checkpoints("qwen3")
    with pytest.raises(Failed, match="c_attn"):
        Decoder(path, lora=dict(r=4, targets="c_attn"))
    with pytest.raises(Failed, match="adapter_config.json"):
        Decoder(path, adapter=tmp_path)
    with pytest.raises(Failed, match="not one of auto"):
        Decoder(path, backend="gpu")
    decoder = Decoder(path)
    context = Context(decoder, [4])
    with pytest.raises(Failed, match="room for 4"):
        context.forward([5], decoder.embed(draw_ids(5)))
    with pytest.raises(Failed, match="without gradients"):
        context.forward([2], decoder.embed(draw_ids(2)), save=True)
    with pytest.raises(Failed, match="131"):
        decoder.embed([131])
    context.close()
    decoder.close()
