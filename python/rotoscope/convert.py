"""Checkpoints of the published Render-of-Thought code as folders that `rotoscope train` and `generate` take.

SRC is a folder (or one file in it) of what that code saves: projection_head.bin, special_tokens.bin, DeepSpeed's
mp_rank_00_model_states.pt (below global_stepN/). DST gets head.safetensors, tokens.safetensors and rot.json; adapter/ in
peft's form if there are LoRA weights; model/ if all weights were trained (that takes --base, the folder of the model that
was trained). --back writes projection_head.bin and special_tokens.bin from head.safetensors and tokens.safetensors.

The files are pickles of torch. They are read with weights_only=True, which runs nothing that is in them; a file that
cannot be read so is refused unless --trust says that its author may run code here.
"""
import argparse
import json
import os
import pickle
import re
import shutil
import sys
from typing import Any, Dict, List, Optional

HEAD = ["0.weight", "0.bias", "1.weight", "1.bias", "2.w1.weight", "2.w2.weight", "2.w3.weight", "3.weight", "3.bias"]
_LAYER = re.compile(r"(?:^|\.)(layers\.\d+\..+|embed_tokens\.weight|norm\.weight)$")
_LORA = re.compile(r"^(.+)\.(lora_[AB])(?:\.\w+)?\.weight$")


class ConvertError(ValueError):
    """A folder or file that is not what the published code writes; says which and why."""


def _load(path: str, trust: bool) -> Any:
    import torch
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as e:
        if not trust or not isinstance(e, pickle.UnpicklingError):
            reason = str(e).splitlines()[0] if str(e) else type(e).__name__
            hint = "; --trust reads it by running its pickle" if isinstance(e, pickle.UnpicklingError) else ""
            raise ConvertError(f"{path}: no file of tensors ({reason}){hint}") from e
    return torch.load(path, map_location="cpu", weights_only=False)


def _tensors(value: Any, path: str) -> Dict[str, Any]:
    """The state dict within what was loaded: under one of DeepSpeed's names, or itself."""
    import torch
    if isinstance(value, dict):
        for key in ("module", "model_state_dict", "model", "state_dict"):
            if isinstance(value.get(key), dict):
                value = value[key]
                break
    found = {k: v for k, v in value.items() if torch.is_tensor(v)} if isinstance(value, dict) else {}
    if not found:
        raise ConvertError(f"{path}: holds no tensors by name")
    return found


def _find(src: str, name: str) -> Optional[str]:
    """The file of that name: SRC itself, in it, or below it (the last in order: the latest step)."""
    if os.path.isfile(src):
        if os.path.basename(src) == name:
            return src
        src = os.path.dirname(src) or "."
    found = [os.path.join(top, name) for top, _, names in os.walk(src) if name in names]

    def order(path: str) -> List[Any]:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]

    return max(found, key=order) if found else None


def _head(tensors: Dict[str, Any], path: str) -> Optional[Dict[str, Any]]:
    """The nine tensors of a projection head, whatever stands before their names."""
    if set(HEAD) <= set(tensors):
        head = {n: tensors[n] for n in HEAD}
    else:
        prefixes = {n[:-len("2.w1.weight")] for n in tensors if n.endswith("projection_head.2.w1.weight")}
        if not prefixes:
            return None
        prefix = sorted(prefixes)[0]
        missing = [n for n in HEAD if prefix + n not in tensors]
        if missing:
            raise ConvertError(f"{path}: a head without {missing[0]}")
        head = {n: tensors[prefix + n] for n in HEAD}
    h, d = head["1.weight"].shape
    shapes = [(d,), (d,), (h, d), (h,), (h, h), (h, h), (h, h), (d, h), (d,)]
    for name, shape in zip(HEAD, shapes):
        if tuple(head[name].shape) != shape:
            raise ConvertError(f"{path}: {name} is {tuple(head[name].shape)}, not {shape}")
    return head


def _within_text(name: str) -> Optional[str]:
    """The part of a name from the decoder's own modules on; None for other towers."""
    if re.search(r"visual|vision_tower|sam_model|clip|projection_head", name):
        return None
    found = _LAYER.search(name)
    return found.group(1) if found else None


def _text_parts(tensors: Dict[str, Any]) -> "tuple[Dict[str, Any], Dict[str, Any]]":
    """LoRA tensors and plain weights by their names within the decoder; what is there under several names once."""
    lora, plain = {}, {}
    for name, tensor in tensors.items():
        match = _LORA.match(name)
        if match:
            inner = _within_text(match.group(1))
            if inner:
                lora[f"{inner}.{match.group(2)}.weight"] = tensor
        elif name.endswith("lm_head.weight"):
            plain["lm_head.weight"] = tensor
        else:
            inner = _within_text(name.replace(".base_layer.", "."))
            if inner:
                plain[inner] = tensor
    return lora, plain


def _save(path: str, tensors: Dict[str, Any]) -> None:
    from safetensors.torch import save_file
    save_file({n: t.detach().contiguous().clone() for n, t in tensors.items()}, path, metadata={"format": "pt"})


def _write_json(path: str, value: Any) -> None:
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=2)
        f.write("\n")


def _write_adapter(dst: str, lora: Dict[str, Any], prefix: str, alpha: float, dropout: float) -> None:
    ranks = {t.shape[0] for n, t in lora.items() if ".lora_A." in n}
    if len(ranks) != 1:
        raise ConvertError(f"LoRA of ranks {sorted(ranks)}: one is needed")
    os.makedirs(dst)
    _save(os.path.join(dst, "adapter_model.safetensors"), {f"base_model.model.{prefix}{n}": t for n, t in lora.items()})
    targets = sorted({n.split(".lora_")[0].rsplit(".", 1)[1] for n in lora})
    _write_json(os.path.join(dst, "adapter_config.json"), {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "", "bias": "none",
        "fan_in_fan_out": False, "inference_mode": True, "r": ranks.pop(), "lora_alpha": alpha, "lora_dropout": dropout,
        "target_modules": targets})


def _write_model(dst: str, plain: Dict[str, Any], base: str, prefix: str) -> None:
    """The base's other files beside the weights; its config with as many rows as the embedding has."""
    os.makedirs(dst)
    for name in os.listdir(base):
        if not name.endswith((".safetensors", ".bin", ".index.json", ".pt")) and os.path.isfile(os.path.join(base, name)):
            shutil.copyfile(os.path.join(base, name), os.path.join(dst, name))
    with open(os.path.join(base, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    text = config.get("text_config", config)
    text["vocab_size"] = plain["embed_tokens.weight"].shape[0]
    if text.get("tie_word_embeddings", config.get("tie_word_embeddings", False)):
        plain = {n: t for n, t in plain.items() if n != "lm_head.weight"}
    _write_json(os.path.join(dst, "config.json"), config)
    _save(os.path.join(dst, "model.safetensors"),
          {n if n == "lm_head.weight" else prefix + n: t for n, t in plain.items()})


def _prefix(base: Optional[str]) -> str:
    """What a checkpoint's tensors have before the decoder's own names."""
    if base:
        with open(os.path.join(base, "config.json"), encoding="utf-8") as f:
            if "text_config" not in json.load(f):
                return "model."
    return "model.language_model."


def convert(src: str, dst: str, base: Optional[str] = None, trust: bool = False, alpha: float = 32,
            dropout: float = 0.05) -> List[str]:
    """Writes DST (new or empty) from SRC and returns what it holds."""
    made = []
    if os.path.exists(dst) and os.listdir(dst):
        raise ConvertError(f"{dst}: is there and not empty")
    paths = {n: _find(src, n) for n in ("projection_head.bin", "special_tokens.bin", "mp_rank_00_model_states.pt")}
    if not any(paths.values()):
        raise ConvertError(f"{src}: none of {', '.join(paths)}")
    whole = _tensors(_load(paths["mp_rank_00_model_states.pt"], trust), paths["mp_rank_00_model_states.pt"]) \
        if paths["mp_rank_00_model_states.pt"] else {}
    head_path = paths["projection_head.bin"] or paths["mp_rank_00_model_states.pt"]
    head = _head(_tensors(_load(head_path, trust), head_path) if paths["projection_head.bin"] else whole, head_path) \
        if head_path else None
    tokens = _load(paths["special_tokens.bin"], trust) if paths["special_tokens.bin"] else None
    if tokens is not None and not {"img_begin_emb", "img_end_emb"} <= set(tokens):
        raise ConvertError(f"{paths['special_tokens.bin']}: no img_begin_emb and img_end_emb")
    os.makedirs(dst, exist_ok=True)
    facts = {}
    if head:
        _save(os.path.join(dst, "head.safetensors"), head)
        facts.update(hidden_size=head["1.weight"].shape[1], head_width=head["1.weight"].shape[0])
        made.append("head.safetensors")
    if tokens is not None:
        _save(os.path.join(dst, "tokens.safetensors"),
              {"img_begin": tokens["img_begin_emb"].reshape(-1), "img_end": tokens["img_end_emb"].reshape(-1)})
        facts.update({k: int(tokens[k]) for k in ("img_begin_token_id", "img_end_token_id") if k in tokens})
        made.append("tokens.safetensors")
    lora, plain = _text_parts(whole)
    if lora:
        _write_adapter(os.path.join(dst, "adapter"), lora, _prefix(base), alpha, dropout)
        made.append("adapter")
    elif "embed_tokens.weight" in plain and base:
        _write_model(os.path.join(dst, "model"), plain, base, _prefix(base))
        made.append("model")
    _write_json(os.path.join(dst, "rot.json"), facts)
    return made


def convert_back(src: str, dst: str) -> List[str]:
    """projection_head.bin and special_tokens.bin from a checkpoint of `rotoscope train`."""
    import torch
    from safetensors.torch import load_file
    made = []
    os.makedirs(dst, exist_ok=True)
    head = os.path.join(src, "head.safetensors")
    torch.save({n: t for n, t in load_file(head).items()}, os.path.join(dst, "projection_head.bin"))
    made.append("projection_head.bin")
    if os.path.isfile(os.path.join(src, "tokens.safetensors")):
        rows = load_file(os.path.join(src, "tokens.safetensors"))
        with open(os.path.join(src, "rot.json"), encoding="utf-8") as f:
            facts = json.load(f)
        tokens = {"img_begin_emb": rows["img_begin"], "img_end_emb": rows["img_end"]}
        tokens.update({k: facts[k] for k in ("img_begin_token_id", "img_end_token_id") if k in facts})
        torch.save(tokens, os.path.join(dst, "special_tokens.bin"))
        made.append("special_tokens.bin")
    return made


def main(argv: List[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m rotoscope convert-rot", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", help="a folder of the published code, or a file in it; with --back a checkpoint of ours")
    parser.add_argument("dst", help="a new folder")
    parser.add_argument("--base", help="folder of the model that was trained")
    parser.add_argument("--alpha", type=float, default=32, help="LoRA's alpha, which the files do not hold (32)")
    parser.add_argument("--dropout", type=float, default=0.05, help="LoRA's dropout, the same (0.05)")
    parser.add_argument("--trust", action="store_true", help="read pickles that run code")
    parser.add_argument("--back", action="store_true", help="from our files to the published code's")
    args = parser.parse_args(argv)
    try:
        made = convert_back(args.src, args.dst) if args.back else \
            convert(args.src, args.dst, args.base, args.trust, args.alpha, args.dropout)
    except (ConvertError, OSError, ImportError) as e:
        print(f"rotoscope: {e}", file=sys.stderr)
        return 1 if isinstance(e, ConvertError) else 2
    print(f"{args.dst}: {', '.join(made)}", file=sys.stderr)
    return 0
