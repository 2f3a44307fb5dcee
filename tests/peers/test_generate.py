"""Generation against transformers' own and against latent inference written out in torch."""
import json
import shutil

import numpy as np
import pytest

pytest.importorskip("torch")
import peer_torch  # noqa: E402,F401
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

torch.set_num_threads(1)  # the models are tiny

QUESTIONS = ["Maya has 12 pencils. She finds 5 more. How many?", "What is 3*4?", "Sven gives 7 of his 30 marbles to Iris, then\n9.",
             "How many eggs?", "Every gorpus is a lempus. Tom is a gorpus. Is Tom a lempus or brimpus?"]


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    path = tmp_path_factory.mktemp("questions") / "q.jsonl"
    path.write_text("".join(json.dumps({"id": f"q{i}", "question": q, "cot": "", "answer": "1"}) + "\n"
                            for i, q in enumerate(QUESTIONS)))
    return path


@pytest.fixture(scope="module")
def models(rotoscope, tmp_path_factory):
    """Random models with weights large enough that the next token is no near tie."""
    folder = tmp_path_factory.mktemp("models")
    for arch in ("qwen3-tiny", "llama-tiny", "gpt2-tiny"):
        rotoscope("init-model", folder / arch, "--arch", arch, "--seed", "11")
        model = AutoModelForCausalLM.from_pretrained(folder / arch)
        tokenizer = AutoTokenizer.from_pretrained(folder / arch)
        if len(tokenizer) + 3 > model.config.vocab_size:
            model.resize_token_embeddings(len(tokenizer) + 3, mean_resizing=False)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, p in model.named_parameters():
                if p.dim() == 2:
                    p.copy_(torch.randn(p.shape, generator=generator) * (0.3 if "w" in name.split(".")[-2] else 0.15))
        model.save_pretrained(folder / arch)
    # Llama 3's tokenizer puts a token before every text; so does this one.
    shutil.copytree(folder / "llama-tiny", folder / "llama-begin")
    path = folder / "llama-begin/tokenizer.json"
    file = json.loads(path.read_text())
    file["post_processor"] = {"type": "Sequence", "processors": [file["post_processor"], {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [1793], "tokens": ["<|im_start|>"]}}}]}
    path.write_text(json.dumps(file))
    return folder


class Reference:
    """Latent inference without a cache: the whole sequence again at every step. Weights are large: rounding
    grows from latent to latent."""

    def __init__(self, folder, head=None, rows=None):
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.body = self.model.get_decoder() if self.model.config.model_type != "gpt2" else self.model.transformer
        self.table = self.model.get_input_embeddings().weight
        self.head, self.size = head, len(self.tokenizer)
        with torch.no_grad():
            for i, row in (rows or {}).items():
                self.table[i] = row

    def embed(self, ids):
        return self.table[torch.tensor(ids)]

    def hidden(self, x):
        return self.body(inputs_embeds=x[None]).last_hidden_state[0]

    @torch.no_grad()
    def run(self, prompt, n, end, stop=None, distance=None, new=12):
        x, latents = self.embed(prompt), []
        for _ in range(n):
            h = self.hidden(x)[-1]
            if stop == "token" and int(self.model.lm_head(h).argmax()) == end:
                break
            latents.append(self.head(h) if self.head else h)
            x = torch.cat([x, latents[-1][None]])
            if distance and len(latents) > 1 and (latents[-1] - latents[-2]).norm() < distance * latents[-1].norm():
                break
        if end is not None:
            x = torch.cat([x, self.embed([end])])
        ids, eos = [], self.model.generation_config.eos_token_id
        for _ in range(new):
            ids.append(int(self.model.lm_head(self.hidden(x)[-1]).argmax()))
            if ids[-1] in (eos if isinstance(eos, list) else [eos]):
                ids.pop()
                break
            x = torch.cat([x, self.embed(ids[-1:])])
        return ids, latents

    def text(self, ids, marks=()):
        special = {i for i, t in self.tokenizer.added_tokens_decoder.items() if t.special}
        raw = b"".join(self.piece(i) for i in ids if i not in special and i not in marks and i < self.size)
        # every byte that is no UTF-8 by itself, as the program writes it
        out = ""
        while raw:
            try:
                return out + raw.decode()
            except UnicodeDecodeError as e:
                out, raw = out + raw[:e.start].decode() + "\ufffd", raw[e.start + 1:]
        return out

    def piece(self, i):
        from transformers.models.gpt2.tokenization_gpt2 import bytes_to_unicode
        back = {c: b for b, c in bytes_to_unicode().items()}
        token = self.tokenizer.convert_ids_to_tokens(i)
        return token.encode() if i in self.tokenizer.added_tokens_decoder else bytes(back[c] for c in token)


def generate(rotoscope, folder, questions, tmp_path, *args, n=12):
    out = tmp_path / "predictions"
    rotoscope("generate", "-m", folder, "-f", "jsonl", questions, "-o", out, "--max-new-tokens", n, *args)
    return [json.loads(line) for line in out.read_text().split("\n")[:-1]]


@pytest.mark.parametrize("arch", ["qwen3-tiny", "llama-tiny", "llama-begin", "gpt2-tiny"])
def test_greedy_tokens_are_those_of_transformers(models, questions, rotoscope, tmp_path, arch):
    reference = Reference(models / arch)
    rows = generate(rotoscope, models / arch, questions, tmp_path, "--method", "no-cot", n=20)
    for q, row in zip(QUESTIONS, rows):
        ids = reference.tokenizer(q + "\n", return_tensors="pt").input_ids
        out = reference.model.generate(ids, max_new_tokens=20, do_sample=False)[0, ids.shape[1]:].tolist()
        eos = reference.model.generation_config.eos_token_id
        ended = bool(out) and out[-1] in (eos if isinstance(eos, list) else [eos])
        assert row["prediction"] == reference.text(out[:-1] if ended else out)
        assert row["tokens"] == len(out) - ended and row["ended"] == ended and row["latents"] == 0


@pytest.mark.parametrize("arch, first", [("llama-tiny", 0), ("llama-begin", 1)])
def test_chains_begin_as_their_tokenizer_says(models, rotoscope, tmp_path, arch, first):
    tokenizer = AutoTokenizer.from_pretrained(models / arch)
    (tmp_path / "rows.txt").write_text("What is 3*4+1?||<<3*4=12>> <<12+1=13>> #### 13\n")
    (tmp_path / "s.yaml").write_text(f"""name: d
root: {tmp_path}/out
splits: {{train: {{files: [rows.txt], format: gsm8k-aug}}}}
tokenizer: {{path: {models / arch}, layout: plain}}
""")
    rotoscope("build", "-q", "-c", tmp_path / "s.yaml")
    (tmp_path / "t.yaml").write_text(f"""method: cot
out: {tmp_path}/run
model: {{checkpoint: {models / arch}}}
data: {{dataset: {tmp_path}/out/d.json}}
""")
    done = rotoscope("train", "--plan", "--json", "-c", tmp_path / "t.yaml")
    question = tokenizer("What is 3*4+1?\n").input_ids
    assert (question[0] == 1793) == bool(first)
    rest = [tokenizer.encode(t, add_special_tokens=False) for t in ("<<3*4=12>>\n", "<<12+1=13>>\n", "### 13")]
    assert json.loads(done.stdout)["model"]["longest_chain"] == len(question) + sum(map(len, rest)) + 1  # and the end


@pytest.mark.parametrize("arch", ["qwen3-tiny", "gpt2-tiny"])
@pytest.mark.parametrize("n", [0, 1, 6])
def test_coconuts_thoughts(models, questions, rotoscope, tmp_path, arch, n):
    reference = Reference(models / arch)
    size = reference.size
    latents_out = tmp_path / "latents.safetensors"
    rows = generate(rotoscope, models / arch, questions, tmp_path, "--method", "coconut", "--latents", n, "--latents-out",
                    latents_out)
    written = load_file(latents_out)
    for i, (q, row) in enumerate(zip(QUESTIONS, rows)):
        prompt = reference.tokenizer(q + "\n").input_ids + [size]
        ids, latents = reference.run(prompt, n, size + 1)
        assert row["prediction"] == reference.text(ids, (size, size + 1, size + 2)) and row["latents"] == n
        if n:
            want = torch.stack(latents)
            assert (written[f"{i}.latents"] - want).norm() / want.norm() < 5e-4
    assert len(written) == (len(QUESTIONS) if n else 0)


def test_pauses(models, questions, rotoscope, tmp_path):
    reference = Reference(models / "gpt2-tiny")
    size = reference.size
    rows = generate(rotoscope, models / "gpt2-tiny", questions, tmp_path, "--method", "pause", "--latents", 3)
    for q, row in zip(QUESTIONS, rows):
        prompt = reference.tokenizer(q + "\n").input_ids + [size] + [size + 2] * 3
        assert row["prediction"] == reference.text(reference.run(prompt, 0, size + 1)[0], (size, size + 1, size + 2))


@pytest.fixture(scope="module")
def rot(models):
    """A head and rows in the published code's names, and the reference with them."""
    torch.manual_seed(5)
    d, width, folder = 128, 96, models / "head"
    folder.mkdir()

    class Gated(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w1, self.w2, self.w3 = (torch.nn.Linear(width, width, bias=False) for _ in range(3))

        def forward(self, x):
            return self.w3(torch.nn.functional.silu(self.w1(x)) * self.w2(x))

    head = torch.nn.Sequential(torch.nn.LayerNorm(d, eps=1e-6), torch.nn.Linear(d, width), Gated(), torch.nn.Linear(width, d))
    with torch.no_grad():
        for p in head.parameters():
            p.mul_(3)
    save_file(head.state_dict(), folder / "head.safetensors")
    rows = {k: torch.randn(d) for k in ("img_begin", "img_end", "img")}
    save_file(rows, folder / "tokens.safetensors")
    size = len(AutoTokenizer.from_pretrained(models / "qwen3-tiny"))
    reference = Reference(models / "qwen3-tiny", head, {size: rows["img_begin"], size + 1: rows["img"], size + 2: rows["img_end"]})
    return folder, reference


def rot_prompt(reference, q):
    chat = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": q}]
    return reference.tokenizer.apply_chat_template(chat, add_generation_prompt=True) + [reference.size]


@pytest.mark.parametrize("stop", [["fixed", None], ["token", None], ["distance:0.9", 0.9]])
def test_render_of_thoughts_latents(models, rot, questions, rotoscope, tmp_path, stop):
    folder, reference = rot
    size, latents_out = reference.size, tmp_path / "latents.safetensors"
    rows = generate(rotoscope, models / "qwen3-tiny", questions, tmp_path, "--head", folder, "--latents", 7, "--stop", stop[0],
                    "--latents-out", latents_out)
    written, counts = load_file(latents_out), set()
    for i, (q, row) in enumerate(zip(QUESTIONS, rows)):
        ids, latents = reference.run(rot_prompt(reference, q), 7, size + 2, "token" if stop[0] == "token" else None, stop[1])
        assert row["prediction"] == reference.text(ids, (size, size + 1, size + 2))
        assert row["latents"] == len(latents) and row["chain_tokens"] == 0
        counts.add(len(latents))
        if latents:
            want = torch.stack(latents)
            assert (written[f"{i}.latents"] - want).norm() / want.norm() < 5e-4
    assert counts == {7} or stop[0] != "fixed"


def test_the_token_rule_stops_at_the_end_mark(models, rot, questions, rotoscope, tmp_path):
    """Rows as long as the published ones make <img_end> probable somewhere; the reference says where."""
    folder, reference = rot
    other, size = tmp_path / "head", reference.size
    other.mkdir()
    save_file(load_file(folder / "head.safetensors"), other / "head.safetensors")
    found = set()
    for seed in range(4):
        torch.manual_seed(seed)
        rows = {k: torch.randn(128) * 2 for k in ("img_begin", "img_end", "img")}
        save_file(rows, other / "tokens.safetensors")
        with torch.no_grad():
            for i, k in enumerate(("img_begin", "img", "img_end")):
                reference.table[size + i] = rows[k]
        got = generate(rotoscope, models / "qwen3-tiny", questions, tmp_path, "--head", other, "--latents", 9, "--stop", "token", n=3)
        for q, row in zip(QUESTIONS, got):
            want = len(reference.run(rot_prompt(reference, q), 9, size + 2, "token", new=1)[1])
            assert row["latents"] == want
            found.add(want)
    with torch.no_grad():
        for i, k in enumerate(("img_begin", "img", "img_end")):
            reference.table[size + i] = load_file(folder / "tokens.safetensors")[k]
    assert len(found) > 1


def without_seconds(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.parametrize("args", [[], ["--temperature", "0.8", "--top-p", "0.9", "--seed", "3"]])
def test_answers_do_not_depend_on_the_batch_or_the_threads(models, rot, questions, rotoscope, tmp_path, args):
    runs = [without_seconds(generate(rotoscope, models / "qwen3-tiny", questions, tmp_path, "--head", rot[0], "--latents", 5, *args, *more))
            for more in (["--batch", 1], ["--batch", 2], ["--batch", 16], ["--threads", 1])]
    assert all(run == runs[0] for run in runs)


def test_seeds_differ_and_repeat(models, questions, rotoscope, tmp_path):
    one, same, other = (without_seconds(generate(rotoscope, models / "gpt2-tiny", questions, tmp_path, "--temperature", "2", "--seed", s))
                        for s in (1, 1, 2))
    assert one == same and [r["prediction"] for r in one] != [r["prediction"] for r in other]


def test_the_table_of_latents(models, rot, questions, rotoscope, tmp_path):
    folder, reference = rot
    latents_out = tmp_path / "l.safetensors"
    generate(rotoscope, models / "qwen3-tiny", questions, tmp_path, "--head", folder, "--latents", 4, "--latents-out", latents_out,
             "--top-k", 3)
    latents = load_file(latents_out)
    header, *lines = (tmp_path / "l.safetensors.tsv").read_text().split("\n")[:-1]
    assert header.split("\t")[:9] == ["question", "id", "latent", "norm", "mean", "std", "cosine_before", "teacher_norm", "teacher_cosine"]
    assert len(lines) == 4 * len(QUESTIONS)
    for line in lines:
        cells = dict(zip(header.split("\t"), line.split("\t")))
        q, t = int(cells["question"]), int(cells["latent"])
        rows = latents[f"{q}.latents"].double()
        assert float(cells["norm"]) == pytest.approx(float(rows[t].norm()), rel=1e-5)
        assert float(cells["std"]) == pytest.approx(float(rows[t].std(correction=0)), rel=1e-4)
        if t:
            want = torch.nn.functional.cosine_similarity(rows[t], rows[t - 1], dim=0)
            assert float(cells["cosine_before"]) == pytest.approx(float(want), abs=1e-5)
        with torch.no_grad():
            p = torch.softmax(reference.model.lm_head(rows[t].float()), 0)
        best = p.topk(3)
        assert [float(cells[f"probability{i}"]) for i in (1, 2, 3)] == pytest.approx(best.values.tolist(), rel=1e-3)
        first = int(best.indices[0])
        if first < reference.size and not reference.piece(first).decode(errors="ignore").startswith("<"):
            assert json.loads(cells["token1"]) == reference.text([first])


def test_the_search_tree(models, rotoscope, tmp_path):
    reference = Reference(models / "gpt2-tiny")
    size = reference.size
    graphs, tree = tmp_path / "graphs.json", tmp_path / "tree.tsv"
    rotoscope("init-data", "--like", "prosqa", "--rows", 2, "--seed", 3, "-o", graphs)
    rotoscope("generate", "-m", models / "gpt2-tiny", "--method", "coconut", "--latents", 2, "-f", "prosqa", graphs, "-o",
              tmp_path / "p", "--max-new-tokens", 2, "--tree-out", tree)
    header, *lines = tree.read_text().split("\n")[:-1]
    rows = [dict(zip(header.split("\t"), line.split("\t"))) for line in lines]
    data = json.loads(graphs.read_text())
    assert len(rows) == sum(3 * len(g["idx_to_symbol"]) for g in data)
    for q, graph in enumerate(data):
        prompt = reference.tokenizer(graph["question"] + "\n").input_ids + [size]
        _, latents = reference.run(prompt, 2, size + 1, new=1)
        depth = {graph["root"]: 0}
        for _ in graph["idx_to_symbol"]:
            for a, b in graph["edges"]:
                if a in depth:
                    depth[b] = min(depth.get(b, 99), depth[a] + 1)
        for row in (r for r in rows if int(r["question"]) == q):
            k, node = int(row["latents"]), int(row["node"])
            name = graph["idx_to_symbol"][node]
            assert json.loads(row["name"]) == name and int(row["depth"]) == depth.get(node, -1)
            if node % 5:  # a fifth of the nodes, for time
                continue
            prefix = "Every" if k else graph["idx_to_symbol"][graph["root"]] + " is a"
            before, whole = reference.tokenizer(prefix).input_ids, reference.tokenizer(f"{prefix} {name}").input_ids
            assert whole[:len(before)] == before
            with torch.no_grad():
                x = torch.cat([reference.embed(prompt), *[v[None] for v in latents[:k]], reference.embed([size + 1] + whole)])
                logits = torch.log_softmax(reference.model.lm_head(reference.hidden(x)), -1)
                n = len(whole) - len(before)
                want = sum(float(logits[len(x) - n - 1 + i, whole[len(before) + i]]) for i in range(n))
            assert float(row["probability"]) == pytest.approx(np.exp(want), rel=1e-3)


def test_a_question_that_is_too_long_fails_alone(models, rotoscope, tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps({"id": i, "question": q, "cot": "", "answer": "1"}) + "\n"
                            for i, q in (("a", "How many?"), ("b", "x y " * 2000))))
    rows = generate(rotoscope, models / "gpt2-tiny", path, tmp_path, n=3)
    assert "prediction" in rows[0] and "1024 positions" in rows[1]["error"]
    done = rotoscope("evaluate", "-p", tmp_path / "predictions", "-f", "jsonl", path)
    assert json.loads(done.stdout)["failures"] == 1


def test_what_does_not_fit_is_refused(models, rot, questions, rotoscope, tmp_path):
    def refused(*args):
        done = rotoscope("generate", "-f", "jsonl", questions, "-o", tmp_path / "no", *args, check=False)
        assert not (tmp_path / "no").exists()
        return done.returncode, done.stderr
    rotoscope("init-model", tmp_path / "m", "--arch", "gpt2-tiny")
    rotoscope("init-model", tmp_path / "wide", "--arch", "qwen3-tiny", "--width", "64")
    for args, code, said in [(["-m", tmp_path / "m", "--method", "coconut"], 2, b"not trained with them"),
                             (["-m", tmp_path / "wide", "--head", rot[0]], 2, b"128"),
                             (["-m", tmp_path / "m", "--latents", "3"], 2, b"no effect"),
                             (["-m", tmp_path / "m", "--stop", "token"], 2, b"no effect"),
                             (["-m", tmp_path / "m", "--method", "rot"], 2, b"needs a head"),
                             (["-m", tmp_path / "m", "--top-p", "0"], 2, b"top_p"),
                             (["-m", tmp_path / "nowhere"], 2, b"nowhere"),
                             (["--method", "cot"], 2, b"which model"),
                             (["-m", models / "gpt2-tiny", "--method", "coconut", "--tree-out", tmp_path / "t"], 2, b"no graphs")]:
        got, words = refused(*args)
        assert got == code and said in words, (args, got, words)
