"""Rules of variants, each broken one a line `name=value: rule`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from macrec_core.params.data import CooccurrenceSvdEncoder
from macrec_core.params.section import COLLABORATIVE, MAX_LEVELS
from macrec_core.params.whole import RESERVED_NAMES, Params


def variant_problems(params: Params) -> list[str]:
    """Of the variants that run: names, modalities, tasks."""
    problems = []
    for name in params.variants:
        if name in RESERVED_NAMES:
            problems.append(
                f"variants={name}: the name is taken by a folder or row of the pipeline; use "
                "another"
            )
        spec = params.variant_specs.get(name)
        if spec is None:
            continue
        unknown = [m for m in spec.modalities if m not in params.modalities]
        if unknown and name in params.quantized_variants:
            clusters = spec.modalities == [COLLABORATIVE]
            problems.append(
                f"variant_specs.{name}.modalities={spec.modalities}: {unknown} not in "
                f"modalities={list(params.modalities)}; add them there or remove them here"
                + (", or, if its IDs are clusters, list it in clustered_variants" * clusters)
            )
        tasks = spec.seq2seq.get("tasks", params.seq2seq.tasks)
        aligned = [task for task in tasks if task != "recommend"]
        if aligned and len(spec.modalities) < 2:
            problems.append(
                f"variant_specs.{name}.seq2seq.tasks={tasks}: {aligned} need two modalities, the "
                f"variant has {spec.modalities}; give it tasks: [recommend]"
            )
    return problems


def membership_problems(
    axis: str, names: Sequence[str], params: Params, lists: Sequence[str]
) -> list[str]:
    """Names that do not stand in exactly one of some lists, and what these name besides."""
    found = Counter(name for each in lists for name in getattr(params, each))
    problems = [
        f"{axis}={name}: stands {found[name]} times in {', '.join(lists)}; put it into just one"
        for name in dict.fromkeys(names)
        if found[name] != 1
    ]
    return problems + [
        f"{each}={name}: is not in {axis}; add it there or remove it here"
        for each in lists
        for name in getattr(params, each)
        if name not in names
    ]


def unquantized_problems(params: Params) -> list[str]:
    """Rules of the lists that say where a variant's IDs come from."""
    problems = []
    unquantized = params.clustered_variants + params.visual_variants
    lists = ("quantized_variants", "clustered_variants", "visual_variants")
    problems += membership_problems("variants", params.variants, params, lists)
    for name in unquantized:
        spec = params.variant_specs.get(name)
        if spec is not None and spec.modalities != [COLLABORATIVE]:
            problems.append(
                f"variant_specs.{name}.modalities={spec.modalities}: IDs of clustered interactions "
                f"are [{COLLABORATIVE}]; set that or list the variant in quantized_variants"
            )
    if params.visual_variants and params.imported_datasets:
        problems.append(
            f"visual_variants={params.visual_variants}: need image embeddings, which "
            f"imported_datasets={params.imported_datasets} have none of; empty either"
        )
    if params.visual_variants and "image" not in params.modalities:
        problems.append(
            f"visual_variants={params.visual_variants}: need 'image' in "
            f"modalities={list(params.modalities)}; add it or empty visual_variants"
        )
    return problems


def letter_problems(params: Params) -> list[str]:
    """What LETTER's terms ask for, of the variants that run and have them."""
    problems = []
    encoder = params.embed.collab
    for name in params.quantized_variants:
        quant = params.quant_of(name)
        if quant.lambda_diversity and 2 * quant.diversity_clusters > quant.codebook_size:
            problems.append(
                f"variants={name}: its quant.diversity_clusters={quant.diversity_clusters} must be "
                f"at most half of quant.codebook_size={quant.codebook_size}, so that every code "
                "has another in its cluster; lower it"
            )
        if not quant.lambda_collab:
            continue
        prefix = f"variants={name}: its quant.lambda_collab={quant.lambda_collab}"
        if "collab" not in params.modalities:
            problems.append(
                f"{prefix} needs collaborative embeddings, but modalities={params.modalities} "
                "lacks 'collab'; add it"
            )
        if isinstance(encoder, CooccurrenceSvdEncoder) and encoder.width != quant.latent_dim:
            problems.append(
                f"{prefix} compares latents of width quant.latent_dim={quant.latent_dim} with "
                f"embeddings of embed.collab.width={encoder.width}; make them equal"
            )
    return problems


def level_problems(params: Params) -> list[str]:
    """Of the number of levels with the one that `ids.conflicts` may add."""
    problems = []
    for name in params.quantized_variants:
        levels = params.quant_of(name).num_levels
        if params.ids_of(name).conflicts == "extra_level" and levels == MAX_LEVELS:
            problems.append(
                f"variants={name}: quant.num_levels={levels} and one more by "
                f"ids.conflicts='extra_level' are above the {MAX_LEVELS} that an ID may have; "
                "lower quant.num_levels"
            )
    return problems


def unread_problems(params: Params) -> list[str]:
    """Overrides of the quantizer and its IDs, of variants that have neither."""
    return [
        f"variant_specs.{name}.{section}={overrides}: IDs of clustered interactions do not read "
        f"{section}; set it to {{}}"
        for name in params.clustered_variants + params.visual_variants
        if name in params.variant_specs
        for section in ("quant", "ids")
        if (overrides := getattr(params.variant_specs[name], section))
    ]


def single_modality_problems(params: Params) -> list[str]:
    """Weights of terms between modalities, of the variants that run and have only one."""
    problems = []
    for name in params.variants:
        if len(params.modalities_of(name)) > 1:
            continue
        weights: dict[str, float | list[float]] = {}
        # Imported IDs were quantized elsewhere.
        if name in params.quantized_variants and params.learned_datasets:
            quant = params.quant_of(name)
            weights["quant.lambda_con"] = quant.lambda_con if any(quant.lambda_con) else 0.0
            weights["quant.lambda_align"] = quant.lambda_align
        weights["gr.lambda_implicit"] = params.gr_of(name).lambda_implicit
        problems += [
            f"variants={name}: its {knob}={weight} weighs a term between two modalities, the "
            f"variant has {params.modalities_of(name)}; set variant_specs.{name}.{knob} to 0.0"
            for knob, weight in weights.items()
            if weight
        ]
    return problems


def twin_problems(params: Params) -> list[str]:
    """Variants that would be the same training under several names."""
    axes = {
        "clustered_variants": params.clustered_variants,
        "visual_variants": params.visual_variants,
    }
    if not params.learned_datasets:
        axes = {"quantized_variants": params.quantized_variants} | axes
    problems = []
    for axis, variants in axes.items():
        groups: dict[tuple[str, ...], list[str]] = {}
        for name in variants:
            read = (
                *params.modalities_of(name),
                params.seq2seq_of(name).model_dump_json(),
                params.gr_of(name).model_dump_json(),
            )
            groups.setdefault(read, []).append(name)
        problems += [
            f"{axis}: {names} have the same modalities, seq2seq and gr, and IDs that are imported "
            "or clustered read neither quant nor ids: they are one training under "
            f"{len(names)} names; keep one, or change its seq2seq or gr"
            for names in groups.values()
            if len(names) > 1
        ]
    return problems
