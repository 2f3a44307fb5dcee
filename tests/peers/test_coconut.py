"""Coconut's passes (trainer/passes.h) and sequences against a restatement of the published algorithm in torch."""
import ctypes as C

import numpy as np
import pytest

import peer_torch  # noqa: F401  (before transformers)
import torch

from peer_decoder import Decoder
from test_decoder import checkpoints, rel, run_torch, torch_embed  # noqa: F401  (checkpoints is a fixture)


class Sequence(C.Structure):
    _fields_ = [("ids", C.POINTER(C.c_int32)), ("labels", C.POINTER(C.c_int32)), ("n", C.c_size_t),
                ("capacity", C.c_size_t), ("first", C.c_int32), ("n_thoughts", C.c_int32)]


class Loss(C.Structure):
    _fields_ = [("sum", C.c_double), ("n_tokens", C.c_int64), ("not_finite", C.c_int64)]


START, END, THOUGHT = 128, 129, 130


def make_sample(rng, thoughts):
    """Question, start, thoughts, end, steps, answer: (ids, labels, first thought)."""
    question, rest = (rng.integers(6, 128, rng.integers(2, 9)).tolist() for _ in range(2))
    head = question + [START] + [THOUGHT] * thoughts + [END]
    return head + rest, [-1] * len(head) + rest, len(question) + 1


def run_passes(decoder, samples, thoughts, latent=True, train=True, weight=1.0, seed=0, keys=None):
    keep, sequences = [], (Sequence * len(samples))()
    for s, (ids, labels, first), n in zip(sequences, samples, thoughts):
        keep += [np.asarray(ids, np.int32), np.asarray(labels, np.int32)]
        s.ids, s.labels = (a.ctypes.data_as(C.POINTER(C.c_int32)) for a in keep[-2:])
        s.n, s.first, s.n_thoughts = len(ids), first, n
    out, context = Loss(), C.c_void_p()
    decoder.call("rot_passes_run", decoder.handle, sequences, C.c_size_t(len(samples)), C.c_bool(latent),
                 C.c_bool(train), C.c_float(weight), C.c_uint64(seed), keys, C.byref(context),
                 C.byref(out))
    decoder.lib.rot_context_close(C.byref(context))
    return out


def torch_passes(model, samples, thoughts, latent=True):
    """Mean loss over supervised tokens. Each thought's embedding is the last hidden state in front of it, from a
    whole forward over what precedes it: no cache, nothing detached."""
    losses = []
    for (ids, labels, first), n in zip(samples, thoughts):
        rows = torch_embed(model, np.asarray(ids))
        for i in range(n if latent else 0):
            hidden, _ = run_torch(model, rows[:first + i])
            rows = torch.cat([rows[:first + i], hidden[-1:], rows[first + i + 1:]])
        logits = run_torch(model, rows)[1]
        wanted = torch.tensor(labels[1:])
        losses.append(torch.nn.functional.cross_entropy(logits[:-1][wanted >= 0], wanted[wanted >= 0],
                                                        reduction="none"))
    return torch.cat(losses).mean()


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
@pytest.mark.parametrize("thoughts", [[0, 0], [1, 1], [2, 2], [3, 3], [3, 1, 0, 2]])
@pytest.mark.parametrize("latent", [True, False])
def test_loss_and_gradients_equal_autograd(checkpoints, family, thoughts, latent):  # noqa: F811
    path, model = checkpoints(family)
    rng = np.random.default_rng(sum(thoughts) + 10 * len(thoughts))
    samples = [make_sample(rng, n) for n in thoughts]
    decoder = Decoder(path, train_all=True)
    loss = run_passes(decoder, samples, thoughts, latent)
    model.zero_grad()
    want = torch_passes(model, samples, thoughts, latent)
    want.backward()
    assert loss.not_finite == -1
    assert loss.sum / loss.n_tokens == pytest.approx(want.item(), rel=1e-5)
    grads = dict(model.named_parameters())
    for name, (_, grad) in decoder.params().items():
        assert rel(grad, grads[name].grad.numpy()) <= 1e-4, name
    decoder.close()


def test_a_gradient_that_is_no_number_names_its_sequence(checkpoints):  # noqa: F811
    path, _ = checkpoints("gpt2")
    rng = np.random.default_rng(5)
    samples = [make_sample(rng, 2) for _ in range(3)]
    samples[0] = (samples[0][0], [-1] * len(samples[0][0]), samples[0][2])  # nothing of it is supervised
    decoder = Decoder(path, train_all=True)
    loss = run_passes(decoder, samples, [2, 2, 2], weight=float("inf"))
    assert np.isfinite(loss.sum) and loss.not_finite == 1
    assert run_passes(decoder, samples, [2, 2, 2]).not_finite == -1
    decoder.close()


def test_ten_steps_stay_together(checkpoints):  # noqa: F811
    path, model = checkpoints("gpt2")
    rng = np.random.default_rng(3)
    thoughts = [3, 2, 1, 3]
    samples = [make_sample(rng, n) for n in thoughts]
    decoder = Decoder(path, train_all=True)
    model = type(model).from_pretrained(path, dtype=torch.float32).eval()
    ours = {k: torch.nn.Parameter(torch.from_numpy(v.copy())) for k, (v, _) in decoder.params().items()}
    mine, theirs = (torch.optim.AdamW(p, lr=1e-3, weight_decay=0.01) for p in (ours.values(), model.parameters()))
    for _ in range(10):
        decoder.zero_grad()
        loss = run_passes(decoder, samples, thoughts)
        theirs.zero_grad()
        want = torch_passes(model, samples, thoughts)
        want.backward()
        theirs.step()
        for name, (value, grad) in decoder.params().items():
            ours[name].grad = torch.from_numpy(grad.copy())
        mine.step()
        for name, (value, _) in decoder.params().items():
            value[...] = ours[name].detach().numpy()
        decoder.update()
        assert loss.sum / loss.n_tokens == pytest.approx(want.item(), rel=1e-3)
    # All together: a key's bias has no gradient but rounding, which AdamW makes as large as any other.
    end = [torch.cat([p.detach().flatten() for _, p in sorted(dict(m).items())]).numpy()
           for m in (ours, model.named_parameters())]
    assert rel(*end) <= 1e-3
    decoder.close()


def test_a_batch_is_the_mean_over_its_tokens(checkpoints):  # noqa: F811
    path, _ = checkpoints("gpt2")
    rng = np.random.default_rng(1)
    thoughts = [2, 0, 3]
    samples = [make_sample(rng, n) for n in thoughts]
    decoder = Decoder(path)
    alone = [run_passes(decoder, [s], [n], train=False) for s, n in zip(samples, thoughts)]
    together = run_passes(decoder, samples, thoughts, train=False)
    assert together.n_tokens == sum(a.n_tokens for a in alone)
    assert together.sum == pytest.approx(sum(a.sum for a in alone), rel=1e-6)
    decoder.close()


class Stop(C.Structure):
    _fields_ = [("d", C.c_size_t), ("weight", C.POINTER(C.c_float)), ("bias", C.c_float)]


@pytest.mark.parametrize("d, separable", [(3, False), (24, False), (8, True)])
def test_the_classifier_that_ends_thinking_equals_scikit_learns(checkpoints, d, separable):  # noqa: F811
    """Its loss is LogisticRegression's on standardized features, with C = 1 and a bias that is free."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(d)
    thoughts = (rng.normal(size=(400, d)) * rng.uniform(0.1, 5, d) + rng.normal(size=d)).astype(np.float32)
    last = thoughts @ rng.normal(size=d) + (0 if separable else rng.normal(size=400) * 3) > 1
    assert 0 < last.sum() < 400
    decoder = Decoder(checkpoints("gpt2")[0])
    stop = Stop()
    flags = last.astype(np.bool_)
    decoder.call("rot_stop_fit", thoughts.ctypes.data_as(C.POINTER(C.c_float)), flags.ctypes.data_as(C.c_void_p),
                 C.c_size_t(400), C.c_size_t(d), C.byref(stop))
    mean, scale = thoughts.astype(float).mean(0), thoughts.astype(float).std(0)
    model = linear_model.LogisticRegression(C=1, tol=1e-10, max_iter=10000).fit((thoughts - mean) / scale, last)
    got = np.array([stop.weight[i] for i in range(d)]) * scale
    assert rel(got, model.coef_[0]) < 1e-4
    bias = stop.bias + (got / scale * mean).sum()
    assert abs(bias - model.intercept_[0]) < 1e-3 * max(1, abs(model.intercept_[0]))
