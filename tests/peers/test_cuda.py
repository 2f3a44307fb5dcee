"""The gates of test_tower.py on a GPU: skipped where doctor finds none. With ROT_CUDA_LIB on the tests' emulated
device (build/tests/cuda_device.so) the small cases run anywhere."""
import json
import random

import pytest
from test_tower import CASES, Case, relative, run_torch, torch_taps

import torch
from safetensors.torch import load_file

OTHERS = {"qwen2.5": "qwen2.5-tiny", "qwen2": "qwen2-tiny", "llava": "llava-tiny"}


@pytest.fixture(scope="module")
def gpu(rotoscope):
    gpus = json.loads(rotoscope("doctor", "--json").stdout)["gpus"]
    if not gpus:
        pytest.skip("no GPU, or librotoscope_cuda.so is not built (make CUDA=1)")
    return gpus[0]


@pytest.fixture(scope="module", params=list(CASES))
def case(gpu, request, tmp_path_factory, rotoscope):
    if gpu["name"] == "Emulated" and request.param not in ("tiny", "odd-144"):
        pytest.skip("too slow on an emulated device")
    made = Case(request.param, tmp_path_factory.mktemp(request.param), rotoscope, *CASES[request.param])
    yield made
    for file in made.checkpoint.glob("*.safetensors"):
        file.unlink()


def gate(got, exact, theirs):
    cosine = torch.nn.functional.cosine_similarity(got, exact, dim=1)
    ours = relative(got, exact)
    print(f"\nbf16 cuda: relative L2 {ours:.2e} (transformers {theirs:.2e}), cosine mean {cosine.mean():.6f}")
    assert cosine.mean() >= 0.999
    assert ours <= 1.5 * theirs


def test_bf16_is_as_near_as_transformers(case):
    theirs = relative(run_torch(case.checkpoint, torch.bfloat16, case.pixels, case.grid), case.exact)
    gate(case.tokens("--backend", "cuda").double(), case.exact, theirs)


def test_deepstack_is_as_near_as_transformers(case):
    if case.name == "4b-full":
        pytest.skip("drawn as those of 4 blocks")
    exact, theirs = torch_taps(case.checkpoint, torch.float64, case), torch_taps(case.checkpoint, torch.bfloat16, case)
    stored = case.encode("--deepstack", "--backend", "cuda")
    for j, tap in enumerate(exact):
        got = torch.cat([stored[f"i{i}.deepstack.{j}"] for i in range(len(case.images))]).double()
        gate(got, tap, relative(theirs[j], tap))


def test_bits_ignore_batch_and_order(case):
    whole = case.encode("--backend", "cuda")
    images = list(case.images)
    random.Random(1).shuffle(images)
    for part in (images[:1], images[1:]):
        out = case.folder / "part.safetensors"
        case.rotoscope("encode", "-m", case.checkpoint, *part, "-o", out, "--geometry", "native", "--backend", "cuda")
        for stem, tensor in load_file(out).items():
            assert torch.equal(tensor.view(torch.int16), whole[stem].view(torch.int16)), stem


@pytest.mark.parametrize("family", list(OTHERS))
def test_other_families_are_as_near_as_ref(gpu, family, tmp_path, rotoscope):
    """ref has its own comparison with transformers (test_tower_qwen2.py, test_tower_llava.py)."""
    from test_tower import write_image

    rotoscope("init-model", tmp_path / "m", "--arch", OTHERS[family])
    images = [tmp_path / "a.pgm", tmp_path / "b.pgm"]
    write_image(images[0], 640, 32, 1)
    write_image(images[1], 200, 90, 2)

    def tokens(*options):
        rotoscope("encode", "-m", tmp_path / "m", *images, "-o", tmp_path / "o", *options)
        stored = load_file(tmp_path / "o")
        return torch.cat([stored["a"], stored["b"]]).double()

    exact = tokens("--dtype", "f32", "--backend", "ref")
    ours, ref = relative(tokens("--backend", "cuda"), exact), relative(tokens("--backend", "ref"), exact)
    print(f"\n{family}: cuda {ours:.2e}, ref {ref:.2e}")
    assert ours <= 1.2 * ref
