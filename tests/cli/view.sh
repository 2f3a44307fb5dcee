#!/bin/sh
# The viewer: pages of a store over HTTP, what it refuses, a damaged record, signals.
. "$(dirname "$0")/lib.sh"
. "$TOP/tests/cli/build_lib.sh"

{
    rows 30
    echo '{"id": "<b>&amp; ü", "question": "<script>alert(1)</script>", "cot": "1 < 2 & 3 > 2", "answer": "\"yes\""}'
    printf '{"id": "long", "question": "q", "cot": "%02000d", "answer": "0"}\n' 0 # no geometry takes it
    echo 'broken'
} >rows.jsonl
config v rows.jsonl "$encode" "on: {bad_row: skip, too_large: skip}"
expect 0 "" rotoscope build -q -c v.yaml
expect 0 "" rotoscope inspect out-v/v.json 4 --png four.png
expect 0 "" rotoscope inspect out-v/v.json 4 --json
mv out.txt four.json
expect 2 "DATASET" rotoscope view
expect 2 "no.json" rotoscope view no.json
expect 2 "65536" rotoscope view out-v/v.json --port 65536
find out-v -type f -exec stat -c '%n %Y %i %s' {} + | sort >before.txt

# serve FILE DATASET [OPTION...]: the first line that it writes is in FILE, its process in $server.
serve() {
    file=$1
    shift
    rm -f "$file"
    "$ROTOSCOPE" view "$@" >"$file" 2>err.txt </dev/null &
    server=$!
    for _ in $(seq 300); do
        [ -s "$file" ] && return
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    fail "it does not serve: $*"
    cat err.txt
}
# stop SIGNAL: of the server; it is to end with 0.
stop() {
    kill -s "$1" "$server"
    wait "$server"
    code=$?
    [ "$code" = 0 ] || fail "exit $code, not 0, by SIG$1"
}

serve url.txt out-v/v.json --port 0
python3 - "$(cat url.txt)" <<'END' || fail "the pages"
import html.parser, http.client, json, re, sys, urllib.parse
place = urllib.parse.urlsplit(sys.argv[1])
assert place.hostname == "127.0.0.1" and place.path == "/", place
void = {"meta", "input", "br"}
class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.stack, self.tags, self.links = [], [], []
        self.feed(text)
        assert not self.stack, self.stack
    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k == "href" and tag == "a"]
        assert all(v.startswith("data:image/png;base64,") for k, v in attrs if k in ("src", "href") and tag != "a")
        if tag not in void: self.stack.append(tag)
    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in void: self.stack.pop()
    def handle_endtag(self, tag):
        assert self.stack and self.stack.pop() == tag, tag
def ask(path, method="GET", **headers):
    c = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
    c.request(method, path, headers=headers)
    r = c.getresponse()
    body = r.read()
    return r.status, r, body
def page(path, status=200):
    got, r, body = ask(path)
    assert got == status, (path, got, body)
    assert r.getheader("Content-Type") == "text/html; charset=utf-8"
    assert "default-src 'none'" in r.getheader("Content-Security-Policy")
    text = body.decode()
    p = Page(text)
    assert "script" not in p.tags and "b" not in p.tags, "text is not escaped"
    return text, p

text, p = page("/")
assert "/split/train" in p.links and "/report" in p.links and json.load(open("out-v/v.json"))["root"] in text
seen, path = [], "/split/train"
while path: # all rows, by the links
    text, p = page(path)
    seen += [int(r) for r in re.findall(r'<a href="/split/train/(\d+)">row \1</a>', text)]
    path = next((l for l in p.links if l.startswith("/split/train?from=") and int(l.split("=")[1]) > seen[-1]), None)
assert seen == list(range(33)), seen
text, _ = page("/split/train?from=30")
assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "&quot;yes&quot;" in text and "id &lt;b&gt;&amp;amp; ü" in text
assert text.count("skipped: ") == 2 and "skipped: too-large; id long" in text and "row 29" not in text
text, _ = page("/split/train/4")
one = json.load(open("four.json"))
for word in (one["trace"], one["embeds"]["xxh3_128"], one["image"]["xxh3_128"], f"K = {one['embeds']['k']}"):
    assert word in text, word
for row, cause in ((31, "too-large"), (32, "json")):
    text, _ = page(f"/split/train/{row}")
    assert "skipped: " + cause in text and f"<code>{cause}" in text, text[-2000:]
status, r, body = ask("/split/train/4.png")
assert status == 200 and r.getheader("Content-Type") == "image/png" and body == open("four.png", "rb").read()
status, r, body = ask("/split/train?id=" + urllib.parse.quote("<b>&amp; ü") + "&from=")
assert status == 303 and r.getheader("Location") == "/split/train/30", (status, r.getheader("Location"))
assert "Rendered traces" in page("/report")[0]
for path, status in (("/x", 404), ("/split/", 404), ("/split/none", 404), ("/split/train/", 404), ("/split/train/4x", 404),
                     ("/split/train/33", 404), ("/split/train/33.png", 404), ("/split/train/32.png", 404),
                     ("/split/train/-1", 404), ("/split/train/99999999999999999999", 404), ("/split/trainx", 404),
                     ("/split/train?id=r99", 404), ("/split/train?from=33", 404), ("/split/train?from=x", 400),
                     ("/split/../../etc/passwd", 404), ("/split/%2e%2e/v.yaml", 404)):
    page(path, status)
assert ask("/", Host="evil.example")[0] == 403 and ask("/", Host="localhost.evil.example:80")[0] == 403
assert ask("/", Host="localhost:9000")[0] == 200
assert ask("/", "POST")[0] == 405
listening = [line.split()[1] for line in open("/proc/net/tcp") if line.split()[3] == "0A"]
assert f"0100007F:{place.port:04X}" in listening and f"00000000:{place.port:04X}" not in listening, "not this machine alone"
status, r, body = ask("/split/train/4.png", "HEAD")
assert status == 200 and body == b"" and int(r.getheader("Content-Length")) == len(open("four.png", "rb").read())
END
port=$(sed 's/.*:\([0-9]*\).*/\1/' url.txt)
expect 1 "cannot listen on 127.0.0.1:$port" rotoscope view out-v/v.json --port "$port"
stop INT
find out-v -type f ! -name '*.idx' ! -path '*index*' -exec stat -c '%n %Y %i %s' {} + | sort >after.txt
cmp -s before.txt after.txt || fail "looking changed the store: $(diff before.txt after.txt)"

# A damaged record is named in its place; the others stand.
shard=$(find out-v/stages -path '*images-*' -name 'shard-*' | sort | head -n 1)
python3 - "$shard" <<'END'
import sys
with open(sys.argv[1], "r+b") as f:
    n = f.seek(0, 2)
    f.seek(n // 2)
    b = f.read(64)
    f.seek(n // 2)
    f.write(bytes(x ^ 0x55 for x in b))
END
serve url.txt out-v/v.json --port 0 --json
python3 - "$(cat url.txt)" <<'END' || fail "the pages of a damaged store"
import json, sys, urllib.error, urllib.request
url = json.loads(sys.argv[1])["url"]
text = urllib.request.urlopen(url + "split/train").read().decode()
assert 'class="error"' in text and "images-" in text, text[-2000:]
assert "row 0</a>" in text and "row 23</a>" in text
try:
    for row in range(31): urllib.request.urlopen(f"{url}split/train/{row}").read()
    raise SystemExit("no row is damaged")
except urllib.error.HTTPError as e:
    assert e.code == 500 and b"images-" in e.read()
END
stop TERM
finish
