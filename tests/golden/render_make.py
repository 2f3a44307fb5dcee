"""Writes tests/golden/render.tsv: what Pillow draws. Run by hand, with Pillow 13.0.0 (raqm 0.11.0, FreeType
2.14.3, HarfBuzz 14.5.0) and DejaVuSans 2.37: python tests/golden/render_make.py > tests/golden/render.tsv"""
import hashlib

from PIL import Image, ImageDraw, ImageFont

FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
CASES = [  # size, height, padding, newline, layout, markers, text colour, background, text
    (20, 32, 4, "space", "raqm", 1, "#000000", "#ffffff", "He sprints 3*3=<<3*3=9>>9 times\\nSo he runs 9*60=<<9*60=540>>540 meters."),
    (20, 32, 4, "space", "raqm", 1, "#000000", "#ffffff", ""),
    (16, 32, 4, "keep", "raqm", 1, "#000000", "#ffffff", "First line\\nsecond, longer than the first line by far"),
    (20, 32, 4, "marker", "raqm", 0, "#000000", "#ffffff", "a\\nb"),
    (20, 32, 4, "space", "basic", 0, "#000000", "#ffffff", "AVAVAVAV To Ty fi ffi"),
    (20, 32, 4, "space", "raqm", 0, "#000000", "#ffffff", "AVAVAVAV To Ty fi ffi"),
    (33, 48, 0, "space", "raqm", 0, "#000000", "#ffffff", "Tj fjord"),
    (20, 32, 4, "space", "raqm", 0, "#102030", "#fff0e0", "colour on colour"),
    (20, 32, 4, "space", "raqm", 0, "#404040", "#c0c0c0", "grey on grey"),
    (20, 32, 4, "space", "raqm", 0, "#000000", "#ffffff", "שלום (12) עולם abc"),
    (20, 32, 4, "space", "raqm", 0, "#000000", "#ffffff", "مرحبا 3 * 4 = 12"),
    (20, 32, 4, "space", "raqm", 0, "#000000", "#ffffff", "e\u0301 a\u0308 x\u20d7 z\u0323\u0307"),
    (20, 32, 4, "space", "raqm", 0, "#000000", "#ffffff", "2 (a)"),
    (20, 32, 4, "space", "raqm", 0, "#000000", "#ffffff", "1 “L”"),  # the last quote is a run of its own: no kern
    (20, 32, 4, "space", "raqm", 0, "#000000", "#ffffff", "a \u202bאב   "),  # spaces at the end: to the paragraph's level
    (20, 40, 4, "space", "raqm", 0, "#000000", "#ffffff", "x\u0302\u0304\u0301 T\u0308\u0300 \u05d1\u05bc\u05b0"),  # marks on marks
    (20, 32, 4, "space", "raqm", 0, "#000000", "#ffffff", "a\u200bb\ufe0fc"),
    (12, 20, 2, "keep", "raqm", 0, "#000000", "#ffffff", "\\n\\n"),
    (48, 32, 4, "space", "raqm", 0, "#000000", "#ffffff", "taller than the canvas: Ågy"),
]

print("# made by tests/golden/render_make.py; the hash is SHA-256 of the RGB bytes, row by row")
print("# size\theight\tpadding\tnewline\tlayout\tmarkers\ttext_color\tbackground_color\twidth\tsha256\ttext")
for size, height, padding, newline, layout, markers, fill, background, text in CASES:
    drawn = text.replace("\\n", {"space": " ", "keep": "\n", "marker": "↵"}[newline])
    if markers:
        drawn = "<|begin_of_thought|>  " + drawn + "  <|end_of_thought|>"
    font = ImageFont.truetype(FONT, size, layout_engine=getattr(ImageFont.Layout, layout.upper()))
    box = ImageDraw.Draw(Image.new("RGB", (1, 1))).textbbox((0, 0), drawn, font=font)
    image = Image.new("RGB", (int(box[2] - box[0]) + 2 * padding, height), background)
    ImageDraw.Draw(image).text((padding, (height - size) // 2), drawn, font=font, fill=fill)
    print(size, height, padding, newline, layout, markers, fill, background, image.width,
          hashlib.sha256(image.tobytes()).hexdigest(), text, sep="\t")
