"""The experiments of a sweep as `dvc exp run --queue` commands."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from macrec_core.errors import MacrecError
from macrec_core.params.evaluation import SweepParams
from macrec_core.params.loading import validate_params
from macrec_core.params.section import COLLABORATIVE
from macrec_core.params.whole import Params

Value = int | float
# Section and key that a sweep sets; those of the weights a level are `_weights`' work.
_KEYS = {
    "codebook_size": ("quant", "codebook_size"),
    "num_levels": ("quant", "num_levels"),
    "first_level": ("quant", "lambda_con"),
    "lambda_con": ("quant", "lambda_con"),
    "lambda_align": ("quant", "lambda_align"),
    "lambda_implicit": ("gr", "lambda_implicit"),
}
NAMES = tuple(_KEYS)


def grid_of(sweeps: SweepParams, name: str) -> list[Value]:
    """The values of a sweep.

    Raises:
        MacrecError: there is no such sweep.
    """
    grids: dict[str, Sequence[Value]] = {
        "codebook_size": sweeps.codebook_size,
        "num_levels": sweeps.num_levels,
        "first_level": sweeps.first_level,
        "lambda_con": sweeps.lambda_con,
        "lambda_align": sweeps.lambda_align,
        "lambda_implicit": sweeps.lambda_implicit,
    }
    if name not in grids:
        raise MacrecError(f"sweep {name!r}: is unknown; choose one of {list(NAMES)}")
    return list(grids[name])


def experiment_name(name: str, variant: str, value: Value) -> str:
    """`sweep-NAME-VARIANT-VALUE`, as `dvc exp show` lists it."""
    return f"sweep-{name}-{variant}-{value:g}"


def sweep_commands(raw: Mapping[str, Any], name: str, variant: str) -> list[str]:
    """One shell command a value; the parameters of each are validated.

    An experiment trains the swept variant alone: no other, and no baseline.

    Args:
        raw: the parsed parameters file, valid.
        name: of the sweep.
        variant: swept.

    Raises:
        MacrecError: an unknown sweep or variant, one that the sweep would not reach, or a value
            that breaks a rule of params.yaml.
    """
    params = validate_params(raw, "params.yaml")
    values = grid_of(params.sweeps, name)
    _check_reaches(params, name, variant)
    commands = []
    for value in values:
        changes = {**_axes(params, variant), **_changes(params, name, value)}
        validate_params(_changed(raw, changes), f"sweep {name}, value {value:g}")
        words = ["dvc", "exp", "run", "--queue", "-n", experiment_name(name, variant, value)]
        for key, change in changes.items():
            words += ["-S", f"{key}={_text(change)}"]
        commands.append(shlex.join(words))
    return commands


def _check_reaches(params: Params, name: str, variant: str) -> None:
    section, key = _KEYS[name]
    modalities = params.modalities_of(variant)  # raises for an unknown variant
    if variant not in params.variants and modalities == [COLLABORATIVE]:
        raise MacrecError(
            f"sweep {name}: variant {variant} does not run, and its modalities={modalities} do not "
            "tell whether its IDs are quantized or clustered; add it to variants and to "
            "quantized_variants, clustered_variants or visual_variants"
        )
    if section == "quant" and variant in params.clustered_variants + params.visual_variants:
        raise MacrecError(
            f"sweep {name}: IDs of {variant} are clusters of the interactions, which do not read "
            "quant, so that every value would train the same; sweep a variant of "
            "quantized_variants"
        )
    if section == "quant" and not params.learned_datasets:
        raise MacrecError(
            f"sweep {name}: learned_datasets is empty, and imported IDs do not depend on it; sweep "
            "lambda_implicit, or learn IDs"
        )
    if key in getattr(params.variant_specs[variant], section):
        raise MacrecError(
            f"sweep {name}: variant_specs.{variant}.{section} sets {key} itself, so that every "
            "value would train the same; sweep another variant"
        )


def _axes(params: Params, variant: str) -> dict[str, Any]:
    """Only the swept variant, on every axis of variants; no baselines and no ensembles."""
    axes: dict[str, Any] = {"variants": [variant]}
    for field in type(params).model_fields:
        if field.endswith("_variants"):
            axes[field] = [one for one in getattr(params, field) if one == variant]
        if field in ("baselines", "ensembles") or field.endswith("_baselines"):
            axes[field] = []
    kinds = [field for field in axes if field.endswith("_variants")]
    if not any(axes[field] for field in kinds):  # one that does not run without the sweep
        # Not of clustered IDs: `_check_reaches` has refused what may be.
        axes["quantized_variants"] = [variant]
    return axes


def _changes(params: Params, name: str, value: Value) -> dict[str, Any]:
    """What a value sets, by dotted key."""
    section, key = _KEYS[name]
    if key == "lambda_con":
        return {"quant.lambda_con": _weights(params, name, value)}
    changes: dict[str, Any] = {f"{section}.{key}": value}
    if name == "num_levels":
        # One weight a level: that of variants which do not run is validated too.
        levels = int(value)
        changes["quant.lambda_con"] = _resized(params.quant.lambda_con, levels)
        for variant, spec in params.variant_specs.items():
            weights = spec.quant.get("lambda_con")
            if isinstance(weights, list) and "num_levels" not in spec.quant:
                resized = _resized(weights, levels)
                changes[f"variant_specs.{variant}.quant.lambda_con"] = resized
    return changes


def _resized(weights: Sequence[float], levels: int) -> list[float]:
    """The first `levels` weights; further levels get the last one."""
    return [weights[min(level, len(weights) - 1)] for level in range(levels)]


def _weights(params: Params, name: str, value: Value) -> list[float]:
    """`quant.lambda_con` of a sweep over the weight or over the first level that has it."""
    weights = params.quant.lambda_con
    used = {weight for weight in weights if weight}
    if len(used) != 1:
        raise MacrecError(
            f"sweep {name}: quant.lambda_con={weights} has {len(used)} different weights other "
            "than 0; give one"
        )
    if name == "lambda_con":
        return [float(value) if weight else 0.0 for weight in weights]
    if value > len(weights):
        raise MacrecError(
            f"sweeps.first_level={value:g}: must be at most quant.num_levels={len(weights)}, at "
            "which no level has the loss"
        )
    return [used.copy().pop() if level >= value else 0.0 for level in range(len(weights))]


def _changed(raw: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as DVC would write them."""
    changed = copy.deepcopy(dict(raw))
    for key, value in changes.items():
        *path, last = key.split(".")
        section = changed
        for step in path:
            section = section[step]
        section[last] = value
    return changed


def _text(value: object) -> str:
    """A value in the grammar of `-S`."""
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return str(value)
