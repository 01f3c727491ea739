"""What every section of params.yaml is: its base and the ranges of its values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
_NAME = r"^[a-z][a-z0-9_]*$"
Name = Annotated[str, Field(pattern=_NAME)]

# Of a semantic ID: one letter a level in tokens, and T5's exact relative positions end at 16.
MAX_LEVELS = 15
# Modality of IDs that are made of interactions: no embedding stands behind it.
COLLABORATIVE = "collab"


# Sections of discriminated unions, which put their tag into the third place of an error's location;
# the user's key path has no such part.
_TAGGED = ("dataset_specs", "embed", "baseline_specs")


class Section(BaseModel):
    """Base of every section: immutable, strictly typed, finite, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def broken_rule(error: Any) -> str:  # noqa: ANN401 - ErrorDetails, a TypedDict of mixed types
    """One `name=value: rule` line of a pydantic error."""
    location = list(error["loc"])
    if len(location) > 2 and location[0] in _TAGGED:
        del location[2]
    name = ".".join(str(part) for part in location)
    rules = {
        "missing": "is missing: add it (presets/ holds complete files)",
        "extra_forbidden": "is unknown: remove it or correct its name",
    }
    rule = rules.get(error["type"], error["msg"].removeprefix("Value error, "))
    if error.get("ctx", {}).get("pattern") == _NAME:
        rule = "must be small letters, digits and underscores, a letter first; rename it"
    if error["type"] == "missing" or isinstance(error["input"], Mapping):
        return f"{name}: {rule}"
    return f"{name}={error['input']!r}: {rule}"
