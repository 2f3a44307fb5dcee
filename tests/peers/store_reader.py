"""A reader of the store, written from schemas/FORMAT.md alone: lmdb, zstandard, numpy and xxhash."""
import hashlib
import json
import pathlib
import struct

import lmdb
import numpy as np
import xxhash
import zstandard

KINDS = {1: "tokens", 2: "image", 3: "embeds", 4: "tombstone", 5: "block", 6: "trailer"}
DTYPES = {0: np.dtype("u1"), 1: np.dtype("<u2"), 2: np.dtype("<f4"), 3: np.dtype("<i4")}
TRAILER_KEY = 2**64 - 1


class Corrupt(Exception):
    pass


def need(condition, what):
    if not condition:
        raise Corrupt(what)


def read_sealed(path):
    """The JSON object in a file, and whether it has a seal; a seal that does not fit raises."""
    text = path.read_bytes()
    data = json.loads(text)
    inner = data.get("provenance", {})
    seal = data.get("sha256") or inner.get("sha256")
    if seal is None:
        return data, False
    end = b'"sha256": "' + seal.encode() + (b'"\n}\n' if "sha256" in data else b'"\n  }\n}\n')
    need(text.endswith(end), f"{path}: no seal at the end")
    need(hashlib.sha256(text[: -len(end)]).hexdigest() == seal, f"{path}: seal")
    return data, True


class Header:
    SIZE = 48

    def __init__(self, raw):
        magic, version, self.kind, self.dtype, self.codec = struct.unpack_from("<I4B", raw, 0)
        self.shape = struct.unpack_from("<4I", raw, 8)
        self.n_logical, self.n_stored = struct.unpack_from("<2I", raw, 24)
        self.hash = bytes(raw[32:48])
        self.raw = bytes(raw[:48])
        need(magic == 0x31544F52 and version == 1, "magic or version")
        need(self.kind in KINDS and self.dtype in DTYPES, "kind or dtype")
        need((self.codec == 0) == (self.n_logical == self.n_stored), "lengths")

    def content(self, stored):
        if self.codec == 0:
            return bytes(stored)
        if self.codec == 1:
            return zstandard.ZstdDecompressor().decompress(bytes(stored), self.n_logical)
        need(self.codec == 2 and self.dtype == 1, "codec")
        half = self.n_logical // 2
        frame = bytes(stored[: self.n_stored - half])
        high = np.frombuffer(zstandard.ZstdDecompressor().decompress(frame, half), np.uint8).astype(np.uint16)
        y = high << 8 | np.frombuffer(stored, np.uint8)[self.n_stored - half :]
        return (y >> 1 | y << 15).astype("<u2").tobytes()

    def check(self, content):
        need(len(content) == self.n_logical, "length of the content")
        prefix = struct.pack("<6I", self.kind, self.dtype, *self.shape)
        need(xxhash.xxh3_128_digest(prefix + content) == self.hash, "record hash")


class Record:
    def __init__(self, header, content):
        self.kind, self.shape, self.hash, self.content = KINDS[header.kind], header.shape, header.hash, content
        self.dtype = DTYPES[header.dtype]

    def array(self):
        """(width, height, channels) pixels, or (K, d) embeddings, bf16 as uint16."""
        shape = self.shape[:3] if self.kind == "image" else self.shape[:2]
        return np.frombuffer(self.content, self.dtype).reshape(shape)

    def cause(self):
        return self.content.decode()

    def tokens(self):
        """{"question", "trace", "answer": ids}, [id, question, trace, answer: texts]"""
        names, at, ids, texts = ("question", "trace", "answer"), 0, {}, []
        for name, n in zip(names, self.shape):
            ids[name] = np.frombuffer(self.content, "<i4", n, at)
            at += 4 * n
        sizes = struct.unpack_from("<4I", self.content, at)
        at += 16
        need(sum(sizes) == self.shape[3], "text lengths")
        for n in sizes:
            texts.append(self.content[at : at + n].decode())
            at += n
        need(at == len(self.content), "length of a tokens record")
        return ids, texts


class Stage:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.info, sealed = read_sealed(self.folder / "stage.json")
        need(sealed and self.info["format"] == 1, "stage.json")
        self.envs = {}

    def __len__(self):
        return self.info["rows"]

    def shard(self, number):
        if number not in self.envs:
            path = self.folder / self.info["shards"][number]["name"]
            need(path.stat().st_size == self.info["shards"][number]["bytes"], f"{path}: size")
            self.envs[number] = lmdb.open(str(path), readonly=True, lock=False, subdir=False)
        return self.envs[number]

    def values(self, number):
        """(key, header, stored) of every value of a shard, in order."""
        with self.shard(number).begin() as txn:
            for key, value in txn.cursor():
                header = Header(value)
                need(len(value) == 48 + header.n_stored, "length of a value")
                yield struct.unpack("<Q", key)[0], header, value[48:]

    def members(self, header, stored):
        content = header.content(stored)
        header.check(content)
        at = 0
        for _ in range(header.shape[0]):
            member = Header(content[at : at + 48])
            need(member.kind < 5, "a block in a block")
            inner = content[at + 48 : at + 48 + member.n_stored]
            record = Record(member, member.content(inner))
            member.check(record.content)
            yield record
            at += (48 + member.n_stored + 15) // 16 * 16
        need(at == len(content), "length of a block")

    def __getitem__(self, row):
        with self.shard(row // self.info["layout"]["shard_samples"]).begin() as txn:
            cursor = txn.cursor()
            found = cursor.set_range(struct.pack("<Q", row))
            if not found or struct.unpack("<Q", cursor.key())[0] != row:
                need(cursor.prev() if found else cursor.last(), "no key")
            key, value = struct.unpack("<Q", cursor.key())[0], cursor.value()
        header = Header(value)
        if header.kind != 5:
            need(key == row, "key")
            record = Record(header, header.content(value[48:]))
            header.check(record.content)
            return record
        need(header.shape[1] + (header.shape[2] << 32) == key, "first row of a block")
        return list(self.members(header, value[48:]))[row - key]

    def verify(self):
        """Everything that FORMAT.md says about hashes and counts."""
        root, rows, skipped, payload = hashlib.sha256(), 0, 0, 0
        per = self.info["layout"]["shard_samples"]
        for number, told in enumerate(self.info["shards"]):
            seals, hashes, first, gone, size, values = b"", [], rows, 0, 0, 0
            for key, header, stored in self.values(number):
                if header.kind == 6:
                    need(key == TRAILER_KEY and header.codec == 0, "trailer")
                    header.check(stored)
                    need(header.hash.hex() == told["hash"], "hash of the trailer")
                    need(stored[:32].hex() == self.info["fingerprint"], "fingerprint")
                    need(stored[32:48] == xxhash.xxh3_128_digest(seals), "data hash")
                    counts = struct.unpack_from("<6Q", stored, 48)
                    need(counts == (number, first, len(hashes), gone, size, values), f"counts {counts}")
                    need(stored[96:] == b"".join(hashes), "hashes in the trailer")
                    continue
                need(key == first + len(hashes), "key")
                values += 1
                seals += header.raw + (xxhash.xxh3_128_digest(stored) if header.codec else bytes(16))
                records = self.members(header, stored) if header.kind == 5 else [Record(header, header.content(stored))]
                for record in records:
                    if header.kind != 5:
                        header.check(record.content)
                    root.update(struct.pack("<Q", first + len(hashes)) + record.hash)
                    hashes.append(record.hash)
                    gone += record.kind == "tombstone"
                    size += len(record.content) if record.kind != "tombstone" else 0
            need(len(hashes) == told["rows"] == min(per, self.info["rows"] - first), "rows")
            rows, skipped, payload = rows + len(hashes), skipped + gone, payload + size
        need(rows == self.info["rows"] and skipped == self.info["skipped"], "counts")
        need(payload == self.info["payload_bytes"], "payload_bytes")
        need(root.hexdigest() == self.info["root"], "root")
        return rows

    def folder_name(self):
        layout = self.info["layout"]
        codec = ["none", "zstd", "zstd-bf16"].index(layout["codec"])
        tail = struct.pack("<3I", codec, layout["shard_samples"], layout["commit_samples"])
        return self.info["stage"] + "-" + hashlib.sha256(bytes.fromhex(self.info["fingerprint"]) + tail).hexdigest()[:16]


class Dataset:
    def __init__(self, path):
        path = pathlib.Path(path)
        self.info, _ = read_sealed(path)
        need(self.info["format"] == 1, "format")
        root = hashlib.sha256()
        for name, split in sorted(self.info["splits"].items(), key=lambda item: item[0].encode()):
            for stage in ("tokens", "images", "embeds"):
                if stage in split["stages"]:
                    root.update(name.encode() + b"\0" + stage.encode() + b"\0")
                    root.update(bytes.fromhex(split["stages"][stage]["root"]))
        need(root.hexdigest() == self.info["root"], "root of the dataset")
        self.stages = {
            (name, stage): Stage(path.parent / where["path"])
            for name, split in self.info["splits"].items()
            for stage, where in split["stages"].items()
        }

    def verify(self):
        for (name, stage), opened in self.stages.items():
            where = self.info["splits"][name]["stages"][stage]
            need(opened.info["root"] == where["root"], f"root of {name}/{stage}")
            need(opened.info["fingerprint"] == where["fingerprint"], f"fingerprint of {name}/{stage}")
            opened.verify()
