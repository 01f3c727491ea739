"""Section `network`: what `download` asks of servers, and what it refuses."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from macrec_core.params.section import NonNegativeInt, PositiveFloat, PositiveInt, Section

# A name of letters, digits, dots and hyphens; `*.` in front stands for all names below it.
Host = Annotated[
    str, Field(pattern=r"^(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$")
]


class NetworkParams(Section):
    """How patient `download` is with servers, whom it asks, and how much it takes."""

    allowed_hosts: Annotated[list[Host], Field(min_length=1)]
    allow_private_addresses: bool
    max_redirects: NonNegativeInt
    timeout_s: PositiveFloat
    attempts: PositiveInt
    first_wait_s: PositiveFloat
    max_wait_s: PositiveFloat
    max_file_bytes: PositiveInt
    max_unpacked_bytes: PositiveInt
    max_unpacked_ratio: PositiveFloat
    max_line_bytes: PositiveInt

    @model_validator(mode="after")
    def _waits_grow(self) -> Self:
        if self.max_wait_s < self.first_wait_s:
            raise ValueError(
                f"max_wait_s={self.max_wait_s}: must be at least first_wait_s={self.first_wait_s}"
            )
        return self
