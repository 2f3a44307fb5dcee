"""The tower beside transformers on the same 4B checkpoint in bf16, taking turns in one run.

encode_peer.py [CHECKPOINT] [--rounds N] [--threads 1,2] [--images 8] [--no-compile]

CHECKPOINT: as `rotoscope init-model DIR --arch 4b` writes it; without one, it is made and removed. In every round each
case is run once by us (as used, and with the deepstack taps, which transformers always computes) and once under each
setting of PyTorch: a packed batch or one image at a time, sdpa or eager attention, blocks under torch.compile. One
TSV row per case and setting, then the ratios: to PyTorch's best setting and to the processor's bfloat16 ceiling (which
is measured around each of our passes), scaling, and one image alone against a batch. Random pixels."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tests" / "peers"))
import peer_torch  # noqa: E402,F401
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig  # noqa: E402
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel  # noqa: E402

BUILD = TOP / os.environ.get("BUILD", "build")


class Ours:
    """build/bench/encode as a server; one pass a call."""

    def __init__(self, checkpoint, threads, mode):
        self.process = subprocess.Popen([BUILD / "bench/encode", checkpoint, str(threads), mode], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.name = self.process.stdout.readline().strip()

    def __call__(self, patches, images):
        self.process.stdin.write(f"{patches} {images}\n")
        self.process.stdin.flush()
        seconds, gflop, ceiling = map(float, self.process.stdout.readline().split())
        self.share = gflop / seconds / ceiling if ceiling else float("nan")
        return seconds

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def load(checkpoint, attention, compiled):
    config = Qwen3VLVisionConfig(**json.loads((checkpoint / "config.json").read_text())["vision_config"])
    config._attn_implementation = attention
    model = Qwen3VLVisionModel(config).to(torch.bfloat16).eval()
    weights = {}
    for file in sorted(checkpoint.glob("*.safetensors")):
        weights.update((k.split("visual.", 1)[1], v) for k, v in load_file(file).items() if "visual." in k)
    model.load_state_dict(weights, assign=True)
    if compiled:
        for block in model.blocks:
            block.compile(dynamic=False)
    return model


def peer(model, packed):
    def run(patches, images):
        pixels = torch.rand(images * patches, 1536).to(torch.bfloat16) * 2 - 1
        grid = torch.tensor([[1, 2, patches // 2]] * images)
        with torch.no_grad():
            start = time.perf_counter()
            if packed:
                model(pixels, grid)
            else:
                for i in range(images):
                    model(pixels[i * patches : (i + 1) * patches], grid[i : i + 1])
            return time.perf_counter() - start

    return run


def measure(args, checkpoint, threads):
    torch.set_num_threads(threads)
    ours, taps = Ours(checkpoint, threads, "serve"), Ours(checkpoint, threads, "serve-deepstack")
    runners = {"rotoscope as used": ours, "rotoscope with deepstack": taps}
    for attention in ("sdpa", "eager"):
        for compiled in (False, True) if attention == "sdpa" and args.compile else (False,):
            model = load(checkpoint, attention, compiled)
            for packed in (True, False):
                name = f"transformers {attention}{', compiled' if compiled else ''}, {'packed' if packed else 'one by one'}"
                runners[name] = peer(model, packed)
    cases = [(300, args.images), (80, 3 * args.images), (376, args.images), (376, 1)]
    times = {}
    shares = {}
    for round_ in range(args.rounds + 1):  # the first one warms and is not counted
        for case in cases:
            for name, run in list(runners.items()):
                if case[0] == 376 and not name.startswith("rotoscope as"):
                    continue
                try:
                    seconds = run(*case)
                except Exception as error:  # a setting that does not work here is said once
                    print(f"# {name}: {type(error).__name__}: {str(error).splitlines()[0][:100]}", file=sys.stderr)
                    del runners[name]
                    continue
                if round_:
                    times.setdefault((case, name), []).append(seconds)
                    if name.startswith("rotoscope"):
                        shares.setdefault((case, name), []).append(run.share)
    ours.close()
    taps.close()
    for (case, name), seconds in times.items():
        print(f"{threads}\t{case[0]}\t{case[1]}\t{name}\t{case[1] / min(seconds):.2f}\t"
              f"{case[1] / statistics.median(seconds):.2f}", flush=True)
    return ours.name, cases, times, shares


def ratios(threads, cases, times, shares):
    for case in cases[:2]:
        peers = {name: t for (c, name), t in times.items() if c == case and name.startswith("transformers")}
        best = min(peers, key=lambda name: statistics.median(peers[name]))
        for name in ("rotoscope as used", "rotoscope with deepstack"):
            rounds = [theirs / mine for theirs, mine in zip(peers[best], times[case, name])]
            share = statistics.median(shares[case, name])
            print(f"# {threads} threads, {case[0]} patches: {name}: {statistics.median(rounds):.2f} times {best}, "
                  f"{share:.2f} of the ceiling")
    alone, batch = (statistics.median(times[c, "rotoscope as used"]) / c[1] for c in (cases[3], cases[2]))
    print(f"# {threads} threads: one image of 376 patches alone: {batch / alone:.2f} of the rate of a batch")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", nargs="?", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default=f"1,{len(os.sched_getaffinity(0))}")
    parser.add_argument("--images", type=int, default=8, help="of 300 patches; three times as many of 80")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = args.checkpoint
        if not checkpoint:
            checkpoint = pathlib.Path(folder) / "4b"
            subprocess.run([BUILD / "rotoscope", "init-model", checkpoint, "--arch", "4b"], check=True,
                           stdout=subprocess.DEVNULL)
        print("threads\tpatches\timages\tsetting\timages_per_s_best\timages_per_s_median")
        results = {n: measure(args, checkpoint, n) for n in sorted(set(map(int, args.threads.split(","))))}
        for threads, (name, cases, times, shares) in results.items():
            print(f"# {name}")
            ratios(threads, cases, times, shares)
        if len(results) > 1:
            few, many = min(results), max(results)
            for case in results[few][1][:2]:
                one, more = (statistics.median(results[n][2][case, "rotoscope as used"]) for n in (few, many))
                print(f"# {case[0]} patches: {one / more:.2f} times as fast on {many} threads as on {few}")


if __name__ == "__main__":
    main()
