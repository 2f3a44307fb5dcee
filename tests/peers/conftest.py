"""What the peer tests share: the program under test, and real inputs where they are at hand."""
import os
import pathlib
import subprocess

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as tests/run, and before torch is loaded
TOP = pathlib.Path(__file__).resolve().parents[2]
SHARED = pathlib.Path(os.environ.get("ROT_SHARED", TOP.parent / "shared"))


@pytest.fixture(scope="session")
def rotoscope():
    """Runs the program: rotoscope("render", ...) -> CompletedProcess with bytes; check=False to allow failure."""
    program = TOP / os.environ.get("BUILD", "build") / "rotoscope"

    def run(*args, check=True, **kwargs):
        done = subprocess.run([program, *map(str, args)], capture_output=True, **kwargs)
        if check and done.returncode != 0:
            raise AssertionError(f"{args}: exit {done.returncode}\n{done.stderr.decode(errors='replace')}")
        return done

    return run


@pytest.fixture(scope="session")
def shared():
    """The folder of real data sets and tokenizers; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder of real inputs (ROT_SHARED)")
    return SHARED
