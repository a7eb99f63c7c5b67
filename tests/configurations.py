"""Random configurations for property tests."""

from hypothesis import strategies as st

from wavemix import LiteConfig


def configurations(deepest: int, **hyperparameters: st.SearchStrategy) -> st.SearchStrategy[LiteConfig]:
    """Depths of 1 to `deepest`, every number of shared blocks that a depth can have, the others as they are given."""
    return st.integers(1, deepest).flatmap(
        lambda depth: st.builds(LiteConfig, depth=st.just(depth), shared=st.integers(0, depth), **hyperparameters)
    )
