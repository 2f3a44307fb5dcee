"""The PyTorch side of the package: DataLoader with either kind of worker, ragged batches, places in a run."""
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from peer_package import ROWS, TOP, gaps, make_dataset, packed, plain, tiny  # noqa: F401

import rotoscope as rt
from rotoscope.torch import Loader, MapDataset, Stream, collate, pad


def check(batch, ds):
    """A ragged batch holds what its samples do."""
    cu = batch["cu_seqlens"].tolist()
    assert batch["embeddings"].dtype == torch.bfloat16 and batch["cu_seqlens"].dtype == torch.int32
    for i, index in enumerate(batch["index"].tolist()):
        assert torch.equal(batch["embeddings"][cu[i]:cu[i + 1]], ds[index].embeddings_torch)
        assert batch["K"][i] == ds[index]["K"]
        for name in ("question", "trace", "answer"):
            begins = batch[name + "_cu_seqlens"].tolist()
            assert batch[name + "_ids"][begins[i]:begins[i + 1]].tolist() == ds[index][name + "_ids"].tolist()
        assert batch["id"][i] == ds[index]["id"]


@pytest.mark.parametrize("method", [None, "fork", "spawn"])
def test_map_style(plain, method):  # noqa: F811
    ds = rt.open(plain)
    loader = DataLoader(MapDataset(plain, "train"), batch_size=6, shuffle=True, collate_fn=collate,
                        num_workers=2 if method else 0, multiprocessing_context=method)
    seen = []
    for batch in loader:
        check(batch, ds)
        seen += batch["index"].tolist()
    assert sorted(seen) == list(range(ROWS)) and seen != sorted(seen)


def test_samples_one_by_one_collate_to_the_same(plain):  # noqa: F811
    data = MapDataset(plain)
    one, whole = collate([data[i] for i in (3, 1, 8)]), collate(data.__getitems__([3, 1, 8]))
    for key in whole:
        assert torch.equal(one[key], whole[key]) if torch.is_tensor(whole[key]) else one[key] == whole[key]
    data[3]["embeddings"][:] = 0  # a copy
    images = MapDataset(plain, stages=["embeds", "images"]).__getitems__([0, 1])
    assert collate(images)["image"][1].dtype == torch.uint8


def test_embeddings_in_torch_are_those_in_numpy(plain):  # noqa: F811
    s = rt.open(plain)[4]
    assert s.embeddings_torch.data_ptr() == s["embeddings"].ctypes.data
    assert np.array_equal(s.embeddings_torch.float().numpy(), s.embeddings_f32)


def test_pad(plain):  # noqa: F811
    batch = next(iter(Loader(plain, batch_size=5, shuffle=False)))
    padded, mask = pad(batch)
    assert padded.shape == (5, int(batch["K"].max()), rt.open(plain).width) and mask.sum(1).equal(batch["K"])
    assert torch.equal(padded[mask], batch["embeddings"]) and not padded[~mask].any()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers,method", [(0, None), (1, "fork"), (3, "fork"), (2, "spawn")])
def test_a_loader_gives_the_same_batches_for_any_workers(plain, workers, method):  # noqa: F811
    ds = rt.open(plain)
    how = dict(budget=400, bucket=True, window=16, seed=5)
    wanted = [b.tolist() for b in rt.Batches(ROWS, k=ds.K, **how)]
    loader = Loader(plain, num_workers=workers, loader={"multiprocessing_context": method} if method else None, **how)
    got = []
    for batch in loader:
        check(batch, ds)
        got.append(batch["index"].tolist())
    assert got == wanted and loader.state_dict()["epoch"] == 1
    again = [b["index"].tolist() for b in loader]
    assert sorted(sum(again, [])) == list(range(ROWS)) and again != wanted


def test_a_budget_alone_fills_batches(plain):  # noqa: F811
    ds = rt.open(plain)
    sums = [int(ds.K[b].sum()) for b in rt.Batches(ROWS, k=ds.K, budget=512, seed=5)]
    assert len(sums) < ROWS / 2 and max(sums) <= 512 and sorted(sums)[1] > 512 - int(ds.K.max())
    assert next(iter(Loader(plain, budget=512)))["K"].sum() > 512 - int(ds.K.max())


def test_a_run_stops_and_goes_on_with_other_ranks_and_workers(plain):  # noqa: F811
    """Three legs: 1 rank with 2 workers, 3 ranks with 1, 2 ranks without. Each stops while its workers are ahead."""
    ds = rt.open(plain)
    how = dict(batch_size=3, seed=8)
    wanted = [b.tolist() for b in rt.Batches(ROWS, **how)]
    got, state = [], None
    for ranks, workers, steps in ((1, 2, 3), (3, 1, 2), (2, 0, None)):
        loaders = [Loader(plain, rank=r, ranks=ranks, num_workers=workers, **how) for r in range(ranks)]
        if state:
            for loader in loaders:
                loader.load_state_dict(json.loads(state))
        running = [iter(loader) for loader in loaders]
        step = 0
        while steps is None or step < steps:
            batches = [next(it, None) for it in running]
            if batches[0] is None:
                break
            for batch in batches:
                if batch:
                    check(batch, ds)
                    got.append(batch["index"].tolist())
            step += 1
        states = [loader.state_dict() for loader in loaders]
        assert all(s == states[0] for s in states)
        state = json.dumps(states[0])
        del running
    assert got == wanted


def rank_of_a_process_group(rank, ranks, path, store, state, steps, out):
    """One process of gloo: the model in DDP, the loader's rank from the process group."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    loader = Loader(path, batch_size=3, seed=4, num_workers=1)
    if state:
        loader.load_state_dict(state)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(loader.dataset.width, 1))
    got, running = [], iter(loader)
    with model.join():  # at the end of the epoch one rank may have a batch less
        for batch in (b for _, b in zip(range(steps), running)):
            model(batch["embeddings"].float()).mean().backward()
            got += batch["index"].tolist()
    with open(f"{out}-{rank}.json", "w") as f:
        json.dump([got, loader.state_dict()], f)
    torch.distributed.destroy_process_group()


def test_a_run_under_ddp_goes_on_with_another_world_size(plain, tmp_path):  # noqa: F811
    """One process, then two, then three: no sample twice, none lost, the state the same on every rank."""
    seen, state = [], None
    for leg, (ranks, steps) in enumerate(((1, 2), (2, 2), (3, ROWS))):
        arguments = (ranks, str(plain), str(tmp_path / f"store{leg}"), state, steps, str(tmp_path / f"leg{leg}"))
        torch.multiprocessing.spawn(rank_of_a_process_group, args=arguments, nprocs=ranks)
        told = [json.loads((tmp_path / f"leg{leg}-{r}.json").read_text()) for r in range(ranks)]
        for got, _ in told:
            seen += got
        assert leg == 2 or all(s == told[0][1] for _, s in told)
        state = told[0][1]
        assert state["epoch"] == (1 if leg == 2 else 0)
    assert sorted(seen) == list(range(ROWS))


def test_epochs_of_ranks_with_drop_last_are_of_equal_length(plain):  # noqa: F811
    counts = [sum(1 for _ in Loader(plain, rank=r, ranks=3, batch_size=4, drop_last=True)) for r in range(3)]
    assert counts == [ROWS // 4 // 3] * 3


def test_a_state_of_another_run_is_refused(plain):  # noqa: F811
    loader = Loader(plain, batch_size=3, seed=1)
    with pytest.raises(rt.UsageError):
        loader.load_state_dict(Loader(plain, batch_size=3, seed=2).state_dict())
    with pytest.raises(rt.UsageError, match="neither"):
        Loader(plain, batch_size=0)


def test_ranks_are_those_of_torchrun(plain, monkeypatch):  # noqa: F811
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    wanted = [b.tolist() for b in rt.Batches(ROWS, batch_size=4, rank=1, ranks=2)]
    assert [b["index"].tolist() for b in Loader(plain, batch_size=4)] == wanted


def test_a_stream_can_be_pickled_and_used_alone(packed):  # noqa: F811
    stream = pickle.loads(pickle.dumps(Stream(packed, batch_size=8, tokens=False, ahead=0)))
    batches = list(DataLoader(stream, batch_size=None))
    assert "id" not in batches[0]
    assert sorted(torch.cat([b["index"] for b in batches]).tolist()) == list(range(ROWS))
    stream.load_state_dict(batches[1]["state"])
    rest = torch.cat([b["index"] for b in stream])
    assert torch.equal(rest, torch.cat([b["index"] for b in batches[2:]]))


def test_skipped_rows_are_not_read(gaps):  # noqa: F811
    got = torch.cat([b["index"] for b in Loader(gaps, batch_size=4)]).tolist()
    assert sorted(got) == list(range(len(rt.open(gaps)))) and len(got) < ROWS


@pytest.fixture(scope="session")
def language(rotoscope, tmp_path_factory):
    folder = tmp_path_factory.mktemp("language") / "tiny"
    rotoscope("init-model", folder, "--arch", "tiny", "--text", "--seed", "3")
    return folder


@pytest.mark.parametrize("name", ["stage1", "rot_adapter"])
def test_the_examples_run(plain, language, name):  # noqa: F811
    arguments = ["train", language, "--epochs", "4"] if name == "stage1" else []
    path = [TOP / "tests/peers", os.environ["PYTHONPATH"]]  # peer_torch makes torchvision importable here
    code = "import peer_torch, runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code, TOP / "python/examples" / f"{name}.py", plain, *arguments],
                          capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(map(str, path))})
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    if name == "stage1":
        steps = [json.loads(line) for line in done.stdout.splitlines()]
        vision, loss = [s["vision"] for s in steps], [10 * s["vision"] + s["answer"] for s in steps]
        assert len(steps) >= 8 and sorted({s["epoch"] for s in steps})[:4] == [0, 1, 2, 3]
        assert all(sum(x[-3:]) < 0.9 * sum(x[:3]) for x in (vision, loss))
    else:
        assert told["samples"] == 4 and told["largest_difference"] == 0.0


def test_the_losses_of_the_example_are_those_of_one_sample_after_another(plain, language, monkeypatch):  # noqa: F811
    """Against the published order of things: no cache, no padding, one prediction after another."""
    monkeypatch.syspath_prepend(str(TOP / "python/examples"))
    import peer_torch  # noqa: F401  makes torchvision importable here
    import stage1
    from transformers import AutoModelForImageTextToText
    batch = next(iter(Loader(plain, batch_size=3, seed=2)))
    width = rt.open(plain).width
    model = AutoModelForImageTextToText.from_pretrained(language, dtype=torch.float32).requires_grad_(False).eval()
    decoder = model.model.language_model
    torch.manual_seed(0)
    head = stage1.Head(width, width)
    head.out.weight.data *= 0.1  # a loop of random weights else doubles every difference in a few steps
    got = stage1.losses(model, head, batch)
    (10 * got[0] + got[1]).backward()
    got_gradient = head.out.weight.grad.clone()
    head.zero_grad()
    vision, answer = [], []
    for i, index in enumerate(batch["index"].tolist()):
        sample = rt.open(plain)[index]
        embed = model.get_input_embeddings()
        x, predicted = embed(torch.from_numpy(sample["question_ids"]).long())[None], []
        for target in sample.embeddings_torch.float():
            predicted.append(head(decoder(inputs_embeds=x).last_hidden_state[0, -1]))
            vision.append((predicted[-1] - target).square().mean() / len(sample["embeddings"]) / len(batch["index"]))
            x = torch.cat([x, predicted[-1].detach()[None, None]], 1)
        n, ids = len(sample["question_ids"]), torch.from_numpy(sample["answer_ids"]).long()
        whole = torch.cat([x[:, :n], torch.stack(predicted)[None], embed(ids)[None]], 1)
        labels = torch.cat([torch.full((whole.shape[1] - len(ids),), -100), ids])[None]
        places = torch.arange(whole.shape[1]).expand(3, 1, -1)
        answer.append(model(inputs_embeds=whole, position_ids=places, labels=labels).loss / len(batch["index"]))
    assert torch.allclose(got[0], sum(vision), rtol=1e-4) and torch.allclose(got[1], sum(answer), rtol=1e-4)
    (10 * sum(vision) + sum(answer)).backward()
    assert torch.allclose(got_gradient, head.out.weight.grad, rtol=1e-2, atol=1e-6)
