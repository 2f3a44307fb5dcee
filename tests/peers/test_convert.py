"""Checkpoints of the published code: there and back, and into a run."""
import json
import subprocess
import sys

import pytest

import peer_torch  # noqa: F401
import torch
from safetensors.torch import load_file

from peer_package import TOP

from rotoscope.convert import HEAD, ConvertError, convert, convert_back

D, H = 32, 12


def published(folder, dtype=torch.bfloat16):
    """A folder as stage I of the published code leaves it."""
    torch.manual_seed(1)
    shapes = [(D,), (D,), (H, D), (H,), (H, H), (H, H), (H, H), (D, H), (D,)]
    head = {n: torch.randn(s, dtype=dtype) * 0.1 for n, s in zip(HEAD, shapes)}
    tokens = {"img_begin_emb": torch.randn(D, dtype=dtype), "img_end_emb": torch.randn(D, dtype=dtype),
              "img_begin_token_id": 1818, "img_end_token_id": 1820}
    folder.mkdir()
    torch.save(head, folder / "projection_head.bin")
    torch.save(tokens, folder / "special_tokens.bin")
    return head, tokens


def test_there_and_back(tmp_path):
    head, tokens = published(tmp_path / "src")
    assert convert(str(tmp_path / "src"), str(tmp_path / "dst")) == ["head.safetensors", "tokens.safetensors"]
    convert_back(str(tmp_path / "dst"), str(tmp_path / "back"))
    again = torch.load(tmp_path / "back/projection_head.bin", weights_only=True)
    assert list(sorted(again)) == sorted(HEAD)
    assert all(torch.equal(again[n], head[n]) and again[n].dtype == head[n].dtype for n in HEAD)
    rows = torch.load(tmp_path / "back/special_tokens.bin", weights_only=True)
    assert torch.equal(rows["img_end_emb"], tokens["img_end_emb"]) and rows["img_begin_token_id"] == 1818


def test_stage_2_of_deepspeed(tmp_path):
    """LoRA under the names that the whole compressor gives them, with its aliases; the head within."""
    head, _ = published(tmp_path / "src")
    (tmp_path / "src/projection_head.bin").unlink()
    step = tmp_path / "src/global_step12"
    step.mkdir()
    (tmp_path / "src/global_step9").mkdir()
    torch.save({"module": {"x": torch.zeros(1)}}, tmp_path / "src/global_step9/mp_rank_00_model_states.pt")
    inner = "base_model.model.model.language_model.layers.3.self_attn.q_proj"
    a, b = torch.randn(4, D), torch.randn(D, 4)
    module = {f"projection_head.{n}": t for n, t in head.items()}
    for prefix in ("vision_encoder.mllm_model.", "mllm_model."):
        module |= {f"{prefix}{inner}.lora_A.default.weight": a, f"{prefix}{inner}.lora_B.default.weight": b,
                   f"{prefix}{inner}.base_layer.weight": torch.randn(D, D)}
    module["vision_encoder.mllm_model.base_model.model.model.visual.blocks.0.attn.qkv.weight"] = torch.randn(3, 3)
    torch.save({"module": module, "global_steps": 12}, step / "mp_rank_00_model_states.pt")
    made = convert(str(tmp_path / "src"), str(tmp_path / "dst"))
    assert made == ["head.safetensors", "tokens.safetensors", "adapter"]
    adapter = load_file(tmp_path / "dst/adapter/adapter_model.safetensors")
    assert set(adapter) == {f"{inner}.lora_A.weight", f"{inner}.lora_B.weight"}
    assert torch.equal(adapter[f"{inner}.lora_A.weight"], a)
    config = json.load(open(tmp_path / "dst/adapter/adapter_config.json"))
    assert config["r"] == 4 and config["target_modules"] == ["q_proj"] and config["lora_alpha"] == 32
    assert torch.equal(load_file(tmp_path / "dst/head.safetensors")["2.w3.weight"], head["2.w3.weight"])


def test_full_weights_become_a_model(rotoscope, tmp_path):
    rotoscope("init-model", "--arch", "qwen3-tiny", "--width", D, "--heads", 2, "--mlp", 48, "--depth", 1, "-q",
              tmp_path / "lm")
    weights = load_file(tmp_path / "lm/model.safetensors")
    module = {f"vision_encoder.mllm_model.{n}": t + 1 for n, t in weights.items()}
    (tmp_path / "src").mkdir()
    torch.save({"module": module}, tmp_path / "src/mp_rank_00_model_states.pt")
    assert convert(str(tmp_path / "src"), str(tmp_path / "dst"), base=str(tmp_path / "lm")) == ["model"]
    got = load_file(tmp_path / "dst/model/model.safetensors")
    assert set(got) == set(weights) and all(torch.equal(got[n], weights[n] + 1) for n in weights)
    assert (tmp_path / "dst/model/tokenizer.json").is_file()


def test_a_converted_head_goes_into_a_run(rotoscope, tmp_path):
    head, tokens = published(tmp_path / "src")
    convert(str(tmp_path / "src"), str(tmp_path / "dst"))
    rotoscope("init-model", "--arch", "qwen3-tiny", "--width", D, "--heads", 2, "--mlp", 48, "--depth", 1, "-q",
              tmp_path / "lm")
    rotoscope("init-model", "--arch", "tiny", "--out", D, "-q", tmp_path / "tower")
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "question": "1+1?", "cot": "1+1=2", "answer": "2"}\n')
    (tmp_path / "b.yaml").write_text("name: d\nroot: out\nsplits: {train: {files: [rows.jsonl], format: jsonl}}\n"
                                     "tokenizer: {path: lm}\nrender: {thought_markers: false}\n"
                                     "encode: {checkpoint: tower, geometry: native}\n")
    rotoscope("build", "-c", tmp_path / "b.yaml", "-q")
    (tmp_path / "t.yaml").write_text("out: run\nmodel: {checkpoint: lm}\ndata: {dataset: out/d.json}\n"
                                     "rot: {stage: 2, head: dst}\ntrain: {max_steps: 1}\n")
    rotoscope("train", "-q", "-c", tmp_path / "t.yaml", "--threads", 1)
    got = load_file(tmp_path / "run/last/head.safetensors")
    assert all(torch.equal(got[n], head[n].float()) for n in HEAD)
    assert torch.equal(load_file(tmp_path / "run/last/tokens.safetensors")["img_begin"], tokens["img_begin_emb"].float())


class Runs:
    def __reduce__(self):
        return print, ("code of the file ran",)


def test_files_that_are_not_what_they_seem_are_refused(tmp_path):
    with pytest.raises(ConvertError, match="none of projection_head.bin"):
        convert(str(tmp_path), str(tmp_path / "dst"))
    head, _ = published(tmp_path / "src")
    torch.save(head | {"3.bias": torch.zeros(D + 1)}, tmp_path / "src/projection_head.bin")
    with pytest.raises(ConvertError, match="3.bias"):
        convert(str(tmp_path / "src"), str(tmp_path / "dst"))
    (tmp_path / "src/projection_head.bin").write_bytes(b"nonsense")
    with pytest.raises(ConvertError, match="no file of tensors"):
        convert(str(tmp_path / "src"), str(tmp_path / "dst"))
    torch.save({"0.weight": Runs()}, tmp_path / "src/projection_head.bin")
    done = subprocess.run([sys.executable, "-m", "rotoscope", "convert-rot", tmp_path / "src", tmp_path / "dst"],
                          cwd=TOP / "python", capture_output=True, text=True)
    assert done.returncode == 1 and "--trust" in done.stderr and "code of the file ran" not in done.stdout
    assert not (tmp_path / "dst").exists()
