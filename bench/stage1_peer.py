"""A step of Render-of-Thought's stage 1 from a store beside the published way, in one run, turn by turn.

stage1_peer.py [FOLDER] [--threads N] [--rounds N] [--batch N] [--steps N] [--samples N]

FOLDER keeps what is measured on: a decoder of 100M, a tower of the 4B shape with embeddings as wide as the decoder's
hidden state, and a store of synthetic traces made with both; without one they are made and removed. Ours is
`rotoscope train` with preset rot-paper, in bf16; the pages of the store are dropped from memory before it. The published
way takes samples one after another: the trace is drawn by Pillow, resized by qwen-vl-utils and the processor, seen by
transformers' tower in bf16, its latents are rolled out by one model call each, the answer goes through a second pass,
autograd goes through all. Its step is tests/peers/test_train.py's, which holds ours to it in fp32. The third is what a
good loop in PyTorch would be: from the store too, in batches, with cached keys and values, samples dropped as they end,
the rollout without a graph, the head's gradient by one pass over all latents, the answer's by another behind the cached
question. All begin with the same head, and their losses on the same samples are compared. One TSV row per part, medians.
With one thread it takes processor time, which other programs disturb less, else wall clock."""
import argparse
import copy
import functools
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOP / "tests/peers"), str(TOP / "bench")]
import torch  # noqa: E402
import transformers  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402
from encode_peer import BUILD, load  # noqa: E402
from test_pixels import Qwen2VLImageProcessorFast, reference  # noqa: E402
from test_train import Published  # noqa: E402

CONFIG = """
name: d
root: out
splits: {train: {files: [rows.txt], format: gsm8k-aug}}
tokenizer: {path: lm, layout: rot}
render: {preset: rot-released}
encode: {checkpoint: tower, geometry: released}
"""


def rotoscope(*args):
    subprocess.run([BUILD / "rotoscope", *map(str, args)], check=True, stdout=subprocess.DEVNULL)


def make(top, rows):
    rotoscope("init-model", "--arch", "qwen3-100m", "--dtype", "bf16", "-q", top / "lm")
    width = json.loads((top / "lm/config.json").read_text())["hidden_size"]
    rotoscope("init-model", "--arch", "custom", "--depth", 24, "--width", 1024, "--heads", 16, "--mlp", 4096, "--out", width,
              "-q", top / "tower")
    rotoscope("init-data", "--like", "gsm8k-aug", "--rows", rows, "-o", top / "rows.txt", "-q")
    (top / "b.yaml").write_text(CONFIG)
    rotoscope("build", "-c", top / "b.yaml", "-q")


def now(threads, process=None):
    """Seconds by the clock that counts: of this machine, of this process, or of a child."""
    if threads > 1:
        return time.perf_counter()
    return time.clock_gettime((~process.pid << 3) | 2) if process else time.process_time()


def drop_pages(top):
    for shard in top.glob("out/stages/*/*.mdb"):
        with open(shard) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def train(top, args, steps, **sets):
    """The log of a run of so many steps in the order of the store, and the seconds of all but the first."""
    shutil.rmtree(top / "run", ignore_errors=True)
    (top / "t.yaml").write_text("preset: rot-paper\n")
    sets = {"out": top / "run", "model.checkpoint": top / "lm", "model.precision": "bf16",
            "data.dataset": top / "out/d.json", "data.shuffle": "none", "data.bucket": "false", "train.batch": args.batch,
            "train.max_steps": steps} | sets
    drop_pages(top)
    process = subprocess.Popen([BUILD / "rotoscope", "train", "-c", top / "t.yaml", "-q", "--threads", str(args.threads),
                                *[word for key, value in sets.items() for word in ("--set", f"{key}={value}")]],
                               stdout=subprocess.DEVNULL)
    log, ends = top / "run/train.jsonl", []
    while process.poll() is None and len(ends) < steps:
        time.sleep(0.005)
        if log.exists() and log.read_bytes().count(b"\n") > len(ends):
            ends.append(now(args.threads, process))
    if process.wait() != 0:
        sys.exit("rotoscope train failed")
    return [json.loads(line) for line in open(log)], [b - a for a, b in zip(ends, ends[1:])]


class PerSample(Published):
    def __init__(self, top, threads):
        super().__init__(top, top / "run", dtype=torch.bfloat16)
        self.now = functools.partial(now, threads)
        self.head.requires_grad_(True)
        self.tower = load(top / "tower", "sdpa", False).requires_grad_(False)
        self.processor = Qwen2VLImageProcessorFast.from_pretrained(top / "tower")
        self.font = ImageFont.truetype("DejaVuSans.ttf", 16)
        self.optimizer = torch.optim.AdamW(self.head.parameters(), lr=2e-5, weight_decay=0.01)
        self.seconds = {}

    def timed(self, part, run):
        start = self.now()
        out = run()
        self.seconds.setdefault(part, []).append(self.now() - start)
        return out

    def draw(self, trace):
        text = f"<|begin_of_thought|>  {trace}  <|end_of_thought|>"
        box = ImageDraw.Draw(Image.new("RGB", (1, 1))).textbbox((0, 0), text, font=self.font)
        image = Image.new("RGB", (box[2] - box[0] + 8, 32), "white")
        ImageDraw.Draw(image).text((4, 8), text, font=self.font, fill="black")
        return image

    def encode(self, image):
        pixels, grid = reference("released", image, self.processor)
        with torch.no_grad():
            return self.tower(torch.from_numpy(pixels).bfloat16(), torch.from_numpy(grid)[None])[0]

    @functools.cached_property
    def traces(self):
        return [self.data.tokens(i)["trace"] for i in range(len(self.data))]

    def targets(self, i):
        image = self.timed("draw", lambda: self.draw(self.traces[i]))
        return self.timed("encode", lambda: self.encode(image))

    def run(self, i, batch):
        """Its losses. Adds to the head's gradient."""
        begin = self.now()
        vision, lm = self.timed("forward", lambda: self.sample(i, "mse", "paper"))
        self.timed("backward", lambda: ((10 * vision + lm) / batch).backward())
        self.seconds.setdefault("sample", []).append(self.now() - begin)
        return vision.item(), lm.item()

    def step(self):
        def update():
            torch.nn.utils.clip_grad_norm_(self.head.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.timed("step", update)


class Fair:
    """Batches of the published step's model and head."""

    def __init__(self, peer):
        self.peer, self.model, self.head = peer, peer.model, peer.head

    def hidden(self, inputs, mask, cache):
        rows = inputs.shape[1]
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -rows:]
        return self.model.model(inputs_embeds=inputs, attention_mask=mask, position_ids=positions, past_key_values=cache,
                                use_cache=True).last_hidden_state

    def rollout(self, h, mask, cache, k):
        """What the head is given, (batch, most latents, width); who has all of its latents leaves the batch."""
        out = torch.zeros(len(h), max(k), h.shape[1], dtype=h.dtype)
        active = torch.arange(len(h))
        for step in range(max(k)):
            out[active, step] = h
            if step + 1 == max(k):
                break
            stay = torch.tensor([k[i] > step + 1 for i in active])
            if stay.float().mean() <= 0.75:
                h, mask, active = h[stay], mask[stay], active[stay]
                cache.batch_select_indices(stay.nonzero()[:, 0])
            mask = torch.cat([mask, torch.ones(len(mask), 1, dtype=mask.dtype)], 1)
            h = self.hidden(self.head(h)[:, None], mask, cache)[:, 0]
        return out

    def step(self, samples):
        ids = [self.peer.data.tokens(i) for i in samples]
        targets = [torch.from_numpy(self.peer.data[i].embeddings_f32).bfloat16() for i in samples]
        k = [len(t) for t in targets]
        longest = max(len(x["question_ids"]) for x in ids)
        mask = torch.zeros(len(ids), longest, dtype=torch.long)
        question = torch.zeros(len(ids), longest, targets[0].shape[1], dtype=torch.bfloat16)
        for row, x in enumerate(ids):  # pads on the left: the last question token of all is the last row
            n = len(x["question_ids"])
            mask[row, -n:], question[row, -n:] = 1, self.peer.embed(x["question_ids"])
        cache = transformers.DynamicCache()
        with torch.no_grad():
            h = self.hidden(question, mask, cache)[:, -1]
            given = self.rollout(h, mask, copy.deepcopy(cache), k)
        latents = self.head(torch.cat([given[row, :n] for row, n in enumerate(k)])).split(k)
        vision = torch.stack([((v - t) ** 2).sum(1).mean() for v, t in zip(latents, targets)]).mean()
        tails = [torch.cat([v, self.peer.embed(x["answer_ids"])]) for v, x in zip(latents, ids)]
        tail = torch.nn.utils.rnn.pad_sequence(tails, batch_first=True)
        seen = torch.nn.utils.rnn.pad_sequence([torch.ones(len(x), dtype=torch.long) for x in tails], batch_first=True)
        hidden = self.hidden(tail, torch.cat([mask, seen], 1), cache)
        before = [hidden[row, n - 1:len(t) - 1] for row, (n, t) in enumerate(zip(k, tails))]
        logits = self.model.lm_head(torch.cat(before)).float()
        labels = [torch.as_tensor(x["answer_ids"].astype("int64")) for x in ids]
        each = torch.nn.functional.cross_entropy(logits, torch.cat(labels), reduction="none").split(list(map(len, labels)))
        lm = torch.stack([x.mean() for x in each]).mean()
        (10 * vision + lm).backward()
        self.peer.step()
        return vision.item(), lm.item()


def compare(name, ours, theirs):
    print(f"# {name}: ours {ours:.6g}, theirs {theirs:.6g}", flush=True)
    if abs(ours - theirs) > 0.02 * abs(theirs):
        sys.exit(f"{name}: these are two different computations")


def measure(top, args):
    (first,), _ = train(top, args, 1, **{"train.batch": args.samples, "optimizer.lr": 0})
    torch.set_num_threads(args.threads)
    peer = PerSample(top, args.threads)
    losses = [peer.run(i, args.batch) for i in range(args.samples)]  # warms too
    for name, values in zip(("vision_loss", "lm_loss"), zip(*losses)):
        compare(name, first[name], statistics.mean(values))
    peer.optimizer.zero_grad()
    fair = Fair(peer)
    for name, value in zip(("vision_loss", "lm_loss"), fair.step(range(args.samples))):  # warms, and moves the head by lr
        compare(f"{name}, in batches", first[name], value)
    k = peer.data.K
    by_k = sorted(range(len(k)), key=lambda i: k[i])
    chosen = [by_k[(2 * i + 1) * len(k) // (2 * args.samples)] for i in range(args.samples)]  # as long as all are
    peer.seconds, lines, steps, fair_steps = {}, [], [], []
    for _ in range(args.rounds):
        log, seconds = train(top, args, 1 + args.steps)
        lines += log
        steps += seconds
        begin = now(args.threads)
        fair.step(range(args.batch, 2 * args.batch))
        fair_steps.append(now(args.threads) - begin)
        peer.seconds.pop("step", None)
        for i in chosen:
            peer.run(i, args.batch)
        peer.step()
    parts = {part: statistics.median(seconds) for part, seconds in peer.seconds.items()}
    rest = parts.pop("step") / args.batch
    theirs, ours = parts.pop("sample") + rest, statistics.median(steps) / args.batch
    parts["forward"] -= parts["draw"] + parts["encode"]
    for part, seconds in (parts | {"optimizer's step, of a batch": rest}).items():
        print(f"published\t{part}\t{args.threads}\t{seconds * 1e3:.2f}")
    print(f"published\tall\t{args.threads}\t{theirs * 1e3:.2f}")
    in_batches = statistics.median(fair_steps) / args.batch
    print(f"batches in PyTorch\tall\t{args.threads}\t{in_batches * 1e3:.2f}")
    print(f"rotoscope\tall\t{args.threads}\t{ours * 1e3:.2f}")
    print(f"# latents a sample: ours {statistics.mean(k[args.batch:(1 + args.steps) * args.batch]):.1f}, "
          f"published {statistics.mean(k[i] for i in chosen):.1f}")
    print(f"# waiting for the store: {statistics.median(line['data_share'] for line in lines):.5f} of a step, "
          f"at most {max(line['data_share'] for line in lines):.5f}")
    print(f"# a step from the store is {theirs / ours:.1f} times as fast as the published way, "
          f"{in_batches / ours:.2f} times as fast as batches in PyTorch")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16, help="samples of a step")
    parser.add_argument("--steps", type=int, default=2, help="of ours in a round, behind one that is not counted")
    parser.add_argument("--samples", type=int, default=6, help="of the published way, in a round")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        top = (args.folder or pathlib.Path(folder)).resolve()
        if not (top / "out/d.json").exists():
            top.mkdir(exist_ok=True)
            make(top, (1 + args.steps) * args.batch)
        print("way\tpart\tthreads\tms_per_sample")
        measure(top, args)


if __name__ == "__main__":
    main()
