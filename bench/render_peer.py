"""Pillow's rate on the lines of bench/render.c (argument: that program), and the ratio to ours."""
import subprocess
import sys
import time

from PIL import Image, ImageDraw, ImageFont, __version__

program = sys.argv[1]
lines = subprocess.run([program, "--lines"], capture_output=True, text=True, check=True).stdout.split("\n")[:1000]
font = ImageFont.truetype("DejaVuSans.ttf", 20)
best = 0.0
for _ in range(3):
    start = time.perf_counter()
    for line in lines:
        box = ImageDraw.Draw(Image.new("RGB", (1, 1))).textbbox((0, 0), line, font=font)
        image = Image.new("RGB", (int(box[2] - box[0]) + 8, 32), "white")
        ImageDraw.Draw(image).text((4, 6), line, font=font, fill="black")
    best = max(best, len(lines) / (time.perf_counter() - start))
ours = subprocess.run([program], capture_output=True, text=True, check=True).stdout
print(ours, end="")
print(f"Pillow {__version__}\t{best:.0f}\t\t")
for row in ours.splitlines()[1:]:
    case, rate, *_ = row.split("\t")
    print(f"ratio, {case}\t{float(rate) / best:.1f}\t\t")
