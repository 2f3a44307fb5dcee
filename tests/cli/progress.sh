#!/bin/sh
# What a build says while it runs: plain lines, JSON lines, one line on a terminal, the shares of --profile.
[ "${SAN:-}" != tsan ] || { echo "one process, or too slow: nothing for TSan to see"; exit 77; }
. "$(dirname "$0")/lib.sh"
. "$TOP/tests/cli/build_lib.sh"
rows 40 >rows.jsonl
config p rows.jsonl "$encode"
python3 - "$ROTOSCOPE" <<'END' || fail "the words of a build"
import json, os, pty, re, shutil, subprocess, sys
def build(*options, **where):
    shutil.rmtree("out-p", ignore_errors=True)
    return subprocess.run([sys.argv[1], "build", "-c", "p.yaml", *options], check=True, text=True, stdout=subprocess.PIPE,
                          **{"stderr": subprocess.PIPE, **where})
END = r"train embeds: 100%\|█+\| 40/40 \[\d\d:\d\d<00:00, (\d+\.\d) images/s, (\d+) merged tokens/s, (\d+\.\d+) TFLOP/s\]"
plain = build().stderr
last = re.findall(END, plain)
assert last and float(last[-1][0]) > 0 and int(last[-1][1]) > 0, plain
for stage in ("tokens", "images"):
    assert re.search(rf"train {stage}: 100%\|█+\| 40/40 \[.*<00:00, \d+\.\d rows/s\]", plain), plain
assert "\r" not in plain and "\033" not in plain
# JSON lines: the same in numbers; K as the store has it.
lines = [json.loads(line) for line in build("--json").stderr.splitlines()]
end = [line for line in lines if line.get("stage") == "embeds"][-1]
k = sum(json.loads(subprocess.run([sys.argv[1], "inspect", "out-p/p.json", str(i), "--json"], check=True,
                                  capture_output=True).stdout)["embeds"]["k"] for i in range(40))
assert (end["done"], end["total"], end["images"], end["merged_tokens"], end["eta_seconds"]) == (40, 40, 40, k, 0), end
assert end["tflops"] > 0 and abs(end["merged_tokens_per_second"] / end["images_per_second"] - k / 40) < 1e-3 * k, end
assert build("-q").stderr == ""
# One line on a terminal, drawn over itself.
ours, theirs = pty.openpty()
build(stderr=theirs, env={**os.environ, "TERM": "xterm"})
os.close(theirs)
text = os.read(ours, 1 << 20).decode()
assert "\r" in text and "\033[K" in text and re.search(END, text), text
# --profile: the tower's share of the stage.
stages = json.loads(build("--profile", "--json").stderr.splitlines()[-1])["profile"]["stages"]
embeds = next(stage for stage in stages if "tower_seconds" in stage)
assert 0 < embeds["tower_seconds"] <= embeds["seconds"], embeds
text = build("--profile").stderr
assert re.search(r"the tower +[0-9.]+ s", text), text
END
finish
