"""The rate of Hugging Face tokenizers on one core, one record at a time, and the ratio to ours.

    bench/tokenize_peer.py build/bench/tokenize TOKENIZER_DIR FILE.jsonl KEY
"""
import json
import os
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer, __version__  # noqa: E402

program, folder, path, key = sys.argv[1:]
with open(path, encoding="utf-8") as file:
    records = [json.loads(line)[key] for line in file]
with tempfile.NamedTemporaryFile() as file:
    file.write("\0".join(records).encode())
    file.flush()
    ours = subprocess.run([program, folder, file.name], capture_output=True, text=True, check=True).stdout
tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
records = records[:2000]
n_bytes, best = sum(len(r.encode()) for r in records), 0.0
for _ in range(3):
    start = time.perf_counter()
    for record in records:
        tokenizer.encode(record, add_special_tokens=False)
    best = max(best, n_bytes / 1e6 / (time.perf_counter() - start))
print(ours, end="")
print(f"tokenizers {__version__}\t{best:.2f}\t\t\t")
for row in ours.splitlines()[1:]:
    case, rate, *_ = row.split("\t")
    print(f"ratio, {case}\t{float(rate) / best:.1f}\t\t\t")
