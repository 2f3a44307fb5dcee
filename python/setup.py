"""Builds librotoscope.so with the project's Makefile and puts it into the wheel, and with it librotoscope_cuda.so
where nvcc and cuBLASLt are.

ROTOSCOPE_LIBRARY=PATH takes a library that is built already instead, and what lies beside it.
"""
import os
import pathlib
import re
import shutil
import subprocess

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70
    from wheel.bdist_wheel import bdist_wheel

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent


def version() -> str:
    for name in (TOP / "include/rotoscope/rotoscope.h", HERE / "PKG-INFO"):
        if name.is_file():
            found = re.search(r'(?:ROT_VERSION "|^Version: )([^"\n]+)', name.read_text(), re.M)
            if found:
                return found.group(1)
    raise SystemExit("rotoscope: no include/rotoscope/rotoscope.h: build from a checkout of the project")


def library() -> pathlib.Path:
    given = os.environ.get("ROTOSCOPE_LIBRARY")
    if given:
        return pathlib.Path(given).resolve(strict=True)
    if not (TOP / "Makefile").is_file():
        raise SystemExit("rotoscope: no Makefile above python/: set ROTOSCOPE_LIBRARY to a built librotoscope.so")
    build = os.environ.get("BUILD", "build")
    target = f"{build}/librotoscope.so"
    subprocess.run(["make", "-C", str(TOP), f"-j{len(os.sched_getaffinity(0))}", f"BUILD={build}", target, "cuda"],
                   check=True)
    return TOP / target


class BuildWithLibrary(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            to = pathlib.Path(self.build_lib) / "rotoscope"
            to.mkdir(parents=True, exist_ok=True)
            built = library()
            shutil.copyfile(built, to / "librotoscope.so")
            if (cuda := built.with_name("librotoscope_cuda.so")).is_file():
                shutil.copyfile(cuda, to / cuda.name)


class PlatformWheel(bdist_wheel):
    """Not bound to a version of Python, but to the platform of the library."""

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


class WithLibrary(Distribution):
    def has_ext_modules(self):
        return True


OPTIONS = {}
if (TOP / "Makefile").is_file():  # keep the checkout clean
    (TOP / "build/python").mkdir(parents=True, exist_ok=True)
    OPTIONS = {"build": {"build_base": str(TOP / "build/python")}, "egg_info": {"egg_base": str(TOP / "build/python")}}

setup(version=version(), options=OPTIONS, cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": PlatformWheel},
      distclass=WithLibrary)
