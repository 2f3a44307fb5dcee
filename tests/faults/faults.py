"""Faults on a whole store: kills, failing calls, damage, power failures. Standard library alone.

usage: faults.py kill|io|late|damage|power|reader    in an empty folder, with ROTOSCOPE, TOP, SHIM set

Each case ends with the same question: is the finished store, byte for byte of its shards and
stage.json, the one that an undisturbed build makes? ROT_FAULTS=full runs many more cases.
"""
import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

ROTOSCOPE = os.environ["ROTOSCOPE"]
TOP = os.environ["TOP"]
SHIM = os.environ.get("SHIM", "")
FULL = os.environ.get("ROT_FAULTS") == "full"
TINY = os.environ.get("TINY", "")
ROWS = 96
rnd = random.Random(int(os.environ.get("ROT_SEED", "5")))


def write_config(name, embeds):
    with open("rows.jsonl", "w") as f:
        for i in range(ROWS):
            row = {"id": f"r{i}", "question": f"What is {i} + 1?", "cot": f"{i} + 1 = {i + 1}. " * (1 + i % 5),
                   "answer": str(i + 1)}
            f.write(json.dumps(row) + "\n")
    with open(f"{name}.yaml", "w") as f:
        f.write(f"name: {name}\nroot: out\nsplits: {{train: {{files: [rows.jsonl], format: jsonl}}}}\n"
                f"tokenizer: {{path: '{TOP}/configs/tokenizer-small'}}\nrender: {{preset: rot-paper}}\n"
                "store: {shard_samples: 32, commit_samples: 4}\n")
        if embeds:
            f.write(f"encode: {{checkpoint: '{TINY}'}}\n")


def run(*args, env=None, timeout=300):
    """No run may end by a signal."""
    p = subprocess.run([ROTOSCOPE, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       env={**os.environ, **(env or {})}, timeout=timeout)
    if p.returncode < 0 or p.returncode > 128:
        sys.exit(f"{args}: ended by signal ({p.returncode}): {p.stderr}")
    return p


def expect(code, p):
    if p.returncode != code:
        sys.exit(f"exit {p.returncode} instead of {code}: {p.args}\n{p.stdout}{p.stderr}")
    return p


def files_of(root):
    """Relative path -> bytes of what a reader reads: shards, stage.json, datasets, configs."""
    out = {}
    for folder, _, names in os.walk(root):
        if "/.rotoscope" in folder:
            continue
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith((".mdb", ".json", ".yaml")):
                with open(path, "rb") as f:
                    out[os.path.relpath(path, root)] = f.read()
    return out


def undisturbed(name="d", embeds=False):
    write_config(name, embeds)
    shutil.rmtree("out", ignore_errors=True)
    start = time.monotonic()
    expect(0, run("build", "-q", "-c", f"{name}.yaml"))
    seconds = time.monotonic() - start
    expect(0, run("verify", "out"))
    return files_of("out"), seconds


def check_whole(wanted, what):
    """Nothing that reads as complete may differ from the undisturbed store."""
    for path, data in files_of("out").items():
        if path.endswith("plan.json"):
            continue
        if path not in wanted or data != wanted[path]:
            sys.exit(f"{what}: {path} is there and not what it should be")


def check_finished(wanted, what):
    expect(0, run("build", "-q", "-c", "d.yaml"))
    have = files_of("out")
    for path in wanted:
        if have.get(path) != wanted[path]:
            sys.exit(f"{what}: {path} differs from the undisturbed one")
    expect(0, run("verify", "out"))


def kill():
    """kill -9 at random moments of builds, then of repairs."""
    wanted, seconds = undisturbed(embeds=bool(TINY))
    kills = left = 0
    shutil.rmtree("out")
    cases = 200 if FULL else 12
    while kills < cases:
        p = subprocess.Popen([ROTOSCOPE, "build", "-q", "-c", "d.yaml"], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        time.sleep(rnd.random() * seconds)
        p.kill()
        killed = p.wait() == -signal.SIGKILL
        kills += killed
        before = {path for path in files_of("out")} if os.path.isdir("out") else set()
        check_whole(wanted, f"after kill {kills}")
        if os.path.isdir("out"):
            expect(0, run("verify", "out"))
        if killed and rnd.random() < 0.5:
            continue  # kill the one that goes on, too
        left += 1
        check_finished(wanted, f"after kill {kills}")
        if not before <= {path for path in files_of("out")}:
            sys.exit("a published file is gone")
        shutil.rmtree("out")
    print(f"kill -9 of a build: {kills} kills, {left} stores finished, all equal to the undisturbed one")
    expect(0, run("build", "-q", "-c", "d.yaml"))
    kills = 0
    while kills < cases // 4:
        shutil.copytree("out", "bad", symlinks=True)
        os.rename("out", "good")
        os.rename("bad", "out")
        for path in [p for p in wanted if p.endswith(".mdb")]:
            damage(os.path.join("out", path), "flip")
        p = subprocess.Popen([ROTOSCOPE, "repair", "-q", "out/d.json"], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        time.sleep(rnd.random() * seconds)
        p.kill()
        kills += p.wait() == -signal.SIGKILL
        expect(0, run("repair", "-q", "out/d.json"))
        check_finished(wanted, "after a killed repair")
        shutil.rmtree("out")
        os.rename("good", "out")
    print(f"kill -9 of a repair: {kills} kills, mended by the next one")


def damage(path, kind):
    n = os.path.getsize(path)
    if kind == "gone":
        os.remove(path)
    elif kind == "cut":
        os.truncate(path, rnd.randrange(n))
    else:
        data = bytearray(open(path, "rb").read())
        for _ in range(1 if kind == "flip" else 20):
            data[rnd.randrange(n)] ^= 1 << rnd.randrange(8)
        with open(path, "wb") as f:
            f.write(data)


def damage_all():
    """A byte anywhere, a cut, a missing file: verify names it, reading never crashes, repair mends it."""
    wanted, _ = undisturbed(embeds=bool(TINY))
    shutil.copytree("out", "good", symlinks=True)
    counts = {}
    for case in range(400 if FULL else 16):
        kind = rnd.choice(["flip", "flip", "flips", "cut", "gone"])
        path = rnd.choice(sorted(wanted))
        shutil.rmtree("out")
        shutil.copytree("good", "out", symlinks=True)
        damage("out/" + path, kind)
        changed = not os.path.exists("out/" + path) or open("out/" + path, "rb").read() != wanted[path]
        optional = kind == "gone" and path.endswith(("plan.json", ".yaml"))
        if not changed or (kind == "gone" and path == "d.json"):
            continue
        named = path if not path.endswith("plan.json") else os.path.dirname(path)
        verify = expect(0 if optional else 3, run("verify", "out/d.json"))
        if not optional and named not in verify.stdout and os.path.dirname(path) not in verify.stdout:
            sys.exit(f"{kind} of {path}: verify does not name it: {verify.stdout}")
        for row in rnd.sample(range(ROWS), 4):
            if run("inspect", "out/d.json", str(row)).returncode not in (0, 1, 2, 3):
                sys.exit(f"{kind} of {path}: inspect of row {row}")
        report = json.loads(expect(0, run("repair", "--json", "out/d.json")).stdout)
        made = sum(s["made"] for split in report["splits"].values() for s in split.values())
        if kind == "flip" and path.endswith(".mdb") and not made <= 32:
            sys.exit(f"one flipped byte of {path}, and {made} records were made again")
        check_finished({p: d for p, d in wanted.items() if p != path or not path.endswith("plan.json")},
                       f"{kind} of {path}, repaired")
        again = expect(0, run("repair", "out/d.json"))
        if "nothing to repair" not in again.stdout:
            sys.exit(f"{kind} of {path}: a second repair finds more: {again.stdout}")
        counts[kind] = counts.get(kind, 0) + 1
    print("damaged, named by verify, mended:", ", ".join(f"{n} {k}" for k, n in sorted(counts.items())))
    # What cannot be mended says why, and what is not there any more is no reason to lose the rest.
    damage("out/" + next(p for p in sorted(wanted) if "tokens-" in p and p.endswith(".mdb")), "gone")
    with open("rows.jsonl", "a") as f:
        f.write('{"id": "new", "question": "q", "cot": "c", "answer": "a"}\n')
    p = expect(1, run("repair", "out/d.json"))
    if "rows" not in p.stderr:
        sys.exit(f"another input: {p.stderr}")
    expect(2, run("repair", "out/none.json"))
    expect(2, run("repair", "out"))


CALLS = [("write", errno.EIO), ("write", errno.ENOSPC), ("pwritev", errno.EIO), ("pwritev", errno.ENOSPC),
         ("fsync", errno.EIO), ("ftruncate", errno.EIO), ("rename", errno.EIO), ("link", errno.EIO),
         ("open", errno.EACCES), ("fsync", errno.ENOSPC)]


def fail_calls():
    """The n-th write, sync, link, rename fails: an error, nothing torn, and the next run ends well."""
    wanted, _ = undisturbed()
    failed = 0
    cases = [(c, n) for c in CALLS for n in range(1, 13)] if FULL else [(c, rnd.randrange(1, 7)) for c in CALLS]
    for (call, number), n in cases:
        env = {"LD_PRELOAD": SHIM, "FAULTS_ROOT": os.path.realpath(".") + "/out",
               "FAULTS_FAIL": f"{call}:{number}:{n}"}
        shutil.rmtree("out", ignore_errors=True)
        p = run("build", "-q", "-c", "d.yaml", env=env)
        if p.returncode not in (0, 1):
            sys.exit(f"{call} fails: exit {p.returncode}: {p.stderr}")
        failed += p.returncode
        if p.returncode and not p.stderr:
            sys.exit(f"{call} fails, and no word of it")
        check_whole(wanted, f"{call} number {n} failed")
        check_finished(wanted, f"{call} number {n} failed")
        for path in [p for p in wanted if p.endswith("1.mdb")]:
            damage("out/" + path, "cut")
        if run("repair", "-q", "out/d.json", env=env).returncode not in (0, 1):
            sys.exit(f"{call} fails in a repair: {p.stderr}")
        expect(0, run("repair", "-q", "out/d.json"))
        check_finished(wanted, f"{call} number {n} failed in a repair")
    if failed < len(cases) // 2:
        sys.exit(f"only {failed} of {len(cases)} builds failed: is the shim loaded?")
    print(f"failing calls: {len(cases)} builds and repairs ({failed} builds said so), all ended well")


def fail_commits():
    """A disk that is full as late as at fsync or close: that shard is not published, its .tmp is thrown away."""
    wanted, _ = undisturbed()
    here = os.path.realpath(".")
    ways = {"alone": ([], {}), "rank": ([], {"RANK": "0", "WORLD_SIZE": "1"}),
            "scratch": (["--scratch", "near"], {"RANK": "0", "WORLD_SIZE": "1"})}
    calls = [(call, number) for call in ("pwritev", "fsync", "close")
             for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO)]
    cases = [(way, call, number, n) for way in ways for call, number in calls for n in (1, 4, 8)]
    if not FULL:
        cases = [c for i, c in enumerate(cases) if i % 8 == 0] + [("scratch", "fsync", errno.ENOSPC, 2),
                                                                  ("scratch", "close", errno.EDQUOT, 2)]
    failed = 0
    for way, call, number, n in cases:
        what = f"{way}: {call} number {n} gives {errno.errorcode[number]}"
        flags, env = ways[way]
        shutil.rmtree("out", ignore_errors=True)
        env = {**env, "LD_PRELOAD": SHIM, "FAULTS_ROOT": here, "FAULTS_ONLY": "shard-",
               "FAULTS_FAIL": f"{call}:{number}:{n}"}
        p = run("build", "-q", "-c", "d.yaml", *flags, env=env)
        check_whole(wanted, what)
        if p.returncode:
            failed += 1
            expect(1, p)
            words = {errno.EIO: "nput/output", errno.ENOSPC: "pace", errno.EDQUOT: "uota"}[number]
            path = next((w for w in re.findall(r"[^ :']*shard-[0-9]+[^ :']*", p.stderr)), "")
            if words not in p.stderr or not path:
                sys.exit(f"{what}: it says {p.stderr}")
            shard = re.sub(r"\.mdb.*", ".mdb", os.path.basename(path))
            stage, name = (shard.split(".", 1) if not shard.startswith("shard-")
                           else (os.path.basename(os.path.dirname(path)), shard))
            left = [f for folder in (f"out/stages/{stage}", "near") if os.path.isdir(folder)
                    for f in os.listdir(folder) if name in f and (stage in f or folder != "near")]
            if left:
                sys.exit(f"{what}: {left} is left of {path}")
        check_finished(wanted, what)
        left = [f for folder, _, names in os.walk(".") for f in names if ".tmp" in f]
        if left:
            sys.exit(f"{what}: the next build leaves {left}")
    if failed < len(cases) * 2 // 3:
        sys.exit(f"only {failed} of {len(cases)} builds failed: is the shim loaded?")
    print(f"late errors: {failed} of {len(cases)} builds failed, none published, all finished by the next")


# ---- power failure: a model of a disk, fed with the log of what the program did ---------------------


class File:
    def __init__(self):
        self.durable = bytearray()
        self.pending = []  # ("W", offset, data) or ("T", size), since the last sync


def put(image, op):
    if op[0] == "T":
        del image[op[1]:]
        image.extend(bytes(op[1] - len(image)))
    else:
        end = op[1] + len(op[2])
        if len(image) < end:
            image.extend(bytes(end - len(image)))
        image[op[1]:end] = op[2]


def read_log(path):
    data, at, ops = open(path, "rb").read(), 0, []
    while at < len(data):
        end = data.index(b"\n", at)
        op, file, offset, n, a, b = data[at:end].decode().split("\t")
        at = end + 1 + int(n)
        ops.append((op, int(file), int(offset), data[end + 1:at], a, b))
    return ops


def change_names(names, op):
    kind, obj, a, b = op
    if kind in "CM":
        names[a] = obj
    elif kind == "U":
        names.pop(a, None)
    else:
        if a in names:
            names[b] = names[a]
        if kind == "R":
            names.pop(a, None)


def crash(ops, mode):
    """The tree that a power failure leaves: path -> bytes or None (a folder); and the acknowledged paths."""
    cut = rnd.randrange(1, len(ops) + 1)
    files, live, names, pending_names, acked = {}, {}, {}, [], set()
    linked = {}
    for op, file, offset, data, a, b in ops[:cut]:
        if op == "C":
            live[a] = files[file] = File()
            pending_names.append(("C", live[a], a, ""))
        elif op in "WT":
            files[file].pending.append((op, offset, data) if op == "W" else (op, offset))
        elif op == "S":
            for p in files[file].pending:
                put(files[file].durable, p)
            files[file].pending = []
        elif op == "D":  # a folder is synced: the names in it last
            rest = []
            for p in pending_names:
                where = os.path.dirname(p[3] or p[2]) or "."
                if where == a:
                    change_names(names, p)
                else:
                    rest.append(p)
            pending_names = rest
        else:
            if op in "LR":
                live[b] = live.get(a)
            if op == "L":
                linked[a] = b
            if op == "U" and a in linked:
                acked.add(linked[a])  # the program has let go of the .tmp: the shard is safe
            pending_names.append((op, None, a, b))
    # Names that were not synced: the first of them made it, in each folder as many as chance has.
    folders = {}
    for p in pending_names:
        folders.setdefault(os.path.dirname(p[3] or p[2]), []).append(p)
    for pending in folders.values():
        for p in pending[:rnd.randrange(len(pending) + 1)]:
            change_names(names, p)
    tree = {}
    images = {}
    for path, obj in names.items():
        if obj is None:
            tree[path] = None
            continue
        if id(obj) not in images:
            images[id(obj)] = survive(obj, mode)
        tree[path] = images[id(obj)]
    return tree, acked


def survive(file, mode):
    image = bytearray(file.durable)
    if mode == "order":
        kept = file.pending[:rnd.randrange(len(file.pending) + 1)]
    else:
        unit, q, kept = 4096 if mode == "pages" else 512, rnd.choice([0.1, 0.5, 0.9]), []
        for op in file.pending:
            if op[0] == "T":
                kept.append(op)
            else:
                kept += [("W", op[1] + i, op[2][i:i + unit]) for i in range(0, len(op[2]), unit)
                         if rnd.random() < q]
    for op in kept:
        put(image, op)
    return bytes(image)


def lay_out(tree):
    shutil.rmtree("out", ignore_errors=True)
    if "." not in tree:
        return
    os.mkdir("out")
    for path, data in sorted(tree.items()):
        full = os.path.join("out", path)
        if data is None:
            if path != "." and os.path.isdir(os.path.dirname(full)):
                os.mkdir(full)
    for path, data in tree.items():
        full = os.path.join("out", path)
        if data is not None and os.path.isdir(os.path.dirname(full)):
            with open(full, "wb") as f:
                f.write(data)


def power():
    """Power failures replayed: what was published is there and whole, and the next build ends well."""
    wanted, _ = undisturbed()
    shutil.rmtree("out")
    env = {"LD_PRELOAD": SHIM, "FAULTS_ROOT": os.path.realpath(".") + "/out", "FAULTS_LOG": "log"}
    expect(0, run("build", "-q", "-c", "d.yaml", env=env))
    ops = read_log("log")
    # The folder itself was made durable before anything in it.
    if not any(op[0] == "S" for op in ops) or not any(op[0] == "D" for op in ops):
        sys.exit("the log has no syncs: is the shim loaded?")
    states = {"order": 0, "pages": 0, "sectors": 0}
    for i in range(500 if FULL else 45):
        mode = list(states)[i % 3]
        tree, acked = crash(ops, mode)
        tree["."] = None
        lay_out(tree)
        what = f"power failure {i} ({mode})"
        have = files_of("out")
        for path in acked:
            if have.get(path) != wanted[path]:
                sys.exit(f"{what}: {path} was published and is lost")
        check_whole(wanted, what)
        expect(0, run("verify", "out"))
        check_finished(wanted, what)
        states[mode] += 1
    print("power failures replayed:", ", ".join(f"{n} {m}" for m, n in states.items()),
          f"from {len(ops)} calls: nothing published lost, nothing torn, same store in the end")
    # The model must be able to find a fault: without the syncs, something is lost or torn.
    unsynced = [op for op in ops if op[0] != "S"]
    for _ in range(60):
        tree, _ = crash(unsynced, "pages")
        tree["."] = None
        lay_out(tree)
        if any(d != wanted.get(p) for p, d in files_of("out").items() if not p.endswith("plan.json")):
            break
    else:
        sys.exit("a program that never syncs passes too: the model finds nothing")


def reader():
    """Datasets that are there stay readable and whole while other builds and repairs go on."""
    wanted, _ = undisturbed()
    for size in (18, 22, 26):
        other = open("d.yaml").read().replace("name: d", f"name: e{size}")
        other = other.replace("{preset: rot-paper}", f"{{preset: rot-paper, size_px: {size}}}")
        with open(f"e{size}.yaml", "w") as f:
            f.write(other)
        p = subprocess.Popen([ROTOSCOPE, "build", "-q", "-c", f"e{size}.yaml"])
        reads = 0
        while p.poll() is None or reads == 0:
            expect(0, run("verify", "out/d.json"))
            expect(0, run("inspect", "out/d.json", str(rnd.randrange(ROWS))))
            reads += 1
        if p.returncode:
            sys.exit(f"the build beside the reader: exit {p.returncode}")
    have = files_of("out")
    if any(have[p] != wanted[p] for p in wanted):
        sys.exit("another build has changed the dataset")
    print("a reader beside builds: every read was right")


if __name__ == "__main__":
    {"kill": kill, "io": fail_calls, "late": fail_commits, "damage": damage_all, "power": power, "reader": reader}[sys.argv[1]]()
