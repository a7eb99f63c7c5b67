"""timm: a folder of weights and config.json, as timm's hub has it. It needs `wavemix.timm_models` to be loaded again.

A model of timm takes normalised images, and its `pretrained_cfg` says how: timm's own transforms do it.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from search.export.silence import quiet
from search.extras import needed
from search.inference.ready import Ready

SUFFIX = "-timm"


def write(ready: Ready, name: str, path: Path) -> list[str]:
    """Write model.safetensors and config.json to the new folder `path`."""
    needed("timm", "timm")
    with quiet():
        from timm.models import create_model, save_for_hf  # pyright: ignore[reportMissingImports]

        from wavemix import timm_models

    config = ready.lite.config
    described = timm_models.pretrained_cfg(ready.inputs.model_dump())
    hyperparameters = config.model_dump(exclude={*timm_models.CHANNELS})
    with quiet():
        model = create_model(
            "wavemix_lite", pretrained_cfg=described | {"architecture": "wavemix_lite"}, **hyperparameters
        )
        model.load_state_dict(ready.lite.state_dict())
        save_for_hf(model, str(path), safe_serialization=True)
    return [f'load: import timm, wavemix.timm_models; timm.create_model("local-dir:{name}{SUFFIX}", pretrained=True)']


def scores(path: Path, images: Tensor) -> Tensor:
    """What the loaded model makes of images (N, channels, height, width), normalised as its configuration says."""
    with quiet(), torch.no_grad():
        from timm.models import create_model  # pyright: ignore[reportMissingImports]

        model = create_model(f"local-dir:{path}", pretrained=True).eval()
        described: Any = model.pretrained_cfg
        mean, deviation = (torch.tensor(described[key])[:, None, None] for key in ("mean", "std"))
        return model((images - mean) / deviation)
