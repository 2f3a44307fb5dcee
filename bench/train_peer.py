"""The decoder of trainer/ against PyTorch on the same checkpoint, in one run, turn by turn: decoding against
transformers.generate, forward and backward of full fine-tuning against its autograd. One TSV row per case.

train_peer.py CHECKPOINT [THREADS] [ROUNDS]; for instance `rotoscope init-model DIR --arch qwen3-100m`. With one
thread it takes processor time, which other programs disturb less."""
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "peers"))
import peer_torch  # noqa: E402,F401
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from peer_decoder import BF16, F32, Context, Decoder  # noqa: E402

checkpoint = sys.argv[1]
threads = int(sys.argv[2]) if len(sys.argv) > 2 else torch.get_num_threads()
rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
torch.set_num_threads(threads)
PROMPT, NEW = 64, 32
CASES = [(4, 128), (1, 512)]  # sequences and rows of each, forward and backward


def clock(run):
    now = time.process_time if threads == 1 else time.perf_counter
    start = now()
    run()
    return now() - start


def compare(case, ours, peer, unit, amount):
    ours(), peer()
    times = [(clock(ours), clock(peer)) for _ in range(rounds)]
    a, b = (statistics.median(column) for column in zip(*times))
    ratio = statistics.median(y / x for x, y in times)
    print(f"{case}\t{threads}\t{amount / a:.1f}\t{amount / b:.1f}\t{unit}/s\t{ratio:.2f}", flush=True)


def decode(decoder, batch, ids):
    context = Context(decoder, [PROMPT + NEW] * batch)
    hidden = context.forward([PROMPT] * batch, decoder.embed(ids.ravel()))
    last = hidden.reshape(batch, PROMPT, -1)[:, -1]
    for step in range(NEW):
        tokens = decoder.logits(np.ascontiguousarray(last)).argmax(-1)
        if step + 1 < NEW:
            last = context.forward([1] * batch, decoder.embed(tokens))
    context.close()


def step(decoder, contexts, n, length, ids):
    decoder.zero_grad()
    context = contexts.setdefault((n, length), None) or Context(decoder, [length] * n, keep_grad=True)
    contexts[n, length] = context
    context.truncate([0] * n)
    labels = np.roll(ids, -1, 1).ravel()
    hidden = context.forward([length] * n, decoder.embed(ids.ravel()), save=True)
    weights = np.full(n * length, 1 / (n * length), np.float32)
    _, d_hidden = decoder.cross_entropy(hidden, labels, weights)
    decoder.embed_backward(ids.ravel(), context.backward(d_hidden))


def torch_step(model, ids):
    model.zero_grad(set_to_none=True)
    logits = model(ids, use_cache=False).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), torch.roll(ids, -1, 1).flatten()).backward()


print("case\tthreads\tours\tpytorch\tunit\tratio")
rng = np.random.default_rng(0)
for name, precision, dtype in (("bf16", BF16, torch.bfloat16), ("f32", F32, torch.float32)):
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype, attn_implementation="sdpa")
    vocab = model.config.vocab_size
    decoder = Decoder(checkpoint, precision=precision, threads=threads)
    for batch in (1, 16):
        ids = rng.integers(0, vocab, (batch, PROMPT)).astype(np.int32)
        prompt = torch.from_numpy(ids.astype(np.int64))
        options = dict(max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0,
                       attention_mask=torch.ones_like(prompt))
        with torch.no_grad():
            compare(f"decode {name} batch {batch}", lambda: decode(decoder, batch, ids),
                    lambda: model.generate(prompt, **options), "tokens", batch * NEW)
    decoder.close()
    decoder, contexts = Decoder(checkpoint, precision=precision, threads=threads, train_all=True), {}
    model.train()
    for n, length in CASES:
        ids = rng.integers(0, vocab, (n, length)).astype(np.int32)
        compare(f"forward+backward {name} {n} x {length}", lambda: step(decoder, contexts, n, length, ids),
                lambda: torch_step(model, torch.from_numpy(ids.astype(np.int64))), "rows", n * length)
    decoder.close()
