"""What searches of tests do less of; it changes whatever process imports this, as the tests' own and its forks do.

Candidates are drawn from a tenth of what others are drawn from, which spares a second every few trials. What is drawn
is the subject of few tests; these have `WHOLE`. The migrations of Optuna's tables, which are the same for every
database, are read once, not three times for each.
"""

from alembic.config import Config
from alembic.script import ScriptDirectory

from search.space import configurations

WHOLE = configurations.ENUMERATED
configurations.ENUMERATED = WHOLE // 10

_read = ScriptDirectory.from_config
_found: dict[str | None, ScriptDirectory] = {}


def _once(config: Config) -> ScriptDirectory:
    place = config.get_main_option("script_location")
    if place not in _found:
        _found[place] = _read(config)
    return _found[place]


ScriptDirectory.from_config = _once
