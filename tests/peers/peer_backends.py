"""Which backends of the encoder compute in bf16 on this machine."""


def bf16_backends(case, monkeypatch, emulate):
    """Their names, one after another; what ROT_CPU, this machine or this build lacks is left out. With `emulate` amx a
    second time, on its tiles in C: slow. While a name is dealt with, --backend means what it says."""
    out = case.folder / "probe.safetensors"
    for name in ("onednn", "amx", "ref"):
        done = case.rotoscope("encode", "-m", case.checkpoint, case.images[-1], "-o", out, "--backend", name, check=False)
        if done.returncode == 2 and name.encode() in done.stderr:
            assert name != "ref"
            continue
        assert done.returncode == 0, done.stderr
        yield name
    if emulate:
        monkeypatch.setenv("ROT_AMX_EMULATE", "1")
        yield "amx"
