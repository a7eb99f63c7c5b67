"""The spaces that are searched: hyperparameters, their choices, and the configurations under a parameter ceiling."""

import itertools
import math
import random
from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from search.errors import UserError
from search.records.costs import cost_shown
from search.space.costs import Costs
from search.space.work import training_work
from wavemix.config import LiteConfig, Views

PUBLISHED_FAMILY = (
    "Published family: upstream's hyperparameters (final_dim, depth, mult, ff_channel, level, stem, stride, "
    "patch_size, dropout), plus the parameter-free up-sampling its README mentions (nearest, bilinear), plus unequal "
    "strides and zero padding of the image."
)
PUBLISHED = {
    "depth": tuple(range(1, 13)),
    "mult": (1, 2, 3),
    "level": (1, 2, 3),
    "upsampling": ("bilinear", "nearest", "deconv"),
    "initial_conv": ("strided", "patchify"),
    "stride": ("1,1", "2,1", "1,2", "2,2"),
    "patch_size": (2, 4),
    "pad": (0, 2),
    "ff_channel": ("C", "C/2"),
}
EXTENDED = PUBLISHED | {
    "depth": (*range(1, 17), 20, 24),
    "upsampling": (*PUBLISHED["upsampling"], "depthwise"),
    "initial_conv": ("strided", "single", "separable"),
    "kernel": (3, 5, 7),
    "shared": (0, 1, 2, 3, 4, 5, 6, 8, 10, 12),
    "affine": ("depth", "block", "one"),
    "bias": ("needed", "all"),
    "activation": ("gelu", "silu"),
    "stem_activation": (True, False),
    "cycle": (1, 2, 3),
}
GREY_DIMS = (4, 8, 12, 16, 20, 24)
COLOUR_DIMS = (8, 16, 24, 32, 40, 48, 64, 80, 96)
SAMPLE = 24  # configurations by whose measured latencies those of all others are predicted
DRAWN = 2000  # configurations of which the largest cost bounds a search without a limit of its own
ENUMERATED = 60_000  # combinations up to which a space is listed whole; larger ones are drawn from


class Space:
    """The configurations of one family for images (channels, height, width) below `ceiling` parameters.

    `choices` are the hyperparameters of a task whose values differ from a classifier's; `heads` are the heads to
    choose from, by name, where a task has several; `costs` says what is minimised and what other limits there are, by
    default the parameters and none; `views` are those that images may be seen in, the most first, for the extended
    family. Raises UserError where none fits, saying why.

    Attributes: those, `hyperparameters`, name -> choices, and `bound`, which the minimised cost has to be below: its
    limit, or where it has none the largest of many configurations.
    """

    def __init__(
        self,
        family: str,
        image: tuple[int, int, int],
        classes: int,
        ceiling: int,
        choices: Mapping[str, tuple] = MappingProxyType({}),
        heads: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
        costs: Costs | None = None,
        views: tuple[Views, ...] = ("one",),
    ):
        self.family, self.image, self.classes, self.ceiling, self.heads = family, image, classes, ceiling, heads
        self.hyperparameters: dict[str, tuple] = {"final_dim": GREY_DIMS if image[0] == 1 else COLOUR_DIMS}
        self.hyperparameters |= PUBLISHED if family == "published" else EXTENDED
        self.hyperparameters |= choices
        if family == "extended" and len(views) > 1:
            self.hyperparameters["views"] = views
        if heads:
            self.hyperparameters["head"] = tuple(heads)
        self.costs = costs or Costs(image)
        least = self._least()
        if not least:
            raise self._impossible(
                f"none fits images of {image[1]}x{image[2]} pixels: pad or crop them to a multiple of 4"
            )
        self.smallest = min(least, key=LiteConfig.parameters)
        if self.smallest.parameters() >= ceiling:
            raise self._impossible(
                f"the smallest has {self.smallest.parameters():,} parameters and the ceiling is {ceiling:,}: "
                "raise --max-parameters"
            )
        self._check_limits([config for config in least if config.parameters() < ceiling])
        self.bound = self._bound()

    def _least(self) -> list[LiteConfig]:
        """Those with the least of all that makes a network cost more (level 1 fits every image that any level fits)."""
        # a single block shares nothing and takes no turns, and an activation has no parameters: any one does
        least = {"final_dim", "depth", "mult", "level", "kernel", "shared", "affine", "cycle"}
        least |= {"activation", "stem_activation"}
        choices = [[min(values)] if name in least else values for name, values in self.hyperparameters.items()]
        built = (
            self.build(dict(zip(self.hyperparameters, combination))) for combination in itertools.product(*choices)
        )
        return list(dict.fromkeys(config for config in built if config))

    def _impossible(self, reason: str) -> UserError:
        return UserError(f"no configuration of the {self.family} family is possible: {reason}")

    def _check_limits(self, least: list[LiteConfig]) -> None:
        """Raise UserError for the first limit that none of `least` is below, of those that keep the limits before it:
        then none is at all."""
        costs = self.costs
        costs.measure(list(itertools.islice(self._below(math.inf, random.Random(0), limited=False), SAMPLE)))
        for name, limit in costs.limits.items():
            cheapest = min(least, key=partial(costs.cost, name))
            if name == "latency":
                costs.measure([cheapest])
            if costs.cost(name, cheapest) >= limit:
                said = cost_shown(name, costs.cost(name, cheapest)), cost_shown(name, limit)
                raise self._impossible("the least is {} and the limit is {}: raise --max-{}".format(*said, name))
            least = [config for config in least if costs.cost(name, config) < limit]

    def _bound(self) -> float:
        costs = self.costs
        if costs.minimise == "parameters":
            return self.ceiling
        if costs.minimise in costs.limits:
            return costs.limits[costs.minimise]
        return max(map(costs.of, self.configurations(0, math.inf, DRAWN)))

    def build(self, chosen: dict, below: float | None = None) -> LiteConfig | None:
        """The configuration of one choice a hyperparameter, or None where the choices do not go together.

        With `below`, also None where it has not fewer parameters than that.
        """
        chosen = dict(chosen)
        dim = chosen["final_dim"]
        if chosen["initial_conv"] == "patchify":
            chosen["stride"] = "1,1"
        else:
            chosen["patch_size"] = 4
        if chosen.get("kernel") and chosen["initial_conv"] != "single":
            chosen["kernel"] = 3
        if chosen.get("shared", 0) >= chosen["depth"]:  # with whom?
            chosen["shared"] = 0
        if chosen.get("affine") and (
            chosen["depth"] == 1 or (chosen["affine"] == "block" and not chosen.get("shared"))
        ):
            chosen["affine"] = "depth"  # with whom, and each depth is a block
        if chosen.get("cycle", 1) > 1:  # turns of what, and with whom?
            single = chosen["level"] == 1 and chosen["upsampling"] != "deconv"
            chosen["cycle"] = min(chosen["cycle"], chosen["depth"]) if single else 1
        chosen["ff_channel"] = dim if chosen["ff_channel"] == "C" else dim // 2
        if chosen["ff_channel"] != dim and self.family == "published" and chosen["upsampling"] != "deconv":
            return None
        chosen["stride"] = tuple(int(part) for part in chosen["stride"].split(","))
        chosen |= {"in_channels": self.image[0]} | ({"num_classes": self.classes} if self.classes else {})
        if self.heads:
            chosen["head"] = self.heads[chosen["head"]]
        try:
            config = LiteConfig(**chosen)
            if below is not None and config.parameters() >= below:
                return None
            config.check_image_size(*self.image[1:])
        except (ValidationError, ValueError):
            return None
        return config

    def work(self, config: LiteConfig, share: float = 1.0) -> float:
        """Relative cost of a training that has `share` times the usual number of epochs."""
        return training_work(config, *self.image[1:]) * share

    def hyperparameters_of(self, config: LiteConfig) -> dict | None:
        """The choices that `build` makes this configuration from, or None where it lies outside the space."""
        chosen = {name: getattr(config, name) for name in self.hyperparameters}
        if self.heads:
            chosen["head"] = next((n for n, head in self.heads.items() if _same_head(config, head)), None)
        chosen["stride"] = "{},{}".format(*config.stride)
        if config.initial_conv == "patchify" and chosen["stride"] not in self.hyperparameters["stride"]:
            chosen["stride"] = self.hyperparameters["stride"][0]  # patches have none: any choice builds the same
        chosen["ff_channel"] = {config.final_dim: "C", config.final_dim // 2: "C/2"}.get(config.ff_outputs)
        if (
            any(value not in self.hyperparameters[name] for name, value in chosen.items())
            or self.build(chosen) != config
        ):
            return None
        return chosen

    def near_published(self, dim: int, upsampling: str) -> dict | None:
        """Choices for a published width, as deep as fits below the ceiling, on half-size maps; None where none does.

        Of recorded curves (results/records/curves) the deep ones with mult 1 lie lowest for their parameters.
        """
        chosen = {name: values[0] for name, values in self.hyperparameters.items()}
        chosen |= {"final_dim": dim, "upsampling": upsampling, "mult": 1, "stride": "2,1"}
        chosen["initial_conv"] = "separable" if self.family == "extended" else "strided"
        built = (
            self.build(chosen | {"depth": depth}, self.ceiling) for depth in reversed(self.hyperparameters["depth"])
        )
        config = next((config for config in built if config is not None and self._inside(config, self.bound)), None)
        return None if config is None else self.hyperparameters_of(config)

    def configurations(self, seed: int, below: float, most: int = 4000) -> list[LiteConfig]:
        """Up to `most` distinct configurations that cost less than `below` and keep all limits, in an order given by
        `seed`."""
        found: dict[LiteConfig, None] = {self.smallest: None} if self._inside(self.smallest, below) else {}
        for config in self._below(below, random.Random(seed)):
            if len(found) >= most:
                break
            found[config] = None
        return list(found)

    def refused(self, config: LiteConfig) -> str | None:
        """Why a configuration is not proposed: it exceeds a limit, or looks at an image less often than it may, which
        saves nothing."""
        most, costs = self.hyperparameters.get("views", ("one",))[0], self.costs
        if config.views != most and not costs.counts_views:
            return f"one view of an image, where {most} costs as much"
        return costs.exceeded(config)

    def _inside(self, config: LiteConfig, below: float) -> bool:
        return self.costs.of(config) < below and not self.refused(config)

    def _below(self, below: float, rng: random.Random, limited: bool = True) -> Iterator[LiteConfig]:
        """Configurations that cost less than `below`; in random order, some more than once. Without `limited` limits
        and costs other than the parameters are not looked at."""
        most = below if self.costs.minimise == "parameters" and below < self.ceiling else self.ceiling
        choices = self.hyperparameters | {
            "final_dim": tuple(d for d in self.hyperparameters["final_dim"] if self._floor(d) < most)
        }
        names, choices = list(choices), list(choices.values())
        size = 1
        for values in choices:
            size *= len(values)
        if size <= ENUMERATED:
            combinations = list(itertools.product(*choices))
            rng.shuffle(combinations)
        else:
            combinations = ([rng.choice(values) for values in choices] for _ in range(ENUMERATED))
        for combination in combinations:
            config = self.build(dict(zip(names, combination)), most)
            if config is not None and not (limited and not self._inside(config, below)):
                yield config

    def _floor(self, dim: int) -> int:
        """A number of parameters that no network of this embedding is below: one block and the head without biases."""
        return 7 * dim * dim // 4 + dim * self.classes


def _same_head(config: LiteConfig, head: Mapping[str, Any]) -> bool:
    return config.head == type(config.head).model_validate(head) if config.task == head["task"] else False
