"""Reading params.yaml: loaded once, validated as a whole.

Every knob of the system stands in params.yaml; a section gives its type and range. An unknown,
missing, mistyped or out-of-range value is an error, and all errors are reported together as
`name=value: rule`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from macrec_core.errors import MacrecError
from macrec_core.params.overrides import override_problems
from macrec_core.params.rules import axis_problems, baseline_problems, ensemble_problems
from macrec_core.params.section import broken_rule
from macrec_core.params.variant_rules import (
    letter_problems,
    level_problems,
    single_modality_problems,
    twin_problems,
    unquantized_problems,
    unread_problems,
    variant_problems,
)
from macrec_core.params.whole import Params


def load_params(path: Path) -> Params:
    """Read and validate a params file.

    Raises:
        MacrecError: the file cannot be read or parsed, or any value breaks a rule; every
            broken rule is named, one a line.
    """
    return validate_params(_parsed(path), str(path))


def read_params(path: Path) -> Mapping[str, Any]:
    """Read a params file as it stands, but valid; see `load_params`."""
    raw = _parsed(path)
    validate_params(raw, str(path))
    assert isinstance(raw, Mapping)  # or it were not valid
    return raw


def _parsed(path: Path) -> object:
    try:
        # YAML 1.2 as DVC reads it: PyYAML would take 1e-3 for a string.
        return YAML(typ="safe", pure=True).load(path)
    except (OSError, YAMLError) as error:
        raise MacrecError(f"{path}: cannot be read as YAML: {error}") from error


def validate_params(raw: object, origin: str) -> Params:
    """Validate a parsed params mapping; see `load_params`."""
    if not isinstance(raw, Mapping):
        raise MacrecError(f"{origin}: holds {type(raw).__name__}, expected a mapping of sections")
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        # Overrides are checked on the raw sections, so that they are reported with the rest.
        problems = [broken_rule(e) for e in error.errors()] + override_problems(raw)
        raise _as_one_error(origin, problems) from error
    problems = [
        *axis_problems(params), *variant_problems(params), *unquantized_problems(params),
        *unread_problems(params), *ensemble_problems(params), *override_problems(raw),
    ]  # fmt: skip
    if not problems:  # of sections that are valid with their overrides
        problems = [
            *baseline_problems(params), *letter_problems(params), *level_problems(params),
            *single_modality_problems(params), *twin_problems(params),
        ]  # fmt: skip
    if problems:
        raise _as_one_error(origin, problems)
    return params


def _as_one_error(origin: str, problems: list[str]) -> MacrecError:
    return MacrecError(
        f"{origin}: {len(problems)} invalid parameter(s):\n  " + "\n  ".join(problems)
    )
