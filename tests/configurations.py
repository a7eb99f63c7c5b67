"""Random configurations for property tests."""

from hypothesis import strategies as st

from wavemix import LiteConfig


def configurations(deepest: int, **hyperparameters: st.SearchStrategy) -> st.SearchStrategy[LiteConfig]:
    """Depths of 1 to `deepest`, every number of shared blocks that a depth can have, levels that blocks take turns in
    where they can, the others as they are given."""
    own = {"depth": st.integers(1, deepest), "shared": st.integers(0, deepest), "cycle": st.integers(1, 3)}
    return st.fixed_dictionaries(own | hyperparameters).map(_built)


def _built(chosen: dict) -> LiteConfig:
    takes_turns = chosen.get("level", 1) == 1 and chosen.get("upsampling") != "deconv"
    chosen["cycle"] = min(chosen["cycle"], chosen["depth"]) if takes_turns else 1
    return LiteConfig(**chosen | {"shared": min(chosen["shared"], chosen["depth"])})
