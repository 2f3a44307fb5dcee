"""Pictures of what training and generation leave: latents beside their teacher's, the search tree, training curves.

    python -m rotoscope latents latents.safetensors -o figures     # of rotoscope generate --latents-out
    python -m rotoscope tree tree.tsv -o tree.png                  # of rotoscope generate --tree-out
    python -m rotoscope curves run/train.jsonl other/train.jsonl -o curves.png

Needs matplotlib, and scikit-learn for latents (pip install 'rotoscope[plots]'). The numbers of every figure are made
by functions of their own that need numpy and scikit-learn alone.
"""
import csv
import json
import os
import pathlib
import struct

import numpy as np

MAX_COLUMNS = 500  # a wider heatmap keeps every n-th dimension


def read_latents(path):
    """{question: {"latents": (n, d), "targets": (K, d)}} of a safetensors file of rotoscope generate."""
    data = pathlib.Path(path).read_bytes()
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8:8 + length])
    except (struct.error, ValueError) as e:
        raise ValueError(f"{path}: not a safetensors file ({e})") from None
    out = {}
    for name, tensor in header.items():
        question, _, part = name.rpartition(".")
        if name == "__metadata__" or part not in ("latents", "targets") or not question.isdigit():
            continue
        begin, end = tensor["data_offsets"]
        if tensor["dtype"] != "F32" or 8 + length + end > len(data):
            raise ValueError(f"{path}: {name} is cut short or not of float32")
        rows = np.frombuffer(data, "<f4", (end - begin) // 4, 8 + length + begin).reshape(tensor["shape"])
        out.setdefault(int(question), {})[part] = rows
    if not out:
        raise ValueError(f"{path}: no latents in it")
    return out


def z_scores(rows):
    """The matrix less its mean, by its spread, over all elements; of wide rows every n-th column."""
    z = (rows - rows.mean()) / (rows.std() + 1e-8)
    return z[:, ::rows.shape[1] // MAX_COLUMNS] if rows.shape[1] > MAX_COLUMNS else z


def similarities(a, b):
    """Cosines between the rows of a and those of b."""
    unit = [x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (a, b)]
    return unit[0] @ unit[1].T


def statistics(rows):
    """L2 norm, mean and (population) spread of every row."""
    return {"L2 norm": np.linalg.norm(rows, axis=1), "mean": rows.mean(axis=1), "std": rows.std(axis=1)}


def principal(rows):
    """The rows in their two principal components, and the share of variance of each in percent."""
    from sklearn.decomposition import PCA
    pca = PCA(n_components=2, svd_solver="full")
    return pca.fit_transform(rows.astype(np.float64)), 100 * pca.explained_variance_ratio_


def tsne(rows):
    """The rows in two dimensions by t-SNE, as the published code sets it."""
    from sklearn.manifold import TSNE
    return TSNE(n_components=2, perplexity=min(30, len(rows) - 1), random_state=42).fit_transform(rows)


def _pyplot():
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    plt.rcParams.update({"font.size": 16, "savefig.dpi": 150})
    return plt


def _save(plt, figure, path):
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
    return str(path)


def _panels(plt, sets, size=(12, 8)):
    figure, axes = plt.subplots(1, len(sets), figsize=(size[0] * len(sets), size[1]), squeeze=False)
    return figure, zip(axes[0], sets.items())


def _heatmap(plt, sets, path):
    figure, panels = _panels(plt, sets)
    for axis, (name, rows) in panels:
        image = axis.imshow(z_scores(rows), aspect="auto", cmap="viridis", interpolation="nearest")
        axis.set(title=f"{name} (z-scores)", xlabel="dimension", ylabel="latent")
        figure.colorbar(image, ax=axis)
    return _save(plt, figure, path)


def _similarity(plt, sets, path):
    names = list(sets)
    pairs = {names[0]: (sets[names[0]], sets[names[0]])}
    if len(names) > 1:
        pairs.update({names[1]: (sets[names[1]],) * 2, " by ".join(names): (sets[names[0]], sets[names[1]])})
    figure, panels = _panels(plt, pairs, (10, 8))
    for axis, (name, (a, b)) in panels:
        image = axis.imshow(similarities(a, b), cmap="coolwarm", vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
        axis.set(title=f"cosine, {name}", xlabel="row", ylabel="row")
        figure.colorbar(image, ax=axis)
    return _save(plt, figure, path)


def _statistics(plt, sets, path):
    figure, axes = plt.subplots(3, 1, figsize=(12, 12), sharex=True)
    for name, rows in sets.items():
        for axis, (what, values) in zip(axes, statistics(rows).items()):
            axis.plot(values, marker=".", label=name)
            axis.set_ylabel(what)
    axes[-1].set_xlabel("latent")
    axes[0].legend()
    return _save(plt, figure, path)


def _trajectory(plt, sets, points, title, path, labels=("", "")):
    """Rows of all sets in one plane: a line from a green circle to a red square, coloured by position."""
    figure, axis = plt.subplots(figsize=(12, 10))
    at = 0
    for style, (name, rows) in zip(("-", "--"), sets.items()):
        p = points[at:at + len(rows)]
        at += len(rows)
        axis.plot(p[:, 0], p[:, 1], style, color="grey", alpha=0.6, label=name)
        dots = axis.scatter(p[:, 0], p[:, 1], c=np.arange(len(p)), cmap="viridis", s=40, zorder=3)
        axis.plot(*p[0], "o", color="green", markersize=14, zorder=4)
        axis.plot(*p[-1], "s", color="red", markersize=14, zorder=4)
    figure.colorbar(dots, ax=axis, label="position")
    axis.set(title=title, xlabel=labels[0], ylabel=labels[1])
    axis.legend()
    return _save(plt, figure, path)


def draw_latents(path, out, questions=None):
    """Writes the figures of every question (or those given) into the folder `out`; returns their paths."""
    plt, out, paths = _pyplot(), pathlib.Path(out), []
    all_sets = read_latents(path)
    missing = set(questions or ()) - set(all_sets)
    if missing:
        raise ValueError(f"{path}: no question {min(missing)}")
    out.mkdir(parents=True, exist_ok=True)
    for q in sorted(questions or all_sets):
        sets = {name: all_sets[q][part] for name, part in (("student", "latents"), ("teacher", "targets"))
                if len(all_sets[q].get(part, ()))}
        if not sets:
            continue
        joined = np.concatenate(list(sets.values()))
        paths.append(_heatmap(plt, sets, out / f"{q}_embedding_heatmap.png"))
        paths.append(_similarity(plt, sets, out / f"{q}_embedding_similarity.png"))
        paths.append(_statistics(plt, sets, out / f"{q}_embedding_stats.png"))
        if len(joined) > 1:
            points, share = principal(joined)
            labels = [f"component {i + 1} ({s:.1f}%)" for i, s in enumerate(share)]
            paths.append(_trajectory(plt, sets, points, "PCA", out / f"{q}_embedding_pca.png", labels))
        if len(joined) >= 5:
            paths.append(_trajectory(plt, sets, tsne(joined), "t-SNE", out / f"{q}_embedding_tsne.png"))
    return paths


def read_tree(path):
    """Rows of a tree file as dicts of numbers and names."""
    with open(path, newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or "share" not in rows[0]:
        raise ValueError(f"{path}: not a file of rotoscope generate --tree-out")
    numbers = {"question": int, "latents": int, "node": int, "depth": int, "height": int, "probability": float, "share": float}
    return [{k: numbers[k](v) if k in numbers else json.loads(v) for k, v in row.items()} for row in rows]


def frontier(rows):
    """{(latents, group): mean probability mass over questions}: of nodes by where they stand when the model would name
    the node that many steps from the root. Groups: "on the way" (the target can be reached), "off the way" (it cannot),
    "elsewhere" (any other depth, or out of reach)."""
    sums, questions = {}, {r["question"] for r in rows}
    for r in rows:
        step = max(r["latents"], 1)
        group = "elsewhere" if r["depth"] != step else "on the way" if r["height"] >= 0 else "off the way"
        sums[r["latents"], group] = sums.get((r["latents"], group), 0) + r["share"] / len(questions)
    return sums


def draw_tree(path, out, question=None):
    """The probability of nodes after each latent: of one question each node, else the mean of groups of nodes."""
    plt, rows = _pyplot(), read_tree(path)
    figure, axis = plt.subplots(figsize=(12, 8))
    if question is None:
        sums = frontier(rows)
        steps = sorted({k for k, _ in sums})
        for group in ("on the way", "off the way", "elsewhere"):
            axis.plot(steps, [sums.get((k, group), 0) for k in steps], marker="o", label=group)
        axis.set_ylabel("mean share of probability")
    else:
        rows = [r for r in rows if r["question"] == question]
        if not rows:
            raise ValueError(f"{path}: no question {question}")
        steps, names = sorted({r["latents"] for r in rows}), {r["node"]: r["name"] for r in rows}
        best = sorted(names, key=lambda n: -max(r["share"] for r in rows if r["node"] == n))[:10]
        for node in best:
            axis.plot(steps, [r["share"] for k in steps for r in rows if r["node"] == node and r["latents"] == k],
                      marker="o", label=names[node])
        axis.set_ylabel("share of probability")
    axis.set(xlabel="latents before the answer", ylim=(0, 1))
    axis.legend()
    return _save(plt, figure, out)


def read_log(path):
    """{key: (steps, values)} of every number in the lines of a training log; keys of "step" lines alone."""
    out = {}
    with open(path, encoding="utf-8") as f:
        for n, line in enumerate(f, 1):
            try:
                row = json.loads(line)
                step = row.pop("step")
            except (ValueError, AttributeError, KeyError):
                if not line.endswith("\n"):
                    break  # the line that a kill cut short
                raise ValueError(f"{path}:{n}: not a JSON object with a step") from None
            for key, value in row.items():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    steps, values = out.setdefault(key, ([], []))
                    steps.append(step)
                    values.append(value)
    if not out:
        raise ValueError(f"{path}: no numbers in it")
    return out


def _short(paths):
    """Names that tell paths apart: without what all begin with, and without a file name that all have."""
    files = [pathlib.Path(p).absolute() for p in paths]
    if len(files) == 1:
        return [files[0].name]
    if len({f.name for f in files}) == 1:
        files = [f.parent for f in files]
    common = os.path.commonpath([f.parent for f in files])
    return [str(f.relative_to(common)) for f in files]


def draw_curves(paths, out, keys=None):
    """One panel per key, one line per log; losses on a logarithmic axis where they are positive."""
    plt, logs = _pyplot(), {str(p): read_log(p) for p in paths}
    names = _short(list(logs))
    shown = keys or [k for k in dict.fromkeys(k for log in logs.values() for k in log) if "loss" in k or k == "lr"]
    unknown = [k for k in shown if not any(k in log for log in logs.values())]
    if unknown or not shown:
        raise ValueError(f"no log has '{unknown[0] if unknown else 'loss'}'")
    figure, axes = plt.subplots(len(shown), 1, figsize=(12, 5 * len(shown)), sharex=True, squeeze=False)
    for axis, key in zip(axes[:, 0], shown):
        for i, (name, log) in enumerate(zip(names, logs.values())):
            if key in log:
                axis.plot(*log[key], label=name, color=f"C{i % 10}")
        positive = all(v > 0 for log in logs.values() if key in log for v in log[key][1])
        axis.set(ylabel=key, yscale="log" if "loss" in key and positive else "linear")
        axis.legend(fontsize=10)
    axes[-1, 0].set_xlabel("step")
    return _save(plt, figure, out)
