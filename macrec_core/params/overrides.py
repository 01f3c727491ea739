"""Rules of sections that overrides break, where the section itself breaks none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from macrec_core.params.baselines import SequentialParams
from macrec_core.params.quantizer import IdParams, QuantParams
from macrec_core.params.recommender import GrParams, Seq2SeqParams
from macrec_core.params.section import Section, broken_rule


def override_problems(raw: Mapping[str, Any]) -> list[str]:
    """Rules that overrides break, where the section itself breaks none."""
    problems: list[str] = []
    sections: dict[str, type[Section]] = {
        "quant": QuantParams,
        "ids": IdParams,
        "seq2seq": Seq2SeqParams,
        "gr": GrParams,
    }
    for section, model in sections.items():
        problems += _section_problems(raw, "variant_specs", section, model)
    return problems + _section_problems(raw, "baseline_specs", "sequential", SequentialParams)


def _section_problems(
    raw: Mapping[str, Any], specs_name: str, section: str, model: type[Section]
) -> list[str]:
    problems: list[str] = []
    specs = raw.get(specs_name)
    for name, spec in specs.items() if isinstance(specs, Mapping) else ():
        base, changes = raw.get(section), isinstance(spec, Mapping) and spec.get(section)
        if not (isinstance(base, Mapping) and isinstance(changes, Mapping) and changes):
            continue
        known = {broken_rule(e) for e in _errors_of(model, base)}
        prefix = f"{specs_name}.{name}.{section}"
        problems += [
            f"{prefix}.{broken_rule(e)}" if e["loc"] else f"{prefix}{broken_rule(e)}"
            for e in _errors_of(model, {**base, **changes})
            if broken_rule(e) not in known
        ]
    return problems


def _errors_of(model: type[Section], values: Mapping[str, Any]) -> list[Any]:
    try:
        model.model_validate(values)
    except ValidationError as error:
        return error.errors()
    return []
