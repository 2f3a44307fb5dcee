#!/bin/sh
# The report: one file that fetches nothing, with the pictures of the store and the K of the embeddings.
. "$(dirname "$0")/lib.sh"
. "$TOP/tests/cli/build_lib.sh"

{
    rows 30
    echo '{"id": "<b>&amp;", "question": "<script>alert(1)</script>", "cot": "1 < 2 & 3 > 2", "answer": "\"yes\""}'
    echo 'broken'
} >rows.jsonl
config rep rows.jsonl "$encode" "on: {bad_row: skip}"
expect 0 "" rotoscope build -q -c rep.yaml
expect 0 "" rotoscope report out-rep/rep.json
[ -s out-rep/rep.html ] || fail "no page beside the dataset"
expect 0 "" rotoscope report out-rep/rep.json -o page.html
expect 0 "<!DOCTYPE html>" rotoscope report out-rep/rep.json -o -
cmp -s out.txt page.html || fail "stdout and file differ"
cmp -s out-rep/rep.html page.html || fail "two reports of one dataset differ"
expect 1 "cannot write" rotoscope report out-rep/rep.json -o no/such/folder/page.html
expect 2 "DATASET" rotoscope report

python3 - "$ROTOSCOPE" <<'END' || fail "the page"
import base64, html.parser, json, re, struct, subprocess, sys, zlib
text = open("page.html", encoding="utf-8").read()
stack, tags, srcs = [], [], []
void = {"meta", "input", "br"}
class P(html.parser.HTMLParser):
    def handle_starttag(self, tag, attrs):
        tags.append(tag)
        srcs.extend(v for k, v in attrs if k in ("src", "href"))
        if tag not in void: stack.append(tag)
    def handle_startendtag(self, tag, attrs):
        tags.append(tag)
        srcs.extend(v for k, v in attrs if k in ("src", "href"))
    def handle_endtag(self, tag):
        assert stack and stack.pop() == tag, tag
P().feed(text)
assert not stack, stack
assert "script" not in tags and "b" not in tags, "text is not escaped"
assert all(s.startswith("data:image/png;base64,") for s in srcs), "it fetches something"
assert "url(http" not in text and "@import" not in text
pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", text)
assert len(pictures) == 24, len(pictures)
rows = [int(r) for r in re.findall(r"row (\d+): drawn", text)]
drawn = re.findall(r"row (\d+): drawn (\d+) × (\d+) px, seen as (\d+) × (\d+) px, (\d+) rows? of merged tokens, K = (\d+)", text)
assert len(drawn) == 24, len(drawn)
widths = []
for picture, (row, w, h, sw, sh, lines, k) in zip(pictures, drawn):
    png = base64.b64decode(picture, validate=True)
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", png[16:24]) == (int(w), int(h))
    one = json.loads(subprocess.run([sys.argv[1], "inspect", "out-rep/rep.json", row, "--json"], capture_output=True, check=True).stdout)
    assert one["image"]["width"] == int(w)
    assert one["embeds"]["k"] == int(k) == int(sw) * int(sh) // 1024, (one["embeds"], k)
    assert int(lines) == int(sh) // 32
    widths.append(int(w))
assert widths == sorted(widths) and rows[0] != rows[-1]
assert "1 &lt; 2 &amp; 3 &gt; 2" in text
assert "Skipped rows" in text and "json" in text and "31" in text
for word in ("size_px", "tokens", "images", "embeds", "released", "Width", "merged vision tokens"):
    assert word in text, word
END

# Without embeddings there is no grid, without images no picture; both are pages.
sed '/^encode/d; s/rep/pix/' rep.yaml >pix.yaml
expect 0 "" rotoscope build -q -c pix.yaml
expect 0 "drawn" rotoscope report out-pix/pix.json -o -
grep -q "seen as" out.txt && fail "a grid without embeddings"
sed '/^encode/d; /^render/d; s/rep/tok/' rep.yaml >tok.yaml
expect 0 "" rotoscope build -q -c tok.yaml
expect 0 "text tokens" rotoscope report out-tok/tok.json -o -
grep -q "base64" out.txt && fail "a picture without images"

# A page of a broken store is an error, not a page.
shard=$(find out-pix/stages -path '*images-*' -name 'shard-*' | head -n 1)
: >"$shard"
expect 3 "" rotoscope report out-pix/pix.json -o bad.html
[ ! -e bad.html ] || fail "a page of a broken store"
finish
