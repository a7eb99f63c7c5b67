"""Searches of tests draw their candidates from a tenth of what others do: a second less for every few trials.

Set where this is imported, which the tests' own process and the one that forks others do. What is drawn is the subject
of few tests; these have `WHOLE`.
"""

from search.space import configurations

WHOLE = configurations.ENUMERATED
configurations.ENUMERATED = WHOLE // 10
