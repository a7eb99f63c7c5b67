"""WaveMix-Lite networks as models of timm (`pip install '.[timm]'`): importing this module registers them.

    import timm, wavemix.timm_models

    network = timm.create_model("wavemix_lite_mnist_1186", pretrained=True)
    timm.create_model("wavemix_lite", num_classes=5, final_dim=16, depth=4)  # any configuration, untrained

`wavemix_lite` takes the hyperparameters of `LiteConfig`. The other names are data and parameters of the networks in
results/index.json, where the published results are beside this package; weights are those of the file's first seed.
As with all models of timm images are normalised before they go in, by `pretrained_cfg["mean"]` and `["std"]`.
"""

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from safetensors import safe_open
from timm.models import (  # pyright: ignore[reportMissingImports]  # an extra
    build_model_with_cfg,
    generate_default_cfgs,
    register_model,
)
from torch import Tensor, nn

from .config import LiteConfig
from .lite import WaveMixLite
from .views import averaged

RESULTS = Path(__file__).resolve().parents[1] / "results"  # of a checkout; an installed package has none
CHANNELS = ("in_channels", "num_classes")  # which timm calls in_chans and num_classes, and gives itself


class TimmWaveMixLite(WaveMixLite):
    """`WaveMixLite` with what timm asks of a model; keys of the state dict are the same.

    Images (N, in_chans, H, W), normalised -> (N, num_classes). With `num_classes=0` it gives the pooled features
    (N, final_dim), with `global_pool=""` as well the map (N, final_dim, h, w). `drop_rate` is before the classifier,
    the configuration's `dropout` in the blocks. Raises ValueError for anything that `LiteConfig` refuses.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 10,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        **hyperparameters,
    ):
        super().__init__(LiteConfig(in_channels=in_chans, num_classes=max(num_classes, 2), **hyperparameters))
        if not hasattr(self, "pool"):
            raise ValueError("timm's models are classifiers: leave out the other head")
        self.in_chans, self.drop_rate = in_chans, drop_rate
        self.num_features = self.head_hidden_size = self.config.final_dim
        self.reset_classifier(num_classes, global_pool)

    def get_classifier(self) -> nn.Module:
        return self.pool[2]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        pool = self.global_pool if global_pool is None else global_pool
        if pool not in ("avg", "") or not pool and num_classes:
            raise ValueError(f"global_pool is 'avg', or '' without a classifier (num_classes=0), not {pool!r}")
        self.num_classes, self.global_pool = num_classes, pool
        head = self.pool[2]
        if not num_classes:
            self.pool[2] = nn.Identity()
        elif not isinstance(head, nn.Linear) or head.out_features != num_classes:
            self.pool[2] = nn.Linear(self.num_features, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, final_dim, h, w), the map after the last block."""
        self.config.check_image_size(*images.shape[-2:])
        x = self.conv(images)
        for depth in range(self.config.depth):
            x = x + self.layers[self.config.block(depth)](x, *self._norms(depth), depth)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The map after the last block -> scores, or with `pre_logits` the pooled features."""
        if not self.global_pool:
            return x
        x = F.dropout(self.pool[:2](x), self.drop_rate, self.training)
        return x if pre_logits else self.pool[2](x)

    def once(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))

    def forward(self, images: Tensor) -> Tensor:
        """A map of features is that of the image itself, without its other views."""
        views = self.config.views if self.global_pool and not self.training else "one"
        return averaged(views, self.once, images)


@dataclass(frozen=True)
class Published:
    """A stored network: its configuration, and what timm calls its pretrained configuration."""

    path: Path
    config: LiteConfig
    pretrained_cfg: dict[str, Any]

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return self.config.model_dump(exclude=set(CHANNELS))

    def state(self) -> dict[str, Tensor]:
        """The weights of the first seed."""
        with safe_open(self.path, "pt") as file:
            start = f"{json.loads(file.metadata()['seeds'])[0]}/"
            return {key.removeprefix(start): file.get_tensor(key) for key in file.keys() if key.startswith(start)}


def pretrained_cfg(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What timm has to know of a network's images and classes, of the "inputs" in a file of weights."""
    return {
        "input_size": tuple(inputs["shape"]),
        "mean": tuple(inputs["mean"]),
        "std": tuple(inputs["deviation"]),
        "num_classes": len(inputs["classes"]),
        "label_names": tuple(inputs["classes"]),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "first_conv": "conv.0",
        "classifier": "pool.2",
        "paper_ids": "arXiv:2205.14375",
    }


def published(results: Path = RESULTS) -> dict[str, Published]:
    """The networks of an index whose weights are there, by the names that they have in timm."""
    index = results / "index.json"
    found = {}
    for entry in json.loads(index.read_text("utf-8")) if index.is_file() else ():
        path = results / "weights" / entry["weights"]["file"] if entry["weights"] else results
        if not path.is_file() or entry.get("task", "classification") != "classification":
            continue
        with safe_open(path, "pt") as file:
            inputs = json.loads(file.metadata()["inputs"])
        name = f"wavemix_lite_{re.sub(r'[^a-z0-9]+', '_', entry['data']['name'].lower())}_{entry['parameters']}"
        config = LiteConfig.model_validate(entry["configuration"])
        found[name] = Published(path, config, pretrained_cfg(inputs) | {"file": str(path)})
    return found


def wavemix_lite(pretrained: bool = False, **options) -> nn.Module:
    """A network of any configuration: the options are hyperparameters of `LiteConfig`. Untrained."""
    return _built("wavemix_lite", pretrained, options)


def _built(name: str, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    if options.get("features_only"):
        raise RuntimeError("WaveMix-Lite has maps of one size alone: use forward_features in place of features_only")
    return build_model_with_cfg(TimmWaveMixLite, name, pretrained, **options)


def _stored(name: str, network: Published, pretrained: bool = False, **options) -> nn.Module:
    own = options.get("pretrained_cfg_overlay") or {}
    if pretrained:  # the file holds all seeds, which timm can't tell apart
        options["pretrained_cfg_overlay"] = {**own, "state_dict": network.state()}
    model: Any = _built(name, pretrained, network.hyperparameters | options)
    model.pretrained_cfg.pop("state_dict", None)
    return model


def _register() -> dict:
    """Register all of them, and return their pretrained configurations, which timm looks for in the module."""
    stored = published()
    anything: dict[str, Any] = {
        "num_classes": 10,
        "input_size": (3, 32, 32),
        "first_conv": "conv.0",
        "classifier": "pool.2",
    }
    known: dict[str, Any] = {"wavemix_lite": anything}
    configurations = generate_default_cfgs(known | {name: own.pretrained_cfg for name, own in stored.items()})
    globals()["default_cfgs"] = configurations
    register_model(wavemix_lite)
    for name, network in stored.items():
        entry: Any = functools.partial(_stored, name, network)
        entry.__name__, entry.__module__ = name, __name__  # by which timm registers it
        register_model(entry)
    return configurations


default_cfgs = _register()
