"""Token ids against Hugging Face tokenizers and transformers: real texts, every code point, random strings
with special tokens, GPT-2, other expressions, the sequence layout of Render-of-Thought."""
import ctypes
import json
import os
import pathlib
import random
import unicodedata

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

TOP = pathlib.Path(__file__).resolve().parents[2]
SMALL = TOP / "configs/tokenizer-small"
SCALARS = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

i32p, size = ctypes.POINTER(ctypes.c_int32), ctypes.c_size_t


class Err(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 1024)]


class SampleIds(ctypes.Structure):
    _fields_ = [("question", i32p), ("trace", i32p), ("answer", i32p),
                ("n_question", size), ("n_trace", size), ("n_answer", size)]


class Ours:
    """The library through its public header."""

    def __init__(self, folder):
        self.lib = ctypes.CDLL(str(TOP / os.environ.get("BUILD", "build") / "librotoscope.so"))
        self.err, self.tokenizer, self.worker = Err(), ctypes.c_void_p(), ctypes.c_void_p()
        self.check(self.lib.rot_tokenizer_open(os.fsencode(folder), ctypes.byref(self.tokenizer), ctypes.byref(self.err)))
        self.check(self.lib.rot_tokenizer_worker_open(self.tokenizer, ctypes.byref(self.worker), ctypes.byref(self.err)))

    def check(self, code):
        if code < 0:
            raise ValueError(self.err.message.decode(errors="replace"))

    def encode(self, text):
        data, ids, n = text.encode(), i32p(), size()
        self.check(self.lib.rot_tokenizer_encode(self.worker, data, size(len(data)), ctypes.byref(ids), ctypes.byref(n),
                                                 ctypes.byref(self.err)))
        return ids[:n.value]

    def decode(self, ids):
        array, text, n = (ctypes.c_int32 * len(ids))(*ids), ctypes.c_void_p(), size()
        self.check(self.lib.rot_tokenizer_decode(self.worker, array, size(len(ids)), ctypes.byref(text), ctypes.byref(n),
                                                 ctypes.byref(self.err)))
        return ctypes.string_at(text.value, n.value)

    def sample(self, question, trace, answer, layout=0):
        out, parts = SampleIds(), []
        for text in (question, trace, answer):
            data = text.encode()
            parts += [data, size(len(data))]
        self.check(self.lib.rot_tokenizer_encode_sample(self.worker, layout, *parts, ctypes.byref(out), ctypes.byref(self.err)))
        return out.question[:out.n_question], out.trace[:out.n_trace], out.answer[:out.n_answer]


def compare(ours, theirs, texts, batch=20000):
    """Fails with the first few texts whose ids differ; returns how many were compared."""
    wrong, n = [], 0
    for at in range(0, len(texts), batch):
        part = texts[at:at + batch]
        for text, encoding in zip(part, theirs.encode_batch(part, add_special_tokens=False)):
            n += 1
            got = ours.encode(text)
            if got != encoding.ids:
                wrong.append((text, got, encoding.ids))
    assert not wrong, f"{len(wrong)} of {n} differ: {wrong[:5]}"
    return n


def save(folder, tokenizer):
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return Ours(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def qwen(shared):
    folder = shared / "tokenizers/qwen3"
    return Ours(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def gpt2(shared, tmp_path_factory):
    source = shared / "tokenizers/gpt-2"
    vocab = json.loads((source / "vocab.json").read_text())
    lines = (source / "merges.txt").read_text().split("\n")
    merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    added = {t["content"]: t["id"] for t in json.loads((source / "added_tokens.json").read_text())}
    tokenizer = Tokenizer(models.BPE(vocab={**vocab, **added}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    assert tokenizer.token_to_id("<|endoftext|>") == 50256
    return save(tmp_path_factory.mktemp("gpt 2"), tokenizer)


@pytest.fixture(scope="module")
def small():
    return Ours(SMALL), Tokenizer.from_file(str(SMALL / "tokenizer.json"))


def with_pattern(pattern, normalizer=None, byte_level_regex=False, prefix=False):
    """The small tokenizer's vocabulary behind another pre-tokenizer."""
    tokenizer = Tokenizer.from_file(str(SMALL / "tokenizer.json"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=byte_level_regex)
    patterns = [pattern] if isinstance(pattern, str) else pattern or []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns] + [byte_level]) if patterns else byte_level
    tokenizer.normalizer = normalizer or normalizers.Sequence([])
    return tokenizer


def strings_of(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key in value:
            yield from strings_of(key)
            yield from strings_of(value[key])
    elif isinstance(value, list):
        for one in value:
            yield from strings_of(one)


@pytest.fixture(scope="module")
def real_texts(shared):
    """Every string of every data file, and the lines as they are."""
    texts = set()
    for path in sorted((shared / "data").rglob("*")):
        if not path.is_file():
            continue
        raw = path.read_text(encoding="utf-8")
        if path.suffix == ".json" and not raw.startswith('{"'):
            texts.update(strings_of(json.loads(raw)))
            continue
        for line in raw.split("\n"):
            texts.add(line)
            if path.suffix in (".json", ".jsonl") and line:
                texts.update(strings_of(json.loads(line)))
            texts.update(line.split("||"))
            texts.update(line.split("\t"))
    assert len(texts) > 50000
    return sorted(texts)


ALPHABET = ["'s", "'S", "'\u017f", "'T", "'re", "'RE", "'ll", "'lL", "'v", "'d", "'", "ſ", " ", "  ", "   ", "\n", "\r\n", "\r",
            "\t", "\x0b", "\x0c", "\x1c", "\x85", "\u00a0", "\u2028", "\u3000", "\u200b", "\u180e", "\ufeff", "\0", "a", "Bc", "the",
            " hello", "é", "e\u0301", "\u0301", "\u0327", "\u0338", "<", ">", "ß", "½", "²", "7", "42", "٣", "Ⅳ", "中文", "的", "한국", "\u1112\u1161\u11ab",
            "ড\u09bc", "ড়", "తె", "ไทย", "เ", "😀", "👍🏽", "👩‍👩‍👧", "\u2126", "Å", "\u212b", "+", "=", "<<48/2=24>>", "\\frac{1}{2}", "$", "###",
            "||", "...", "—", "’s", "\U0001d538", "\U0002f800", "\u0f73", "\u0344", "\u0898", "\U0001193a", "\U00011935", "\U00011930", "\u1c89",
            "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_", "<think>", "</think>", "<|image_pad|>", "|>", "<img>", "<img_begin>", "<img_end>"]


def random_texts(seed, n):
    rng = random.Random(seed)
    out = []
    for _ in range(n):
        out.append("".join(rng.choice(ALPHABET) if rng.random() < 0.9 else rng.choice(SCALARS) for _ in range(rng.randint(0, 14))))
    return out


@pytest.mark.parametrize("name", ["published", "random", "real"])
def test_conformance_files(rotoscope, shared, name):
    path = shared / f"tokenizers/qwen3/conformance_{name}.jsonl"
    expected = [json.loads(line)["ids"] for line in path.read_text(encoding="utf-8").split("\n") if line]
    out = rotoscope("tokenize", "-t", path.parent, path).stdout.decode().split("\n")
    assert out.pop() == "" and [json.loads(line)["ids"] for line in out] == expected


@pytest.mark.parametrize("which", ["qwen", "gpt2"])
def test_every_real_text(request, real_texts, which):
    ours, theirs = request.getfixturevalue(which)
    assert compare(ours, theirs, real_texts) == len(real_texts)


@pytest.mark.parametrize("which", ["qwen", "gpt2"])
@pytest.mark.parametrize("before,after", [("a", "b"), (" ", " x"), ("q\u0301", ""), ("q", "\u0327")])
def test_every_code_point(request, which, before, after):
    ours, theirs = request.getfixturevalue(which)
    if which == "gpt2" and before[0] == "q":
        pytest.skip("marks and their order matter to NFC alone")
    assert compare(ours, theirs, [before + c + after for c in SCALARS]) == len(SCALARS)


@pytest.mark.parametrize("which", ["qwen", "gpt2", "small"])
def test_random_texts(request, which):
    ours, theirs = request.getfixturevalue(which)
    compare(ours, theirs, random_texts(7, 60000))


def test_marks_in_any_order(qwen):
    ours, theirs = qwen
    marks = [c for c in SCALARS if unicodedata.category(c)[0] == "M"]
    bases = list("aeoqAE<=>") + [chr(c) for c in (0x1112, 0x1161, 0x11AB, 0xAC00, 0x9A1, 0xB47, 0xDD9, 0x1025, 0x11935, 0x11347, 0x3046, 0x105D2)]
    rng = random.Random(41)
    texts = ["".join(rng.choice(marks) if rng.random() < 0.7 else rng.choice(bases) for _ in range(rng.randint(1, 9))) for _ in range(100000)]
    compare(ours, theirs, texts)


def test_decoding_gives_the_text_back(qwen):
    ours, theirs = qwen
    nfc = normalizers.NFC().normalize_str
    for text in random_texts(3, 3000):
        ids = ours.encode(text)
        assert ours.decode(ids).decode() == theirs.decode(ids, skip_special_tokens=False)
    assert ours.decode(ours.encode("cafe\u0301 <|im_end|>")).decode() == nfc("cafe\u0301") + " <|im_end|>"
    assert ours.decode([151669, 151670, 151671]) == b"<img_begin><img><img_end>"


# Expressions without a hand-written scanner, with the tables of the library: all code points, then random.
PATTERNS = {
    "llama-3": LLAMA3,
    "marks": LLAMA3.replace(r"\p{L}+", r"[\p{L}\p{M}]+"),
    "qwen in pcre2": "(?:" + QWEN + ")",
    "gpt-2 in pcre2": "(?:" + GPT2 + ")",
    "deepseek": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"\s+$", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
    "not": r"\P{L}+|\S{2,3}",
}


@pytest.mark.parametrize("name", PATTERNS)
def test_other_expressions(tmp_path, name):
    ours, theirs = save(tmp_path, with_pattern(PATTERNS[name], normalizers.NFC()))
    compare(ours, theirs, random_texts(11, 20000))
    if name in ("llama-3", "not"):  # the others are built of the same classes, or of PCRE2's own
        compare(ours, theirs, ["a" + c + "b" for c in SCALARS])


@pytest.mark.parametrize("prefix", [False, True])
def test_byte_level_alone(tmp_path, prefix):
    ours, theirs = save(tmp_path, with_pattern(None, byte_level_regex=True, prefix=prefix))
    compare(ours, theirs, random_texts(13, 20000))


def test_byte_level_regex_after_a_split(tmp_path):
    ours, theirs = save(tmp_path, with_pattern(QWEN, byte_level_regex=True))
    compare(ours, theirs, random_texts(17, 20000))


FLAGS = ["single_word", "lstrip", "rstrip", "normalized"]


@pytest.mark.parametrize("bits", range(16))
def test_flags_of_added_tokens(tmp_path, bits):
    tokenizer = Tokenizer.from_file(str(SMALL / "tokenizer.json"))
    flags = {name: bool(bits >> i & 1) for i, name in enumerate(FLAGS)}
    tokenizer.add_tokens([AddedToken(t, special=False, **flags) for t in ("[A]", "[A][B]", "B]", "é", "word", "  ")])
    tokenizer.add_special_tokens([AddedToken(t, **flags) for t in ("<s>", "<s", "\u212b")])
    ours, theirs = save(tmp_path, tokenizer)
    rng = random.Random(bits)
    pieces = ["[A]", "[A][B]", "[B]", "B]", "é", "e\u0301", "word", "words", "_", " ", "  ", "\n", "\u3000", "x", "中", "1", "\u0301", "<s>", "<s",
              "<", ">", "Å", "\u212b", "<|im_end|>", "-", "\u200d"]
    compare(ours, theirs, ["".join(rng.choices(pieces, k=rng.randint(1, 12))) for _ in range(8000)])


def test_bytes_without_a_token_are_dropped(tmp_path):
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2, "Ġ": 3}, merges=[("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ours, theirs = save(tmp_path, tokenizer)
    compare(ours, theirs, ["aéb", "é", "a b", "abzab", "zz", "zazbz", ""])


def test_ignore_merges(tmp_path):
    parsed = json.loads((SMALL / "tokenizer.json").read_text())
    parsed["model"]["ignore_merges"] = True
    parsed["model"]["merges"] = parsed["model"]["merges"][:300]
    (tmp_path / "tokenizer.json").write_text(json.dumps(parsed))
    compare(Ours(tmp_path), Tokenizer.from_file(str(tmp_path / "tokenizer.json")), random_texts(19, 20000) + [" triangle", "Anna needs 3 triangles"])


def test_merges_as_strings_and_as_pairs(tmp_path, shared):
    parsed = json.loads((shared / "tokenizers/qwen3/tokenizer.json").read_text())
    merges = parsed["model"]["merges"]
    assert isinstance(merges[0], str)
    parsed["model"]["merges"] = [m.split(" ") for m in merges]
    (tmp_path / "tokenizer.json").write_text(json.dumps(parsed, indent=1))
    a, b = Ours(shared / "tokenizers/qwen3"), Ours(tmp_path)
    for text in random_texts(23, 2000):
        assert a.encode(text) == b.encode(text)
    hashes = [ctypes.create_string_buffer(32) for _ in range(2)]
    a.lib.rot_tokenizer_hash(a.tokenizer, hashes[0])
    a.lib.rot_tokenizer_hash(b.tokenizer, hashes[1])
    assert hashes[0].raw == hashes[1].raw  # the form and the white space do not matter


def test_golden_prompts(qwen, shared):
    ours, _ = qwen
    prompts = [json.loads(line) for line in (shared / "tokenizers/golden_prompts.jsonl").read_text().split("\n") if line]
    plain = [p for p in prompts if "ids_qwen3" in p]
    rot = [p for p in prompts if p["template"] == "rot"]
    assert len(plain) >= 10 and len(rot) >= 2
    for p in plain:
        assert ours.encode(p["prompt"]) == p["ids_qwen3"], p["case"]
    for p in rot:
        question = p["question_prompt"].split("<|im_start|>user\n")[1].split("<|im_end|>")[0]
        answer = p["answer_prompt"].split("### ")[1].split(" <|im_end|>")[0]
        got = ours.sample(question, "1+1=2", answer)
        assert got[0] == p["ids_question"] + [151669]
        assert got[1] == ours.encode("1+1=2")
        assert got[2] == [151671] + p["ids_answer"]


def rot_by_transformers(tok, question, trace, answer):
    def ids(text):
        return tok(text, add_special_tokens=False).input_ids

    head = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    begin, end = tok.convert_tokens_to_ids(["<img_begin>", "<img_end>"])
    return (ids(head + question + "<|im_end|>\n<|im_start|>assistant\n") + [begin], ids(trace),
            [end] + ids("<|im_start|>assistant\n### " + answer + " <|im_end|>\n"))


@pytest.mark.parametrize("which", ["qwen", "small"])
def test_rot_layout_as_transformers_adds_tokens(request, shared, which):
    from transformers import PreTrainedTokenizerFast
    folder = SMALL if which == "small" else shared / "tokenizers/qwen3"
    tok = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    n = len(tok)
    assert tok.add_tokens(["<img_begin>", "<img>", "<img_end>"]) == 3
    assert tok.convert_tokens_to_ids(["<img_begin>", "<img>", "<img_end>"]) == [n, n + 1, n + 2]
    ours, _ = request.getfixturevalue(which)
    texts = random_texts(29, 3000) + ["<img_begin>\u0338<img>", " <img>a<img_end>", "ſ", ""]
    for i in range(0, len(texts) - 2, 3):
        assert ours.sample(*texts[i:i + 3]) == rot_by_transformers(tok, *texts[i:i + 3])
        assert ours.sample(*texts[i:i + 3], layout=1) == tuple(ours.encode(t) for t in texts[i:i + 3])


def test_layout_tokens_that_are_there_keep_their_ids(tmp_path):
    tokenizer = Tokenizer.from_file(str(SMALL / "tokenizer.json"))
    n = tokenizer.get_vocab_size()
    tokenizer.add_tokens([AddedToken("<img_end>", normalized=False)])
    ours, _ = save(tmp_path, tokenizer)
    question, _, answer = ours.sample("", "", "")
    assert question[-1] == n + 1 and answer[0] == n
    assert ours.sample("", "<img><img_end>", "")[1] == [n + 2, n]


def test_auto_tokenizer_loads_the_small_one():
    from transformers import AutoTokenizer
    tok, ours = AutoTokenizer.from_pretrained(str(SMALL)), Ours(SMALL)
    assert tok.is_fast and len(tok) == ours.lib.rot_tokenizer_size(ours.tokenizer)
    assert tok.eos_token == "<|im_end|>" and tok.pad_token == "<|endoftext|>"
    for text in random_texts(31, 2000):
        assert tok(text, add_special_tokens=False).input_ids == ours.encode(text)
    chat = tok.apply_chat_template([{"role": "user", "content": "1+1?"}], tokenize=False, add_generation_prompt=True)
    assert chat == "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"


def test_the_small_one_is_what_its_script_makes(tmp_path):
    import subprocess
    import sys
    subprocess.run([sys.executable, TOP / "tools/make-tokenizer-small", tmp_path], check=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (SMALL / name).read_bytes()


def test_lines_of_the_command(rotoscope):
    lines = [b'"a b"', b'{"text": "a b"}\r', b" {\"x\": 1, \"text\": \"\\u0000\\ud83d\\ude00\"} ", b"", b"3", b'{"text": 3}', b'{"text": "a"', b'"\xff"',
             b'"\\ud800"', b'"a" "b"', json.dumps("x" * 300000).encode(), b'"end"']
    done = rotoscope("tokenize", "-t", SMALL, "-", input=b"\n".join(lines), check=False)
    out = [json.loads(line) for line in done.stdout.decode().split("\n")[:-1]]
    ours = Ours(SMALL)
    assert done.returncode == 1 and len(out) == len(lines)
    assert out[0] == out[1] == {"ids": ours.encode("a b")} and out[2] == {"ids": ours.encode("\0😀")}
    assert [list(o) for o in out[3:10]] == [["error"]] * 7
    assert out[10]["ids"] == ours.encode("x" * 300000) and out[11] == {"ids": ours.encode("end")}
    done = rotoscope("tokenize", "-t", SMALL, input=b'"a"\n')
    assert done.stdout.decode() == json.dumps({"ids": ours.encode("a")}) + "\n"


def test_threads_keep_the_order(rotoscope):
    data = "".join(json.dumps(t) + "\n" for t in random_texts(37, 30000)).encode()
    one = rotoscope("tokenize", "-t", SMALL, "--threads", 1, input=data).stdout
    assert one == rotoscope("tokenize", "-t", SMALL, "--threads", 5, input=data).stdout and one.count(b"\n") == 30000


def test_exit_codes(rotoscope, tmp_path):
    assert rotoscope("tokenize", input=b"", check=False).returncode == 2
    assert rotoscope("tokenize", "-t", tmp_path / "no such", input=b"", check=False).returncode == 2
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE",\n "vocab": {"a": 0}, ')
    done = rotoscope("tokenize", "-t", tmp_path, input=b"", check=False)
    assert done.returncode == 2 and b"line 2" in done.stderr and b"tokenizer.json" in done.stderr
    assert rotoscope("tokenize", "-t", SMALL, tmp_path / "none.jsonl", check=False).returncode == 2
    assert rotoscope("tokenize", "-t", SMALL, input=b"").stdout == b""
