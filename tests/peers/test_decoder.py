"""trainer/decoder.h against transformers, torch's autograd and peft's files, on random checkpoints."""
import json

import numpy as np
import pytest

import peer_torch  # noqa: F401  (before transformers)
import torch
import transformers
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
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_equal_autograd(checkpoints, family, segments, checkpointing):
    path, model = checkpoints(family)
    decoder = Decoder(path, train_all=True, checkpointing=checkpointing)
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
