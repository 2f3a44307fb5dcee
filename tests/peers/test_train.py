"""Render-of-Thought's training against a re-statement of the published algorithm in PyTorch: one sample at a time, a
rollout of one model call per latent with transformers' cache, a second pass for the answer, autograd through all."""
import json
import math
import shutil

import numpy as np
import pytest

import peer_torch  # noqa: F401  (before transformers)
import torch
import transformers
from safetensors.torch import load_file, save_file

from peer_package import LIBRARY  # noqa: F401

import rotoscope as rt

D, WIDTH, ROWS = 64, 40, 6
TRACES = ["1+1=2", "6*7=42", "9-4=5 5+1=6", "3", "12/4=3 3+3=6 6*2=12", "8+8=16"]


@pytest.fixture(scope="module")
def world(rotoscope, tmp_path_factory):
    """A decoder with weights large enough that nothing is flat, and a store made for it."""
    top = tmp_path_factory.mktemp("world")
    rotoscope("init-model", "--arch", "qwen3-tiny", "--width", D, "--heads", 2, "--mlp", 96, "--depth", 2, "-q", top / "lm")
    rotoscope("init-model", "--arch", "tiny", "--out", D, "-q", top / "tower")
    weights = load_file(top / "lm/model.safetensors")
    torch.manual_seed(3)
    for name, w in weights.items():
        weights[name] = w * 4 if w.dim() > 1 else w + 0.1 * torch.randn_like(w)
    save_file(weights, top / "lm/model.safetensors", metadata={"format": "pt"})
    with open(top / "rows.jsonl", "w") as f:
        for i, trace in enumerate(TRACES):
            f.write(json.dumps({"id": f"s{i}", "question": "What is it? " * (1 + i % 3), "cot": trace,
                                "answer": str(i * 11)}) + "\n")
    (top / "b.yaml").write_text("""
name: d
root: out
splits: {train: {files: [rows.jsonl], format: jsonl}}
tokenizer: {path: lm, layout: rot}
render: {thought_markers: false}
encode: {checkpoint: tower, geometry: native}
""")
    rotoscope("build", "-c", top / "b.yaml", "-q")
    return top


def train(rotoscope, world, out, *sets, check=True, threads=1):
    """One run in the order of the store, without clipping."""
    base = [f"out={world / out}", f"model.checkpoint={world / 'lm'}", f"data.dataset={world / 'out/d.json'}",
            "data.shuffle=none", "data.bucket=false", f"train.batch={ROWS}", "optimizer.clip=0"]
    if not any(s.startswith("rot.head=") for s in sets):
        base.append(f"rot.head_width={WIDTH}")
    (world / "t.yaml").write_text("seed: 0\n")
    args = [a for s in base + list(sets) for a in ("--set", s)]
    done = rotoscope("train", "-c", world / "t.yaml", "-q", "--threads", threads, *args, check=check)
    return done if not check else world / out


def state(run, part):
    """Tensors of one part of the newest checkpoint: value, first_moment (the gradient if beta1 is 0), second_moment."""
    tensors = load_file(run / "last/state.safetensors")
    return {n[len(part) + 1:]: t for n, t in tensors.items() if n.startswith(part + ".")}


def log(run):
    return [json.loads(line) for line in open(run / "train.jsonl")]


class Head(torch.nn.Module):
    """The published projection head (names as it saves them)."""

    class SwiGLU(torch.nn.Module):
        def __init__(self, h):
            super().__init__()
            self.w1, self.w2, self.w3 = (torch.nn.Linear(h, h, bias=False) for _ in range(3))

        def forward(self, x):
            return self.w3(torch.nn.functional.silu(self.w1(x)) * self.w2(x))

    def __init__(self, path):
        super().__init__()
        tensors = load_file(path)
        h, d = tensors["1.weight"].shape
        self.layers = torch.nn.Sequential(torch.nn.LayerNorm(d, eps=1e-6), torch.nn.Linear(d, h), self.SwiGLU(h),
                                          torch.nn.Linear(h, d))
        self.layers.load_state_dict(tensors)

    def forward(self, x):
        return self.layers(x)


def add_lora(model, adapter):
    """peft's LoRA on the linears of an adapter folder, dropout off; returns parameters by peft's names."""
    tensors, config = load_file(adapter / "adapter_model.safetensors"), json.load(open(adapter / "adapter_config.json"))
    scale, params = config["lora_alpha"] / config["r"], {}
    for name, a in tensors.items():
        if ".lora_A." not in name:
            continue
        module = model.get_submodule(name.removeprefix("base_model.model.").split(".lora_A.")[0])
        pair = [torch.nn.Parameter(tensors[n].clone()) for n in (name, name.replace("lora_A", "lora_B"))]
        params[name], params[name.replace("lora_A", "lora_B")] = pair
        module.register_forward_hook(lambda m, x, y, pair=pair: y + scale * (x[0] @ pair[0].T @ pair[1].T))
    return params


def latent_loss(kind, reduction, p, t):
    """Of one step, p and t (d)."""
    mse = ((p - t) ** 2).sum() if reduction == "paper" else ((p - t) ** 2).mean()
    cosine = 1 - torch.nn.functional.cosine_similarity(p / (p.norm() + 1e-8), t / (t.norm() + 1e-8), dim=0).clamp(
        -1 + 1e-6, 1 - 1e-6)
    kl = torch.nn.functional.kl_div(p.log_softmax(0), t.softmax(0), reduction="sum")
    huber = torch.nn.functional.huber_loss(p, t, delta=1.0, reduction="sum" if reduction == "paper" else "mean")
    return {"mse": mse, "cosine": cosine, "kl": kl, "huber": huber, "stable": 0.5 * mse + 0.3 * cosine + 0.2 * kl}[kind]


class Published:
    """The published training step on the state of a run before its first step."""

    def __init__(self, world, run, adapter=None, full=False, lm="lm", dtype=torch.float32):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(world / lm, dtype=dtype)
        self.model.eval().requires_grad_(full)
        facts = json.load(open(run / "last/rot.json"))
        size = max(facts["img_begin_token_id"], facts["img_end_token_id"]) + 1
        rows = load_file(run / "last/tokens.safetensors")
        with torch.no_grad():
            for weight in (self.model.get_input_embeddings().weight, self.model.lm_head.weight):  # one, if tied
                assert size <= len(weight)  # the small checkpoint has spare rows
                for name in ("img_begin", "img", "img_end"):
                    weight[facts[f"{name}_token_id"]] = rows[name]
        self.head = Head(run / "last/head.safetensors").to(dtype).requires_grad_(False)
        self.lora = add_lora(self.model, adapter) if adapter else {}
        self.data = rt.open(world / "out/d.json", split="train")

    def embed(self, ids):
        return self.model.get_input_embeddings()(torch.as_tensor(np.asarray(ids, dtype=np.int64)))

    def hidden(self, inputs, cache):
        return self.model.model(inputs_embeds=inputs[None], past_key_values=cache, use_cache=cache is not None
                                ).last_hidden_state[0]

    def targets(self, i):
        return torch.from_numpy(np.asarray(self.data[i].embeddings_f32).copy())

    def sample(self, i, kind, reduction):
        ids, targets = self.data.tokens(i), self.targets(i)
        question, answer = ids["question_ids"], ids["answer_ids"]
        cache = transformers.DynamicCache()
        h = self.hidden(self.embed(question), cache)[-1]
        latents, losses = [], []
        for k in range(len(targets)):
            v = self.head(h)
            losses.append(latent_loss(kind, reduction, v, targets[k]))
            latents.append(v)
            if k + 1 < len(targets):
                h = self.hidden(v.detach()[None], cache)[-1]
        whole = torch.cat([self.embed(question), torch.stack(latents), self.embed(answer)])
        logits = self.model.lm_head(self.hidden(whole, None))
        labels = torch.as_tensor(np.asarray(answer, dtype=np.int64))
        lm = torch.nn.functional.cross_entropy(logits[-len(answer) - 1:-1].float(), labels)
        return torch.stack(losses).mean(), lm

    def loss(self, samples, vision_weight=10, lm_weight=1, kind="mse", reduction="paper"):
        both = [self.sample(i, kind, reduction) for i in samples]
        vision, lm = torch.stack([v for v, _ in both]).mean(), torch.stack([x for _, x in both]).mean()
        return vision_weight * vision + lm_weight * lm, vision, lm


def close(got, want, bound, what):
    assert got.shape == want.shape, what
    error = (got - want).norm() / max(want.norm(), 1e-12)
    assert error <= bound, f"{what}: relative error {error:.3g}"
    return error


ONE_STEP = ["train.max_steps=1", "optimizer.lr=0", "optimizer.beta1=0"]


@pytest.mark.parametrize("kind,reduction", [("mse", "paper"), ("mse", "released"), ("cosine", "paper"), ("kl", "paper"),
                                            ("huber", "released"), ("huber", "paper"), ("stable", "released")])
def test_stage_1(rotoscope, world, kind, reduction):
    sets = [f"loss.kind={kind}"] + ([] if kind in ("cosine", "kl") else [f"loss.reduction={reduction}"])
    run = train(rotoscope, world, f"one-{kind}-{reduction}", *ONE_STEP, *sets)
    published = Published(world, run)
    published.head.requires_grad_(True)
    total, vision, lm = published.loss(range(ROWS), kind=kind, reduction=reduction)
    total.backward()
    line, = log(run)
    for name, value in (("loss", total), ("vision_loss", vision), ("lm_loss", lm)):
        assert abs(line[name] - value.item()) <= 1e-4 * abs(value.item()), name
    got = state(run, "first_moment")
    wanted = {f"head.{n.removeprefix('layers.')}": p.grad for n, p in published.head.named_parameters()}
    assert set(got) == set(wanted)
    for name, grad in wanted.items():
        close(got[name], grad, 1e-4, name)
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in got.values()))
    assert abs(line["grad_norm"] - norm) <= 1e-5 * norm


def test_stage_1_of_one_loss_alone(rotoscope, world):
    for vision, lm in ((10, 0), (0, 1)):
        run = train(rotoscope, world, f"alone-{lm}", *ONE_STEP, f"loss.vision={vision}", f"loss.lm={lm}")
        published = Published(world, run)
        published.head.requires_grad_(True)
        published.loss(range(ROWS), vision, lm)[0].backward()
        got = state(run, "first_moment")
        for name, p in published.head.named_parameters():
            close(got[f"head.{name.removeprefix('layers.')}"], p.grad, 1e-4, name)
        line, = log(run)
        assert ("lm_loss" in line) == (lm > 0) and ("vision_loss" in line) == (vision > 0)


def test_uncertainty_weighting(rotoscope, world):
    run = train(rotoscope, world, "uncertain", *ONE_STEP, "loss.uncertainty=true")
    published = Published(world, run)
    published.head.requires_grad_(True)
    _, vision, lm = published.loss(range(ROWS))
    s = torch.zeros(2, requires_grad=True)
    total = 0.5 * (-s[0]).exp() * vision + 0.5 * s[0] + 0.5 * (-s[1]).exp() * lm + 0.5 * s[1]
    total.backward()
    line, got = log(run)[0], state(run, "first_moment")
    assert abs(line["loss"] - total.item()) <= 1e-4 * abs(total.item())
    close(got["log_variance.vision"], s.grad[:1], 1e-4, "vision")
    close(got["log_variance.lm"], s.grad[1:], 1e-4, "lm")
    for name, p in published.head.named_parameters():
        close(got[f"head.{name.removeprefix('layers.')}"], p.grad, 1e-4, name)


@pytest.fixture(scope="module")
def stage1(rotoscope, world):
    return train(rotoscope, world, "stage1", "train.max_steps=3", "train.epochs=3", "optimizer.lr=1e-3")


@pytest.fixture(scope="module")
def adapter(rotoscope, world, stage1):
    """An adapter whose B is not zero, so that A has a gradient."""
    run = train(rotoscope, world, "fresh", "rot.stage=2", f"rot.head={stage1 / 'last'}", "lora.dropout=0", *ONE_STEP)
    folder = world / "adapter"
    shutil.copytree(run / "last/adapter", folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    torch.manual_seed(5)
    for name, t in tensors.items():
        if "lora_B" in name:
            tensors[name] = torch.randn_like(t) * 0.05
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize("vision", [0, 3])
@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_stage_2_lora(rotoscope, world, stage1, adapter, vision, checkpointing):
    run = train(rotoscope, world, f"lora-{vision}-{checkpointing}", "rot.stage=2", f"rot.head={stage1 / 'last'}",
                f"model.adapter={adapter}", "lora.dropout=0", f"loss.vision={vision}",
                f"model.checkpointing={checkpointing}", *ONE_STEP)
    published = Published(world, run, adapter)
    total, _, lm = published.loss(range(ROWS), vision)
    total.backward()
    line, got = log(run)[0], state(run, "first_moment")
    assert abs(line["loss"] - total.item()) <= 1e-4 * total.item()
    assert set(got) == set(published.lora)
    for name, p in published.lora.items():
        close(got[name], p.grad, 1e-4, name)


def test_both_stages_at_once(rotoscope, world, stage1, adapter):
    run = train(rotoscope, world, "both", "rot.stage=2", f"rot.head={stage1 / 'last'}", f"model.adapter={adapter}",
                "lora.dropout=0", "loss.vision=3", "rot.train_head=true", *ONE_STEP)
    published = Published(world, run, adapter)
    published.head.requires_grad_(True)
    published.loss(range(ROWS), 3)[0].backward()
    got = state(run, "first_moment")
    wanted = {f"head.{n.removeprefix('layers.')}": p for n, p in published.head.named_parameters()} | published.lora
    assert set(got) == set(wanted)
    for name, p in wanted.items():
        close(got[name], p.grad, 1e-4, name)


@pytest.mark.parametrize("stage", [1, 2])
def test_llama(rotoscope, world, stage1, stage):
    """Another family, with a head of its own."""
    if not (world / "llama").exists():
        rotoscope("init-model", "--arch", "llama-tiny", "--width", D, "--heads", 4, "--mlp", 96, "--depth", 2, "-q",
                  world / "llama")
    sets = [f"model.checkpoint={world / 'llama'}"]
    if stage == 2:
        sets += ["rot.stage=2", f"rot.head={stage1 / 'last'}", "model.tuning=full", "loss.vision=3"]
    run = train(rotoscope, world, f"llama-{stage}", *ONE_STEP, *sets)
    published = Published(world, run, full=stage == 2, lm="llama")
    published.head.requires_grad_(stage == 1)
    published.loss(range(ROWS), 10 if stage == 1 else 3)[0].backward()
    got = state(run, "first_moment")
    wanted = published.model.named_parameters() if stage == 2 else \
        ((f"head.{n.removeprefix('layers.')}", p) for n, p in published.head.named_parameters())
    wanted = dict(wanted)
    assert set(got) == set(wanted)
    for name, p in wanted.items():
        close(got[name], p.grad, 1e-4, name)


@pytest.mark.parametrize("vision", [0, 3])
def test_stage_2_full(rotoscope, world, stage1, vision):
    run = train(rotoscope, world, f"full-{vision}", "rot.stage=2", f"rot.head={stage1 / 'last'}", "model.tuning=full",
                f"loss.vision={vision}", *ONE_STEP)
    published = Published(world, run, full=True)
    total, _, _ = published.loss(range(ROWS), vision)
    total.backward()
    got = state(run, "first_moment")
    wanted = {n: p.grad for n, p in published.model.named_parameters()}
    assert set(got) == set(wanted)
    for name, grad in wanted.items():
        close(got[name], grad, 1e-4, name)


def test_special_rows_that_train(rotoscope, world):
    """As inputs: the rows of the tied head stay."""
    run = train(rotoscope, world, "rows", "rot.train_rows=true", "rot.row_init=typical", *ONE_STEP)
    published = Published(world, run)
    facts = json.load(open(run / "last/rot.json"))
    ids = facts["img_begin_token_id"], facts["img_end_token_id"]
    rows = torch.stack([published.model.get_input_embeddings().weight[i].clone() for i in ids]).requires_grad_(True)
    frozen = published.embed

    def embed(tokens):
        out = frozen(tokens)
        mask = torch.as_tensor(np.asarray(tokens, dtype=np.int64))
        for i, token in enumerate(ids):
            out = torch.where((mask == token)[:, None], rows[i], out)
        return out

    published.embed = embed
    published.loss(range(ROWS))[0].backward()
    got = state(run, "first_moment")
    close(got["rows.img_begin"], rows.grad[0], 1e-4, "img_begin")
    close(got["rows.img_end"], rows.grad[1], 1e-4, "img_end")


def test_ten_steps_stay_together(rotoscope, world):
    """AdamW, a warm-up, a cosine, clipping, decay, accumulation; batches of 2, 3 micro-batches a step."""
    sets = ["train.batch=2", "train.accumulate=3", "train.epochs=10", "optimizer.lr=2e-3", "optimizer.clip=1",
            "schedule.kind=cosine", "schedule.warmup_steps=3", "schedule.zero_first=true"]
    before = train(rotoscope, world, "ten-0", *ONE_STEP)
    run = train(rotoscope, world, "ten", *sets)
    published = Published(world, before)
    params = dict(published.head.requires_grad_(True).named_parameters())
    optimizer = torch.optim.AdamW(params.values(), lr=2e-3, weight_decay=0.01)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 3, 10)
    lines = log(run)
    for step in range(10):
        optimizer.zero_grad()
        total = published.loss(range(ROWS))[0]
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(params.values()), 1.0)
        assert abs(lines[step]["lr"] - optimizer.param_groups[0]["lr"]) <= 1e-9
        assert abs(lines[step]["loss"] - total.item()) <= 1e-3 * total.item()
        assert abs(lines[step]["grad_norm"] - norm.item()) <= 1e-3 * norm.item()
        optimizer.step()
        schedule.step()
    got = state(run, "value")
    start = load_file(before / "last/head.safetensors")
    for name, p in params.items():
        name = name.removeprefix("layers.")
        moved = (p.detach() - start[name]).norm()
        assert (got[f"head.{name}"] - p.detach()).norm() <= 1e-3 * p.detach().norm()
        assert (got[f"head.{name}"] - p.detach()).norm() <= 2e-2 * moved, name


def test_buckets_and_order_change_nothing_but_the_order(rotoscope, world):
    """One step over all samples: shuffled, in buckets and in two micro-batches."""
    plain = state(train(rotoscope, world, "plain", *ONE_STEP), "first_moment")
    other = state(train(rotoscope, world, "other", *ONE_STEP, "data.shuffle=epoch", "data.bucket=true", "train.batch=4",
                        "train.accumulate=2"), "first_moment")
    for name, grad in plain.items():
        close(other[name], grad, 1e-5, name)


def test_the_published_way_to_average_and_carry(rotoscope, world):
    """Micro-batches of 4 and 2: each counts half; without a full step nothing is done."""
    run = train(rotoscope, world, "micro", *ONE_STEP, "train.batch=4", "train.accumulate=2",
                "train.average=micro-batches")
    published = Published(world, run)
    published.head.requires_grad_(True)
    (published.loss(range(4))[0] / 2 + published.loss(range(4, 6))[0] / 2).backward()
    got = state(run, "first_moment")
    for name, p in published.head.named_parameters():
        close(got[f"head.{name.removeprefix('layers.')}"], p.grad, 1e-4, name)
    carried = train(rotoscope, world, "carry", "train.batch=4", "train.accumulate=3", "train.rest=carry",
                    "train.epochs=2", "optimizer.lr=0", "optimizer.beta1=0")
    assert [line["samples"] for line in log(carried)] == [10]  # 4 + 2 of one epoch, 4 of the next; 2 are left over


@pytest.mark.parametrize("stage", [1, 2])
def test_any_number_of_threads_gives_the_same_bits(rotoscope, world, stage1, stage):
    sets = ["train.batch=3", "train.epochs=2", "optimizer.lr=1e-3", "optimizer.clip=1"]
    if stage == 2:
        sets += ["rot.stage=2", f"rot.head={stage1 / 'last'}"]  # with dropout
    one = train(rotoscope, world, f"threads-1-{stage}", *sets)
    two = train(rotoscope, world, f"threads-2-{stage}", *sets, threads=2)
    assert (one / "last/state.safetensors").read_bytes() == (two / "last/state.safetensors").read_bytes()


def test_bf16_is_near(rotoscope, world):
    exact = train(rotoscope, world, "near-f32", *ONE_STEP)
    run = train(rotoscope, world, "near-bf16", *ONE_STEP, "model.precision=bf16")
    assert abs(log(run)[0]["loss"] - log(exact)[0]["loss"]) <= 2e-2 * log(exact)[0]["loss"]
    assert state(run, "first_moment")["head.3.bias"].norm() > 0


def test_a_store_that_does_not_fit_is_refused(rotoscope, world, tmp_path):
    rotoscope("init-model", "--arch", "qwen3-tiny", "--width", 32, "--heads", 2, "--mlp", 48, "--depth", 1, "-q",
              tmp_path / "small")
    done = train(rotoscope, world, "never", f"model.checkpoint={tmp_path / 'small'}", check=False)
    assert done.returncode == 2 and b"width 64" in done.stderr and b"is 32" in done.stderr
    shutil.copytree(world / "lm", tmp_path / "lm")
    tokenizer = json.load(open(tmp_path / "lm/tokenizer.json"))
    tokenizer["added_tokens"][0]["content"] = "<|another|>"
    json.dump(tokenizer, open(tmp_path / "lm/tokenizer.json", "w"))
    done = train(rotoscope, world, "never", f"model.checkpoint={tmp_path / 'lm'}", check=False)
    assert done.returncode == 2 and done.stderr.count(b"the tokenizer ") == 2
    done = train(rotoscope, world, "never", "data.geometry=released", check=False)
    assert done.returncode == 2 and b"'native'" in done.stderr and b"'released'" in done.stderr


def test_a_loss_that_is_no_number_stops_with_the_sample(rotoscope, world, stage1, tmp_path):
    shutil.copytree(stage1 / "last", tmp_path / "head")
    tensors = load_file(tmp_path / "head/head.safetensors")
    for name in ("2.w3.weight", "3.weight"):
        tensors[name] = tensors[name] * 1e30  # finite, but nothing that they give is
    save_file(tensors, tmp_path / "head/head.safetensors")
    done = train(rotoscope, world, "nan", f"rot.head={tmp_path / 'head'}", "rot.train_head=true", check=False)
    assert done.returncode == 1 and b"sample 's0'" in done.stderr and b"no number" in done.stderr
    assert (world / "nan/last/training_state.json").is_file()


def test_a_resumed_run_ends_in_the_same_bits(rotoscope, world, stage1):
    for stage, more in ((1, []), (2, ["rot.stage=2", f"rot.head={stage1 / 'last'}"])):
        sets = ["train.batch=2", "train.accumulate=2", "train.epochs=3", "optimizer.lr=1e-3", "data.shuffle=epoch",
                *more]
        whole = train(rotoscope, world, f"whole-{stage}", *sets)
        for steps in (1, 3, 4):
            train(rotoscope, world, f"parts-{stage}", *sets, f"train.max_steps={steps}")
        parts = train(rotoscope, world, f"parts-{stage}", *sets)
        assert (whole / "last/state.safetensors").read_bytes() == (parts / "last/state.safetensors").read_bytes()
        timeless = [[{k: v for k, v in line.items() if k not in ("samples_per_s", "data_share")} for line in log(r)]
                    for r in (whole, parts)]
        assert timeless[0] == timeless[1]


def test_another_config_is_refused(rotoscope, world):
    train(rotoscope, world, "first", *ONE_STEP)
    done = train(rotoscope, world, "first", *ONE_STEP, "optimizer.beta2=0.99", check=False)
    assert done.returncode == 2 and b"optimizer.beta2 was 0.999, now it is 0.99" in done.stderr
