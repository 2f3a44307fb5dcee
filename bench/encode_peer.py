"""transformers' rate on a 4B tower in bf16: the peer of bench/encode. One TSV row per case.

encode_peer.py CHECKPOINT [THREADS]; the checkpoint as `rotoscope init-model DIR --arch 4b` writes it."""
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "peers"))
import peer_torch  # noqa: E402,F401
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig  # noqa: E402
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel  # noqa: E402

checkpoint = pathlib.Path(sys.argv[1])
threads = [int(sys.argv[2])] if len(sys.argv) > 2 else sorted({1, torch.get_num_threads()})
config = Qwen3VLVisionConfig(**json.loads((checkpoint / "config.json").read_text())["vision_config"])
config._attn_implementation = "sdpa"
model = Qwen3VLVisionModel(config).to(torch.bfloat16).eval()
weights = {}
for file in sorted(checkpoint.glob("*.safetensors")):
    weights.update((k.split("visual.", 1)[1], v) for k, v in load_file(file).items() if "visual." in k)
model.load_state_dict(weights)
print("case\tthreads\tpatches\timages_per_call\timages_per_s_best\timages_per_s_median")
for n_threads in threads:
    torch.set_num_threads(n_threads)
    for patches, images in ((300, 16), (300, 1), (80, 32)):
        pixels = torch.rand(images * patches, 1536).to(torch.bfloat16) * 2 - 1
        grid = torch.tensor([[1, 2, patches // 2]] * images)
        rates = []
        with torch.no_grad():
            model(pixels, grid)
            for _ in range(3):
                start = time.perf_counter()
                model(pixels, grid)
                rates.append(images / (time.perf_counter() - start))
        print(f"transformers bf16 sdpa\t{n_threads}\t{patches}\t{images}\t{max(rates):.2f}\t"
              f"{statistics.median(rates):.2f}", flush=True)
