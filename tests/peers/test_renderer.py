"""Pixels, widths and line breaks against Pillow, on real traces."""
import json
import random

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, features

FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
SERIF = "/usr/share/fonts/truetype/dejavu/DejaVuSerif.ttf"
BEGIN, END = "<|begin_of_thought|>  ", "  <|end_of_thought|>"

# Cases published with Render-of-Thought, and the widths of their images.
PUBLISHED = [
    ("Janet sells 16 - 3 - 4 = <<16-3-4=9>>9 duck eggs a day.\nShe makes 9 * 2 = $<<9*2=18>>18 every day at the "
     "farmer\u2019s market.", 1762),
    ("He sprints 3*3=<<3*3=9>>9 times\nSo he runs 9*60=<<9*60=540>>540 meters.", 1300),
    ("She eats 3 eggs every day and there are 7 days in a week so she eats 3*7 = <<3*7=21>>21 eggs a week\nAfter 4 "
     "weeks she will have eaten 4*21 = <<4*21=84>>84 eggs\nThere are 12 eggs in 1 dozen and she'll eat 84 eggs so "
     "that's 84/12 = <<84/12=7>>7 dozen eggs", 3198),
    ("Let $M$ be the least positive multiple of 30 that can be written with only the digits 0 and 2. First, $M$ is a "
     "multiple of 10, so its units digit must be 0. $M$ is also a multiple of 3, which means the sum of its digits "
     "must be a multiple of 3. Therefore, we must take at least three 2's. Since $M$ is minimal, we take exactly "
     "three 2's and do not have any additional 0's: $M=\\boxed{2220}$.", 4309),
    ("If there are $S$ students at Baker Middle School, then $\\frac{2}{3}S$ students take music.  Setting "
     "$\\frac{2}{3}S$ equal to 834 and multiplying both sides by $\\frac{3}{2}$, we find that there are "
     "$\\frac{3}{2}\\times 834=\\boxed{1251}$ students at the school.", 3107),
    ("The number of $1\\times1$ squares in the diagram is $2(n-1)$, the number of $2\\times 2$ squares is $n-2$, and "
     "the number of $\\sqrt{2} \\times \\sqrt{2}$ squares is also $n-2$ (see diagram).  Solving \\[\n"
     "2(n-1)+n-2+n-2=70\n\\] we find $n=\\boxed{19}$.", 2977),
]

OTHER_SCRIPTS = [
    "שלום עולם 12 + 30 = 42 (abc) סוף.", "مرحبا بالعالم 3 * 4 = 12، ثم (س + ص) = ٧٢", "abc אבג 12 (דה) xyz, 3.5%",
    "e\u0301 a\u0308o\u0302 z\u0323\u0307 x\u20d7 \u0301", "π ≈ 3.14159, α + β = γ", "Да, 5 яблок (и ещё 2).", "ﬁ ﬀ ffi fi AVATAR To Ty",
    "日本語 and 中文", "न म स्ते 12", "สวัสดี 5", "a\u200bb\u200dc\u00add\ufeffe", "tab\there", "x\u00a0y", "1 (a)", "(1) a) [b", "2 {a} b) 3 (c",
    "« a » “b” ‘c’", "\u202babc אבג\u202c", "½ ¾ 1⁄2", "🙂 ok ☺\ufe0f", "a" * 300, "", " ", "   a   ", "T", "j", "ａｂｃ", "Ж(a)б", "12 ٣٤ 56", "\u05d0 (1) b",
]


@pytest.fixture(scope="module")
def traces(shared):
    """Real traces of several kinds, shuffled the same way every time."""
    rows = []
    for name, key in [("gsm8k/train.jsonl", "answer"), ("math/train_sample3000.jsonl", "solution"), ("math500/test.jsonl", "solution")]:
        with open(shared / "data" / name, encoding="utf-8") as file:
            rows += [json.loads(line)[key] for line in file]
    with open(shared / "data/gsm8k_aug/valid.txt", encoding="utf-8") as file:
        rows += [line.rstrip("\n").split("||")[1].split("####")[0] for line in file]
    for language in ("de", "fr", "ru", "sw", "zh", "th", "bn"):
        with open(shared / f"data/mgsm/mgsm_{language}.tsv", encoding="utf-8") as file:
            rows += [line.split("\t")[0] for line in file.read().split("\n")[:40]]
    rows = [row.replace("\r", "") for row in rows]
    random.Random(7).shuffle(rows)
    return rows


def engine(job):
    return ImageFont.Layout.BASIC if job.get("layout") == "basic" else ImageFont.Layout.RAQM


def settings(job):
    base = dict(size_px=20, height_px=32, padding_px=4, newline="space", thought_markers=True, text_color="#000000",
                background_color="#ffffff", fonts=[FONT], layout="raqm", mode="line", width_px=1024, page_height_px=0,
                line_spacing_px=4)
    if job.get("preset") == "rot-released":
        base.update(size_px=16, newline="keep")
    base.update({k: v for k, v in job.items() if k not in ("text", "preset")})
    return base


def drawn_text(job, s):
    text = job["text"].replace("\n", {"space": " ", "keep": "\n", "marker": "↵"}[s["newline"]])
    return BEGIN + text + END if s["thought_markers"] else text


_fonts = {}


def font_of(s):
    key = (s["fonts"][0], s["size_px"], s["layout"])
    if key not in _fonts:
        _fonts[key] = ImageFont.truetype(s["fonts"][0], s["size_px"], layout_engine=engine(s))
    return _fonts[key]


def pillow_line(job):
    s = settings(job)
    text, font = drawn_text(job, s), font_of(s)
    box = ImageDraw.Draw(Image.new("RGB", (1, 1))).textbbox((0, 0), text, font=font)
    width = box[2] - box[0] + 2 * s["padding_px"]
    image = Image.new("RGB", (int(width), s["height_px"]), s["background_color"])
    y = (s["height_px"] - s["size_px"]) // 2
    ImageDraw.Draw(image).text((s["padding_px"], y), text, font=font, fill=s["text_color"])
    return image


def naive_wrap(text, font, width):
    """Greedy, at single spaces; over-long words before the first code point that does not fit."""
    length = font.getlength
    lines = []
    for paragraph in text.split("\n"):
        line = None
        for word in paragraph.split(" "):
            candidate = word if line is None else line + " " + word
            if length(candidate) <= width:
                line = candidate
                continue
            if line is not None:
                lines.append(line)
            while length(word) > width and len(word) > 1:
                n = 1
                while n < len(word) and length(word[:n + 1]) <= width:
                    n += 1
                if n == len(word):
                    break
                lines.append(word[:n])
                word = word[n:]
            line = word
        lines.append(line)
    return lines


def pillow_page(job, lines):
    s = settings(job)
    font = font_of(s)
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    pitch = draw.textbbox((0, 0), "A", font=font)[3] + s["line_spacing_px"]
    height = s["page_height_px"] or 2 * s["padding_px"] + len(lines) * int(pitch)
    image = Image.new("RGB", (s["width_px"], height), s["background_color"])
    ImageDraw.Draw(image).text((s["padding_px"], s["padding_px"]), "\n".join(lines), font=font, fill=s["text_color"],
                               spacing=s["line_spacing_px"])
    return image


@pytest.fixture
def run_jobs(rotoscope, tmp_path):
    """Runs jobs, gives (reports, images as RGB arrays or None)."""

    def run(jobs, check=True, name="out"):
        path, out = tmp_path / f"{name}.jsonl", tmp_path / name
        path.write_text("".join(json.dumps(job) + "\n" for job in jobs), encoding="utf-8")
        done = rotoscope("render", "--jobs", path, "-o", out, "--json", check=check)
        reports = [json.loads(line) for line in done.stdout.decode().splitlines()]
        assert len(reports) == len(jobs)
        images = [Image.open(out / r["file"]).convert("RGB") if "file" in r else None for r in reports]
        assert sorted(p.name for p in out.iterdir()) == sorted(r["file"] for r in reports if "file" in r)
        return reports, images

    return run


def assert_same(job, ours, theirs):
    assert ours.size == theirs.size, job
    different = np.argwhere(np.asarray(ours) != np.asarray(theirs))
    assert len(different) == 0, (job, len(different), different[:3])


def test_pillow_has_raqm():
    assert features.check("raqm"), "Pillow silently lays out without raqm: install libfribidi0"


def test_published_widths(run_jobs):
    reports, images = run_jobs([{"text": text} for text, _ in PUBLISHED])
    assert [r["width"] for r in reports] == [width for _, width in PUBLISHED]
    for (text, _), image in zip(PUBLISHED, images):
        assert_same(text, image, pillow_line({"text": text}))
    released, _ = run_jobs([{"text": text, "preset": "rot-released", "size_px": 20} for text, _ in PUBLISHED], name="released")
    assert [r["width"] for r in released] == [945, 693, 1320, 4309, 3107, 2268]


def line_jobs(texts, seed):
    rng = random.Random(seed)
    jobs = []
    for i, text in enumerate(texts):
        job = {"text": text, "fonts": [FONT], "missing_glyph": "draw"}
        kind = i % 6
        if kind == 1:
            job["preset"] = "rot-released"
        elif kind == 2:
            job["layout"] = "basic"
        elif kind == 3:
            job.update(text_color="#%06x" % rng.randrange(1 << 24), background_color="#%06x" % rng.randrange(1 << 24))
        elif kind == 4:
            job.update(size_px=rng.choice([7, 11, 13, 24, 33, 48, 15.5]), height_px=rng.choice([16, 32, 40, 64]), padding_px=rng.choice([0, 3, 9]),
                       thought_markers=rng.random() < 0.5, newline=rng.choice(["space", "keep", "marker"]))
        elif kind == 5:
            job.update(fonts=[SERIF], layout=rng.choice(["raqm", "basic"]), text_color="#404040", background_color="#e0e0e0", newline="keep",
                       height_px=100)
        jobs.append(job)
    return jobs


def test_lines_equal_pillow_on_real_traces(run_jobs, traces):
    jobs = line_jobs(traces[:2400], 1)
    reports, images = run_jobs(jobs)
    for job, image in zip(jobs, images):
        assert_same(job, image, pillow_line(job))


def test_lines_equal_pillow_on_other_scripts(run_jobs):
    texts = [text for text in OTHER_SCRIPTS for _ in range(6)]
    jobs = line_jobs(texts, 2) + [{"text": t, "thought_markers": False, "missing_glyph": "draw", "padding_px": p} for t in OTHER_SCRIPTS if t for p in (4, 0)]
    reports, images = run_jobs(jobs)
    for job, image in zip(jobs, images):
        assert_same(job, image, pillow_line(job))


def test_random_text_equals_pillow(run_jobs):
    rng = random.Random(3)
    alphabet = "abcxyzABCTVWfil0123456789     ()[]{}<>«»“”'.,;:!?+-*/=$%&^_\\éüßŁıµ×²½–’…→∞≤√αβД" + "אבمن\u0301"
    jobs = []
    for i in range(600):
        pool = alphabet if i % 3 else alphabet[:-30]
        text = "".join(rng.choice(pool) for _ in range(rng.randrange(1, 80)))
        jobs.append({"text": text, "thought_markers": bool(i % 2), "missing_glyph": "draw", "size_px": [20, 16, 24][i % 3]})
    reports, images = run_jobs(jobs)
    for job, image in zip(jobs, images):
        assert_same(job, image, pillow_line(job))


def test_random_settings_equal_pillow_in_every_font(run_jobs, traces):
    rng = random.Random(5)
    folder, jobs, files = "/usr/share/fonts/truetype/dejavu/", [], []
    names = {"DejaVu Sans Mono": "DejaVuSansMono.ttf", "DejaVu Serif": "DejaVuSerif.ttf", "DejaVuSans-Bold.ttf": "DejaVuSans-Bold.ttf",
             folder + "DejaVuSansMono-BoldOblique.ttf": "DejaVuSansMono-BoldOblique.ttf", "DejaVuSansCondensed.ttf": "DejaVuSansCondensed.ttf"}
    for text in traces[3000:3300]:
        name, size = rng.choice(sorted(names)), rng.choice([4, 5.5, 9, 10.5, 19.9, 28, 36, 55, 96])
        job = {"text": text[:rng.choice([1, 30, 500])], "fonts": [name], "missing_glyph": "draw", "size_px": size, "padding_px": rng.choice([0, 1, 7, 33]),
               "layout": rng.choice(["raqm", "basic"]), "text_color": "#%06x" % rng.randrange(1 << 24), "newline": rng.choice(["space", "marker", "keep"])}
        if rng.random() < 0.5:
            job.update(mode="page", width_px=rng.choice([130, 777, 1600]), line_spacing_px=rng.choice([0, 3, 20]))
        else:
            job["height_px"] = rng.choice([1, 8, 31, 64, 128])
        jobs.append(job)
        files.append(folder + names[name])
    reports, images = run_jobs(jobs)
    for job, path, report, image in zip(jobs, files, reports, images):
        job = {**job, "fonts": [path]}
        if job.get("mode") != "page":
            assert_same(job, image, pillow_line(job))
            continue
        s = settings(job)
        assert report["lines"] == naive_wrap(drawn_text(job, s), font_of(s), s["width_px"] - 2 * s["padding_px"]), job
        assert_same(job, image, pillow_page(job, report["lines"]))


@pytest.mark.parametrize("spacing", [0, 1.25, -2])
@pytest.mark.parametrize("blend", ["over", "max"])
def test_glyphs_blend_where_they_meet(run_jobs, blend, spacing):
    """Pillow draws every glyph alone; they meet here. An oblique font without kerning overlaps its neighbours."""
    rng = random.Random(6)
    name, size, pad = "/usr/share/fonts/truetype/dejavu/DejaVuSansMono-BoldOblique.ttf", 21, 8
    texts = ["".join(rng.choice("abfgjkwxyAVWTMfQ0123456789/()[]$%") for _ in range(40)) for _ in range(12)]
    _, images = run_jobs([{"text": t, "fonts": [name], "size_px": size, "padding_px": pad, "height_px": 48, "blend": blend,
                           "letter_spacing_px": spacing, "thought_markers": False} for t in texts])
    font, met = ImageFont.truetype(name, size), 0
    for text, image in zip(texts, images):
        mask, pen = np.zeros((48, image.width), np.int64), 0.0
        for c in text:
            alone = Image.new("L", (image.width, 48))
            ImageDraw.Draw(alone).text((pad + int((pen * 64 + 32) // 64), (48 - size) // 2), c, font=font, fill=255)
            glyph = np.asarray(alone, np.int64)
            both = mask * (255 - glyph) + 128
            over = glyph + ((both >> 8) + both >> 8)
            met += int(((mask > 0) & (glyph > 0)).sum())
            mask = np.where((mask > 0) & (glyph > 0) & (blend == "over"), over, np.maximum(mask, glyph))
            pen += font.getlength(c) + spacing
        assert np.array_equal(np.asarray(image)[:, :, 0], 255 - mask), text
    assert met > 20 or spacing > 0


def test_pages_equal_pillow_and_a_naive_wrapper(run_jobs, traces):
    rng = random.Random(4)
    jobs = []
    for i, text in enumerate(traces[2400:2960]):
        if i % 7 == 0:
            text = text.replace(". ", ".\n\n") + "\n"
        if i % 7 == 1:
            text = text.replace(" ", "", 40)
        if i % 7 == 2:
            text = text + "  two  spaces   three    \n    indented"
        job = {"text": text, "mode": "page", "missing_glyph": "draw", "width_px": rng.choice([60, 200, 333, 512, 1024]), "fonts": [FONT]}
        if i % 3 == 0:
            job["newline"] = "keep"
        if i % 5 == 0:
            job.update(line_spacing_px=rng.choice([0, 1, 10]), padding_px=rng.choice([0, 12]), size_px=rng.choice([12, 18]))
        if i % 5 == 1:
            job.update(text_color="#102030", background_color="#fff0e0")
        if i % 5 == 2:
            job["layout"] = "basic"
        if i % 9 == 3:
            job["page_height_px"] = 4096 * 4
        jobs.append(job)
    reports, images = run_jobs(jobs)
    for job, report, image in zip(jobs, reports, images):
        s = settings(job)
        lines = naive_wrap(drawn_text(job, s), font_of(s), s["width_px"] - 2 * s["padding_px"])
        assert report["lines"] == lines, job
        assert_same(job, image, pillow_page(job, report["lines"]))


def test_bidi_pages_equal_pillow(run_jobs):
    jobs = [{"text": " ".join(OTHER_SCRIPTS), "mode": "page", "width_px": w, "missing_glyph": "draw", "thought_markers": m}
            for w in (120, 400, 700) for m in (False, True)]
    reports, images = run_jobs(jobs)
    for job, report, image in zip(jobs, reports, images):
        s = settings(job)
        assert report["lines"] == naive_wrap(drawn_text(job, s), font_of(s), s["width_px"] - 8)
        assert_same(job, image, pillow_page(job, report["lines"]))


def test_overflow_names_what_is_needed_and_stops_no_other_job(run_jobs):
    jobs = [{"text": "word " * 100, "mode": "page", "width_px": 200, "page_height_px": 100}, {"text": "fits", "mode": "page", "page_height_px": 100}]
    reports, images = run_jobs(jobs, check=False)
    assert "page_height_px" in reports[0]["error"] and images[0] is None
    assert reports[1]["file"] == "000001.pgm" and reports[1]["height"] == 100


def test_bad_jobs_keep_their_numbers(rotoscope, tmp_path):
    (tmp_path / "jobs.jsonl").write_bytes(b'{"text": "a"}\n{"text": 5}\nnonsense\n{"text": "\\u0000"}\n{"text": "\xff"}\n'
                                          b'{"text": "b", "size_px": "big"}\n{"text": "c", "sise_px": 3}\n{"text": "\xe4\xb8\xad"}\n'
                                          b'{"text": "d", "fonts": ["nowhere.ttf"]}\n{"text": "e", "text_color": "#ff0000"}\n')
    done = rotoscope("render", "--jobs", tmp_path / "jobs.jsonl", "-o", tmp_path / "out dir", check=False)
    assert done.returncode == 1
    reports = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert [("error" in r) for r in reports] == [False] + [True] * 8 + [False]
    for report, word in zip(reports[1:9], ["text", "", "U+0000", "", "size_px", "sise_px", "U+4E2D", "nowhere.ttf"]):
        assert word in report["error"], report
    assert sorted(p.name for p in (tmp_path / "out dir").iterdir()) == ["000000.pgm", "000009.ppm"]


def test_text_to_png_file_and_stdout(rotoscope, tmp_path):
    rotoscope("render", "x = 42", "-o", tmp_path / "a.png", "--set", "render.size_px=24")
    piped = rotoscope("render", "x = 42", "-o", "-", "--set", "size_px=24")
    assert (tmp_path / "a.png").read_bytes() == piped.stdout
    assert_same("png", Image.open(tmp_path / "a.png").convert("RGB"), pillow_line({"text": "x = 42", "size_px": 24}))
    rotoscope("render", "x", "-o", tmp_path / "a.ppm", "--set", "render.text_color=#ff0000", "--set", f"render.fonts=[{SERIF}]")
    theirs = pillow_line({"text": "x", "text_color": "#ff0000", "fonts": [SERIF]})
    assert_same("ppm", Image.open(tmp_path / "a.ppm"), theirs)
    done = rotoscope("render", "x", "-o", tmp_path / "a.pgm", "--set", "render.text_color=#ff0000", check=False)
    assert done.returncode == 2 and b".ppm" in done.stderr
    done = rotoscope("render", "中", "-o", tmp_path / "b.png", check=False)
    assert done.returncode == 1 and b"U+4E2D" in done.stderr
    done = rotoscope("render", "x", "-o", tmp_path / "b.png", "--set", "render.fonts=No Such Family", check=False)
    assert done.returncode == 2 and b"No Such Family" in done.stderr


def test_settings_of_the_command_line_are_the_base_of_jobs(rotoscope, tmp_path):
    (tmp_path / "jobs.jsonl").write_text('{"text": "a"}\n{"size_px": 30, "preset": "rot-released", "text": "b"}\n')
    rotoscope("render", "--jobs", tmp_path / "jobs.jsonl", "-o", tmp_path / "o", "--set", "render.size_px=24", "--set", "thought_markers=false")
    assert_same("a", Image.open(tmp_path / "o/000000.pgm").convert("RGB"), pillow_line({"text": "a", "size_px": 24, "thought_markers": False}))
    done = rotoscope("render", "--jobs", tmp_path / "jobs.jsonl", "-o", tmp_path / "o", "--set", "render.sise_px=24", check=False)
    assert done.returncode == 2 and b"sise_px" in done.stderr
    (tmp_path / "o" / "mine.txt").write_text("precious")
    done = rotoscope("render", "--jobs", tmp_path / "jobs.jsonl", "-o", tmp_path / "o", check=False)
    assert done.returncode == 2 and b"mine.txt" in done.stderr and (tmp_path / "o" / "mine.txt").exists()


def test_jobs_may_name_a_preset_after_other_keys(run_jobs):
    text = "two\nlines"
    reports, images = run_jobs([{"size_px": 30, "text": text, "preset": "rot-released"}])
    assert_same(text, images[0], pillow_line({"text": text, "preset": "rot-released", "size_px": 30}))


def test_threads_change_nothing(rotoscope, tmp_path, traces):
    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps({"text": t, "missing_glyph": "draw"}) + "\n" for t in traces[:300]))
    outs = []
    for n in (1, 4):
        done = rotoscope("render", "--jobs", tmp_path / "jobs.jsonl", "-o", tmp_path / f"out{n}", "--threads", n)
        outs.append((done.stdout, [p.read_bytes() for p in sorted((tmp_path / f"out{n}").iterdir())]))
    assert outs[0] == outs[1] and len(outs[0][1]) == 300
