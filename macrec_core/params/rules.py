"""Rules between sections of params.yaml, each broken one a line `name=value: rule`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from macrec_core.params.baselines import (
    STAMPSpec,
    modalities_read,
)
from macrec_core.params.data import PublishedSource
from macrec_core.params.variant_rules import membership_problems
from macrec_core.params.whole import RESERVED_NAMES, Params
from macrec_core.ranking import ENSEMBLE, YARDSTICKS


def axis_problems(params: Params) -> list[str]:
    """Of the lists that span the runs, and of names."""
    return [
        *_list_problems(params), *_specification_problems(params), *_name_problems(params),
        *_multimodal_problems(params), *_dataset_problems(params),
    ]  # fmt: skip


def _list_problems(params: Params) -> list[str]:
    """Values that occur twice, and lists that leave nothing to train."""
    axes: dict[str, list[Any]] = {
        "datasets": params.datasets,
        "variants": params.variants,
        "baselines": params.baselines,
        "multimodal_baselines": params.multimodal_baselines,
        "ensembles": params.ensembles,
        "seeds": params.seeds,
        "modalities": params.modalities,
    }
    problems = [
        f"{name}={values}: a value occurs twice; name each once"
        for name, values in axes.items()
        if len(set(values)) != len(values)
    ]
    if not params.variants and not params.baselines and not params.multimodal_baselines:
        problems.append(
            "variants=[], baselines=[], multimodal_baselines=[]: nothing to train; name one"
        )
    return problems


def _specification_problems(params: Params) -> list[str]:
    """Names without a specification."""
    return [
        f"{axis}={name}: has no entry in {section}; add one"
        for axis, names, section in (
            ("datasets", params.datasets, "dataset_specs"),
            ("variants", params.variants, "variant_specs"),
            ("baselines", params.baselines, "baseline_specs"),
            ("multimodal_baselines", params.multimodal_baselines, "baseline_specs"),
            ("ensembles", params.ensembles, "ensemble_specs"),
        )
        for name in names
        if name not in getattr(params, section)
    ]


def _name_problems(params: Params) -> list[str]:
    """Names that two recommenders have, or a recommender and the report."""
    variants, baselines = params.variants, params.baselines
    multimodal = params.multimodal_baselines
    return [
        f"{axis}={name}: {reason}; use another name"
        for axis, names, others in (
            ("baselines", baselines, [*variants, *multimodal]),
            ("multimodal_baselines", multimodal, [*variants, *baselines]),
            ("ensembles", params.ensembles, [*variants, *baselines, *multimodal]),
        )
        for name in names
        for reason in _taken(name, others)
    ]


def _dataset_problems(params: Params) -> list[str]:
    """Where the IDs of each dataset come from."""
    lists = ("learned_datasets", "imported_datasets")
    problems = membership_problems("datasets", params.datasets, params, lists)
    for name in params.imported_datasets:
        spec = params.dataset_specs.get(name)
        if spec is not None and not (isinstance(spec, PublishedSource) and spec.index_files):
            problems.append(
                f"imported_datasets={name}: needs source 'published' with index_files; "
                "otherwise list it in learned_datasets"
            )
    return problems


def _taken(name: str, others: Sequence[str]) -> list[str]:
    """Why a recommender may not have a name: rows and folders go by it."""
    reasons = ["another recommender has it too"] if name in others else []
    return reasons + (["it is taken in the report"] if name in RESERVED_NAMES else [])


def ensemble_problems(params: Params) -> list[str]:
    """Members of the ensembles that run, which must run as well."""
    problems = []
    for name in params.ensembles:
        spec = params.ensemble_specs.get(name)
        for member in spec.members if spec is not None else ():
            what = f"ensemble_specs.{name}.members: source {member.source!r}, list {member.list!r}"
            if member.source in params.variants:
                variant = params.variant_specs.get(member.source)
                lists = [*(variant.modalities if variant else ()), ENSEMBLE]
            elif member.source in {*params.baselines, *YARDSTICKS}:
                lists = [member.source]
                if member.source == "ease" and params.yardsticks.ease_regularization is None:
                    problems.append(
                        f"{what}: yardsticks.ease_regularization=null leaves it out; give a number"
                    )
            elif member.source in params.multimodal_baselines:
                lists = [member.source]
                if params.imported_datasets:
                    problems.append(
                        f"{what}: runs on learned_datasets alone, and ensembles run on "
                        f"imported_datasets={params.imported_datasets} too; remove either"
                    )
            else:
                problems.append(
                    f"{what}: the source is neither in variants nor in baselines, nor one of "
                    f"{list(YARDSTICKS)}; add it there or remove it here"
                )
                continue
            if member.list not in lists:
                problems.append(f"{what}: the source's lists are {lists}; name one of them")
    return problems


def _multimodal_problems(params: Params) -> list[str]:
    """Which list a baseline belongs into, and whether what it reads is made."""
    problems = []
    for axis, wanted in (("baselines", False), ("multimodal_baselines", True)):
        for name in getattr(params, axis):
            spec = params.baseline_specs.get(name)
            if spec is None:
                continue
            read = modalities_read(spec)
            if bool(read) != wanted:
                reads, other = ("no", "baselines") if wanted else ("the", "multimodal_baselines")
                problems.append(
                    f"{axis}={name}: model {spec.model!r} reads {reads} embeddings of the items; "
                    f"list it in {other}"
                )
            unknown = [m for m in read if m not in params.modalities]
            if unknown:
                problems.append(
                    f"baseline_specs.{name}.modalities={read}: {unknown} not in "
                    f"modalities={list(params.modalities)}; add them there or remove them here"
                )
    if params.multimodal_baselines and not params.learned_datasets:
        problems.append(
            f"multimodal_baselines={params.multimodal_baselines}: they run on learned_datasets, "
            "of which there are none; name one or empty the list"
        )
    return problems


def baseline_problems(params: Params) -> list[str]:
    """Of baselines with what they change of `sequential`."""
    problems = []
    for name, spec in params.baseline_specs.items():
        width = params.sequential_of(name).hidden_size
        heads = getattr(spec, "num_heads", 1)  # recurrent networks have none
        if width % heads:
            problems.append(
                f"baseline_specs.{name}.num_heads={heads}: must divide "
                f"sequential.hidden_size={width}; change either"
            )
        if isinstance(spec, STAMPSpec):
            problems += [
                f"baseline_specs.{name}.sequential.{knob}: STAMP has no such size; remove it"
                for knob in ("num_layers", "inner_size")
                if knob in spec.sequential
            ]
    return problems
