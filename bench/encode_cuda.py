"""The tower on an NVIDIA GPU: against a large product, against transformers, and in a whole build.

encode_cuda.py [FOLDER] [--no-peers] [--no-build]; scratch goes to FOLDER (default: a new one in /dev/shm). Needs a GPU,
`make CUDA=1 bench` and the packages of tools/install-peers with a CUDA build of torch. Prints TSV rows; random data
throughout:
  ceiling   TFLOP/s of a bf16 product of 8192 x 8192 x 8192 (cuBLASLt by torch), before and after
  ours      images/s and TFLOP/s of the whole 4B tower at 300 and 80 patches, over the ceiling; a profile below
  peer      transformers on the same checkpoint: packed batches with sdpa, FlashAttention and torch.compile where
            they are there, and one image per call, as the published code does it
  build     50,000 synthetic traces, end to end: images/s, GB/s, the tower's share, the time for 385,620"""
import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import torch

TOP = pathlib.Path(__file__).resolve().parents[1]
BUILD = TOP / os.environ.get("BUILD", "build")
ROWS = 50_000
TARGET_ROWS = 385_620  # of GSM8k-Aug


def row(*cells):
    print("\t".join(f"{c:.3f}" if isinstance(c, float) else str(c) for c in cells), flush=True)


def timed(work, passes=7):
    """Seconds of each pass, after one that warms up."""
    work()
    seconds = []
    for _ in range(passes):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds


def ceiling(n=8192):
    a = torch.randn(n, n, dtype=torch.bfloat16, device="cuda")
    b = torch.randn(n, n, dtype=torch.bfloat16, device="cuda")
    return 2 * n**3 / statistics.median(timed(lambda: torch.matmul(a, b), 20)) / 1e12


def ours(checkpoint):
    """TFLOP/s and images/s by patches."""
    before = ceiling()
    torch.cuda.empty_cache()
    text = subprocess.run([BUILD / "bench/encode", "--device", "cuda", checkpoint], check=True,
                          capture_output=True, text=True).stdout
    top = (before + ceiling()) / 2
    row("ceiling", "TFLOP/s", top)
    rates = {}
    for line in text.splitlines():
        cells = line.split("\t")
        if line.startswith("#"):
            print(line)
        elif cells[0] != "backend":
            patches, images, median = int(cells[2]), int(cells[3]), float(cells[5])
            tflops = median * float(cells[6]) / float(cells[4]) / 1e3
            row("ours", f"{patches} patches x {images}", "images/s", median, "TFLOP/s", tflops, "of ceiling", tflops / top)
            if images > 1:
                rates[patches] = median
    return rates


def model(checkpoint, attention):
    sys.path.insert(0, str(TOP / "tests" / "peers"))
    import peer_torch  # noqa: F401
    from safetensors.torch import load_file
    from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel
    config = Qwen3VLVisionConfig(**json.loads((checkpoint / "config.json").read_text())["vision_config"])
    config._attn_implementation = attention
    tower = Qwen3VLVisionModel(config).to(torch.bfloat16).eval()
    weights = {}
    for file in sorted(checkpoint.glob("*.safetensors")):
        weights.update((k.split("visual.", 1)[1], v) for k, v in load_file(file).items() if "visual." in k)
    tower.load_state_dict(weights)
    return tower.cuda()


def peer(checkpoint, rates):
    settings = [("sdpa", False), ("sdpa", True), ("flash_attention_2", False), ("flash_attention_2", True)]
    for patches in (300, 80):
        best = {"packed": 0.0, "one": 0.0}
        for attention, compiled in settings:
            try:
                tower = model(checkpoint, attention)
                run = torch.compile(tower) if compiled else tower
                for images in (1, 32, 128):
                    pixels = (torch.rand(images * patches, 1536, device="cuda") * 2 - 1).to(torch.bfloat16)
                    grid = torch.tensor([[1, 2, patches // 2]] * images, device="cuda")
                    with torch.no_grad():
                        rate = images / statistics.median(timed(lambda: run(pixels, grid), 5))
                    row("peer", f"{patches} patches x {images}", attention + (" compiled" if compiled else ""),
                        "images/s", rate)
                    kind = "one" if images == 1 else "packed"
                    if kind == "packed" or not compiled:  # the published way compiles nothing
                        best[kind] = max(best[kind], rate)
            except Exception as error:  # of a package that is not there, or of a compiler: the others run
                words = (str(error) or type(error).__name__).splitlines()[0][:80]
                row("peer", f"{patches} patches", attention + (" compiled" if compiled else ""), "not run:", words)
        for kind, words in (("packed", "to packed"), ("one", "to one by one")):
            if best[kind]:
                row("ratio", f"{patches} patches", words, rates[patches] / best[kind])


def build(folder, checkpoint):
    data, config = folder / "train.txt", folder / "bench.yaml"
    program = BUILD / "rotoscope"
    subprocess.run([program, "init-data", "--rows", str(ROWS), "-o", data, "-q"], check=True)
    config.write_text(f"""name: bench
root: '{folder / "out"}'
splits: {{train: {{files: ['{data}'], format: gsm8k-aug}}}}
tokenizer: {{path: '{TOP / "configs/tokenizer-small"}'}}
render: {{preset: rot-paper}}
encode: {{checkpoint: '{checkpoint}', geometry: released, backend: cuda}}
""")
    start = time.perf_counter()
    done = subprocess.run([program, "build", "-c", config, "--profile"], check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    print(done.stderr, file=sys.stderr)
    n_bytes = sum(f.stat().st_size for f in (folder / "out").rglob("*.mdb"))
    row("build", ROWS, "seconds", seconds, "images/s", ROWS / seconds, "GB/s", n_bytes / seconds / 1e9,
        f"minutes for {TARGET_ROWS}", TARGET_ROWS / ROWS * seconds / 60)
    tower = float(re.search(r"the tower +([0-9.]+) s", done.stderr).group(1))
    row("build", "tower's share of the whole", tower / seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=pathlib.Path)
    parser.add_argument("--no-peers", action="store_true", help="not beside transformers")
    parser.add_argument("--no-build", action="store_true", help="not the 50,000 traces")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("encode_cuda.py: torch sees no GPU")
    row("device", torch.cuda.get_device_name(), "torch", torch.__version__)
    given = args.folder
    folder = given or pathlib.Path(tempfile.mkdtemp(dir="/dev/shm"))
    checkpoint = folder / "checkpoint-4b"
    try:
        if not checkpoint.exists():
            subprocess.run([BUILD / "rotoscope", "init-model", checkpoint, "--arch", "4b", "-q"], check=True)
        rates = ours(checkpoint)
        if not args.no_build:
            build(folder, checkpoint)
        if not args.no_peers:
            peer(checkpoint, rates)
    finally:
        if not given:
            shutil.rmtree(folder)


main()
