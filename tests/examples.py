"""How many examples a property is tested on: fewer in every run, more where `--hypothesis-profile thorough` asks."""

from hypothesis import settings

# a stall says nothing about the code
settings.register_profile("any machine", deadline=None, max_examples=50)
settings.register_profile("thorough", deadline=None, max_examples=1000)
MORE = 20


def examples(count: int) -> int:
    """`count`, or in a thorough run twenty times as many."""
    return count * (MORE if settings.get_current_profile_name() == "thorough" else 1)
