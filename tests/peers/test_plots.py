"""Figures of the package: their numbers against numpy and scikit-learn, and that every file is drawn."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")
from peer_package import LIBRARY, TOP  # noqa: E402
from PIL import Image  # noqa: E402
from rotoscope import plots  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402


@pytest.fixture
def latents(tmp_path):
    rng = np.random.default_rng(3)
    sets = {"0.latents": rng.normal(size=(7, 640)).astype(np.float32) + np.arange(7, dtype=np.float32)[:, None],
            "0.targets": rng.normal(size=(9, 640)).astype(np.float32), "1.latents": rng.normal(size=(2, 640)).astype(np.float32)}
    path = tmp_path / "l.safetensors"
    save_file(sets, path)
    return path, sets


def run(*args):
    env = dict(os.environ, PYTHONPATH=str(TOP / "python"), ROTOSCOPE_LIBRARY=str(LIBRARY))
    return subprocess.run([sys.executable, "-m", "rotoscope", *map(str, args)], env=env, capture_output=True, text=True)


def test_latents_are_read_as_safetensors_writes_them(latents):
    path, sets = latents
    got = plots.read_latents(path)
    assert set(got) == {0, 1} and set(got[1]) == {"latents"}
    for name, rows in sets.items():
        q, part = name.split(".")
        assert np.array_equal(got[int(q)][part], rows)


def test_the_numbers_of_the_figures(latents):
    rows = latents[1]["0.latents"]
    z = plots.z_scores(rows)
    assert z.shape == (7, 640) and abs(z.mean()) < 1e-5 and abs(z.std() - 1) < 1e-4
    assert plots.z_scores(np.ones((2, 2560), np.float32)).shape == (2, 512)  # every fifth
    want = np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in rows] for a in rows])
    assert np.allclose(plots.similarities(rows, rows), want, atol=1e-5)
    stats = plots.statistics(rows)
    assert np.allclose(stats["std"], [np.sqrt(((r - r.mean()) ** 2).mean()) for r in rows], rtol=1e-5)
    points, share = plots.principal(rows)
    centred = rows.astype(np.float64) - rows.mean(0, dtype=np.float64)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    assert np.allclose(np.abs(points), np.abs(u[:, :2] * s[:2]), atol=1e-6)
    assert np.allclose(share, 100 * s[:2] ** 2 / (s ** 2).sum())


def test_every_figure_of_latents_is_drawn(latents, tmp_path):
    done = run("latents", latents[0], "-o", tmp_path / "figures")
    assert done.returncode == 0, done.stderr
    names = {p.name for p in (tmp_path / "figures").iterdir()}
    assert names == {f"0_embedding_{k}.png" for k in ("heatmap", "similarity", "stats", "pca", "tsne")} | {
        f"1_embedding_{k}.png" for k in ("heatmap", "similarity", "stats", "pca")}
    for path in (tmp_path / "figures").iterdir():
        assert len(np.unique(np.asarray(Image.open(path).convert("L")))) > 20
    assert run("latents", latents[0], "-o", tmp_path / "x", "--question", 5).returncode == 2


def test_curves(tmp_path):
    logs = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for scale, path in enumerate(logs, 1):
        path.write_text("".join(json.dumps({"step": s, "loss": scale / s, "vision_loss": 0.5, "lr": 1e-4, "note": "x"}) + "\n"
                                for s in range(1, 30)) + '{"step": 30, "lo')
    log = plots.read_log(logs[0])
    assert set(log) == {"loss", "vision_loss", "lr"} and log["loss"][0][-1] == 29
    assert run("curves", *logs, "-o", tmp_path / "c.png").returncode == 0
    assert Image.open(tmp_path / "c.png").size[1] > 1500  # three panels
    assert run("curves", logs[0], "-o", tmp_path / "d.png", "--key", "lr").returncode == 0
    assert plots._short(["a/x/train.jsonl", "a/y/z/train.jsonl"]) == ["x", "y/z"]
    assert plots._short(["a/x/1.jsonl", "a/y/2.jsonl"]) == ["x/1.jsonl", "y/2.jsonl"]
    assert plots._short(["a/x/1.jsonl"]) == ["1.jsonl"]
    for args, said in [((logs[0], "--key", "nothing"), "no log has 'nothing'"), ((tmp_path / "none",), "No such file")]:
        done = run("curves", *args, "-o", tmp_path / "no.png")
        assert done.returncode == 2 and said in done.stderr
    (tmp_path / "bad").write_text("{}\n")
    assert ":1: not a JSON object with a step" in run("curves", tmp_path / "bad", "-o", tmp_path / "no.png").stderr


def test_the_search_tree(tmp_path):
    path = tmp_path / "t.tsv"
    header = "question\tid\tlatents\tnode\tname\tdepth\theight\tprobability\tshare\n"
    cells = [(0, 0, 1, 1, 1, .2, .5), (0, 0, 2, 1, -1, .1, .25), (0, 0, 3, 2, 0, .1, .25),
             (0, 1, 1, 1, 1, 0, .1), (0, 1, 2, 1, -1, 0, .2), (0, 1, 3, 2, 0, 0, .7)]
    path.write_text(header + "".join(f'{q}\t"id"\t{k}\t{n}\t"n{n}"\t{d}\t{h}\t{p}\t{s}\n' for q, k, n, d, h, p, s in cells))
    sums = plots.frontier(plots.read_tree(path))
    assert sums == {(0, "on the way"): .5, (0, "off the way"): .25, (0, "elsewhere"): .25,
                    (1, "on the way"): .1, (1, "off the way"): .2, (1, "elsewhere"): .7}
    assert run("tree", path, "-o", tmp_path / "a.png").returncode == 0
    assert run("tree", path, "-o", tmp_path / "b.svg", "--question", 0).returncode == 0
    assert "n2" in (tmp_path / "b.svg").read_text() or (tmp_path / "b.svg").stat().st_size > 5000
    assert run("tree", path, "-o", tmp_path / "c.png", "--question", 7).returncode == 2
