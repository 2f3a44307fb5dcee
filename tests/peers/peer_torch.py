"""torch, torchvision and transformers, ready for comparisons. Import this before any of them.

torchvision's compiled operators do not load beside a CPU build of torch from another index. Nothing here
uses them, but torchvision registers meta kernels for them on import, so they are declared first. Beside a CUDA build
they load, and declare themselves."""
import pathlib

import torch

TOP = pathlib.Path(__file__).resolve().parents[2]

if torch.version.cuda is None:
    _library = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"):
        _library.define(_name + "(Tensor a, Tensor b, float c) -> Tensor")

import torchvision  # noqa: E402,F401
import transformers  # noqa: E402,F401

transformers.logging.set_verbosity_error()
