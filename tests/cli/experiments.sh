#!/bin/sh
# tools/experiments at its smallest: a row and what it starts from, the table; given again it trains nothing.
[ "${SAN:-}" = "" ] || { echo "the verbs have tests of their own"; exit 77; }
. "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || { echo "no python3"; exit 77; }
export OMP_NUM_THREADS=1
run() { BUILD="$BUILD" VENV=none "$TOP/tools/experiments" --minutes 0.01 --out here "$@"; }

expect 0 "coconut-classifier" run --only coconut-classifier
for row in cot coconut-own-count coconut-classifier; do
    grep -q "^| $row | [0-9.]* | [0-9.]* to [0-9.]* |" here/results.md || fail "no row $row: $(cat here/results.md)"
done
[ "$(grep -c '^| ' here/results.md)" = 4 ] || fail "other rows too: $(cat here/results.md)"
python3 - <<'END' || fail "results.json"
import json
rows = json.load(open("here/results.json"))
assert all(r["questions"] == 24 and r["failures"] == 0 and 0 <= r["right"] <= 24 for r in rows)
low, high = rows[0]["interval95"]
assert 0 <= low <= rows[0]["accuracy"] <= high <= 1
length = {r["name"]: r["length"] for r in rows}
assert length["coconut-own-count"] == 3 and 1 <= length["coconut-classifier"] <= 3, length
for row, trace in zip(*(map(json.loads, open(f"here/data/{f}-train.jsonl")) for f in ("rot", "shuffled"))):
    assert row["question"] == trace["question"] and len(row["cot"]) == len(trace["cot"])
graphs = json.load(open("here/data/graphs-train.json"))
for g in graphs:  # what can be reached from the root is as before
    reached = {g["root"]}
    for _ in g["edges"]:
        reached |= {b for a, b in g["edges"] if a in reached}
    assert g["target"] in reached and g["neg_target"] not in reached and len(g["edges"]) <= 12
END
stamp=$(stat -c %Y here/runs/cot/result.json)
expect 0 "" run --only coconut-classifier
grep -q training err.txt && fail "a finished row is trained again"
[ "$stamp" = "$(stat -c %Y here/runs/cot/result.json)" ] || fail "a finished row is answered again"
expect 2 "name another --out" run --minutes 1
expect 2 "no row matches" run --only nothing
finish
