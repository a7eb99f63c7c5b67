"""What every record says: when it was made, and where."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field

from search.records.environment import Environment, Model, environment

SCHEMA_VERSION = 1


def _utc(time: datetime) -> datetime:
    """`time` in UTC. Near the ends of the calendar no sum or difference of times can be made."""
    moved = time.astimezone(UTC) if 1 < time.year < 9999 else time
    if not 2000 <= moved.year < 3000:
        raise ValueError(f"the year {moved.year} is none of a run")
    return moved


Moment = Annotated[AwareDatetime, AfterValidator(_utc)]


class RecordBase(Model):
    """What every record says."""

    schema_version: Literal[1] = SCHEMA_VERSION
    created: Moment = Field(default_factory=lambda: datetime.now(UTC))
    environment: Environment = Field(default_factory=environment)
