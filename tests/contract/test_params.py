"""params.yaml and the presets against the typed sections that read them."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from ruamel.yaml import YAML

from macrec_core.errors import MacrecError
from macrec_core.params.loading import load_params, validate_params
from macrec_core.params.section import Section
from macrec_core.params.whole import Params

ROOT = Path(__file__).resolve().parents[2]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))

# Tags of the discriminated unions: pydantic chooses the class by them, the code by the class.
TAGS = {"source", "encoder", "model"}


def problems_of(raw: object) -> list[str]:
    """Lines of the error that the parameters raise, without its heading."""
    with pytest.raises(MacrecError) as caught:
        validate_params(raw, "test.yaml")
    heading, *lines = str(caught.value).splitlines()
    assert heading == f"test.yaml: {len(lines)} invalid parameter(s):"
    return [line.strip() for line in lines]


# ------------------------------------------------------------------------ one error at a time


def test_unknown_missing_mistyped_and_out_of_range_are_reported_together(raw_params):
    raw_params["quant"]["codebok_size"] = 8
    raw_params["unheard_of"] = 1
    del raw_params["gr"]["d_model"]
    del raw_params["images"]
    raw_params["gr"]["dropout"] = "0.1"
    raw_params["runtime"]["num_threads"] = True
    raw_params["quant"]["codebook_size"] = 1
    raw_params["eval"]["fusion"] = "best"
    assert sorted(problems_of(raw_params)) == [
        "eval.fusion='best': Input should be 'mean_plus_found', 'mean' or 'reciprocal_rank'",
        "gr.d_model: is missing: add it (presets/ holds complete files)",
        "gr.dropout='0.1': Input should be a valid number",
        "images: is missing: add it (presets/ holds complete files)",
        "quant.codebok_size=8: is unknown: remove it or correct its name",
        "quant.codebook_size=1: Input should be greater than or equal to 2",
        "runtime.num_threads=True: Input should be a valid integer",
        "unheard_of=1: is unknown: remove it or correct its name",
    ]


def test_an_error_inside_a_chosen_source_or_encoder_names_the_users_key(raw_params):
    raw_params["dataset_specs"]["sample"]["num_items"] = 0
    raw_params["embed"]["text"]["max_tokens"] = 1000
    assert sorted(problems_of(raw_params)) == [
        "dataset_specs.sample.num_items=0: Input should be greater than or equal to 1",
        "embed.text.max_tokens=1000: Input should be less than or equal to 512",
    ]


def test_a_weight_is_needed_for_every_level(raw_params):
    raw_params["quant"]["num_levels"] = 3
    (problem,) = problems_of(raw_params)
    assert problem.startswith("quant: lambda_con has 4 weights for num_levels=3")


@pytest.mark.parametrize("levels", [1, 3, 15])
def test_one_weight_may_stand_for_all_levels(raw_params, levels):
    raw_params["quant"].update(num_levels=levels, lambda_con=0.1)
    params = validate_params(raw_params, "test.yaml")
    assert params.quant.lambda_con == [0.1] * levels
    assert params.quant_of("without_contrastive").lambda_con == [0.0] * levels


def test_one_weight_for_all_levels_follows_a_variants_number_of_levels(raw_params):
    raw_params["quant"] |= {"lambda_con": 0, "lambda_align": 0.0}
    raw_params["variant_specs"] = {
        name: spec | {"quant": {}} for name, spec in raw_params["variant_specs"].items()
    }
    raw_params["variant_specs"]["macrec"]["quant"] = {"num_levels": 3}
    params = validate_params(raw_params, "test.yaml")
    assert params.quant_of("macrec").lambda_con == [0.0] * 3
    assert params.quant.lambda_con == [0.0] * 4


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf"), True, "0.1"])
def test_a_weight_for_all_levels_is_checked_once(raw_params, weight):
    raw_params["quant"]["lambda_con"] = weight
    (problem,) = problems_of(raw_params)
    assert problem.startswith("quant.lambda_con")


def test_a_wrong_number_of_levels_is_one_error_beside_a_weight_for_all(raw_params):
    raw_params["quant"].update(num_levels=10**9, lambda_con=0.1)
    raw_params["variant_specs"] = {
        name: spec | {"quant": {}} for name, spec in raw_params["variant_specs"].items()
    }
    (problem,) = problems_of(raw_params)
    assert problem == "quant.num_levels=1000000000: Input should be less than or equal to 15"


def test_every_variant_survives_a_sweep_of_levels(raw_params):
    raw_params["quant"].update(num_levels=3, lambda_con=[0.0, 0.1, 0.1])
    raw_params["variants"] = list(raw_params["variant_specs"])
    raw_params["quantized_variants"] = sorted({*raw_params["variants"]} - {"p5_cid", "vip5"})
    raw_params["clustered_variants"], raw_params["visual_variants"] = ["p5_cid"], ["vip5"]
    raw_params["modalities"] = ["text", "image", "collab"]
    params = validate_params(raw_params, "test.yaml")
    assert params.quant_of("mql4grec").lambda_con == [0.0] * 3
    assert params.quant_of("released").lambda_con == [0.1] * 3


def test_clusters_in_the_wrong_list_are_told_the_right_one(raw_params):
    raw_params["variants"] = raw_params["quantized_variants"] = ["p5_cid"]
    hint = "or, if its IDs are clusters, list it in clustered_variants"
    assert any(problem.endswith(hint) for problem in problems_of(raw_params))


def test_clusters_of_codes_hold_two_at_least_where_they_count(raw_params):
    raw_params["quant"]["diversity_clusters"] = 17  # of 32 codes
    validate_params(raw_params, "test.yaml")
    raw_params["variant_specs"]["macrec"]["quant"] = {"lambda_diversity": 0.1}
    (problem,) = problems_of(raw_params)
    assert problem == (
        "variants=macrec: its quant.diversity_clusters=17 must be at most half of "
        "quant.codebook_size=32, so that every code has another in its cluster; lower it"
    )


def test_a_guide_must_be_embedded_and_as_wide_as_the_latents(raw_params):
    raw_params["variants"] = raw_params["quantized_variants"] = ["letter"]
    raw_params["embed"]["collab"]["width"] = 16
    missing, other = problems_of(raw_params)
    assert missing == (
        "variants=letter: its quant.lambda_collab=0.01 needs collaborative embeddings, but "
        "modalities=['text', 'image'] lacks 'collab'; add it"
    )
    assert other == (
        "variants=letter: its quant.lambda_collab=0.01 compares latents of width "
        "quant.latent_dim=32 with embeddings of embed.collab.width=16; make them equal"
    )
    raw_params["modalities"].append("collab")
    raw_params["embed"]["collab"]["width"] = 32
    assert validate_params(raw_params, "test.yaml").quant_of("letter").lambda_diversity == 0.0001


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("uniformity", {"positives": "none"}),
        ("released", {"similarity": "cosine", "reduction": "mean", "positives": "self",
                      "residual_gradient": "blocked", "lambda_con": [0.1] * 4}),
        ("released_paper_levels", {"similarity": "cosine", "reduction": "mean",
                                   "positives": "self", "residual_gradient": "blocked"}),
        ("without_all", {"lambda_con": [0.0] * 4, "lambda_align": 0.0}),
        ("macrec_collab", {}),
    ],
)  # fmt: skip
def test_variants_change_what_they_say_and_nothing_else(raw_params, name, changes):
    params = validate_params(raw_params, "test.yaml")
    macrec, found = params.quant_of("macrec").model_dump(), params.quant_of(name).model_dump()
    assert found == macrec | changes


def test_tasks_must_recommend(raw_params):
    raw_params["seq2seq"]["tasks"] = ["align_items"]
    (problem,) = problems_of(raw_params)
    assert "tasks lacks 'recommend'" in problem


def test_a_level_needs_a_letter(raw_params):
    raw_params["quant"].update(num_levels=16, lambda_con=[0.0] * 16)
    raw_params["variant_specs"] = {
        name: spec | {"quant": {}} for name, spec in raw_params["variant_specs"].items()
    }
    (problem,) = problems_of(raw_params)
    assert problem == "quant.num_levels=16: Input should be less than or equal to 15"
    raw_params["quant"].update(num_levels=15, lambda_con=[0.0] * 15, lambda_align=0.0)
    assert validate_params(raw_params, "test.yaml").quant.num_levels == 15


@pytest.mark.parametrize("value", ["total", "Sum", 1])
def test_tokens_are_summed_or_averaged(raw_params, value):
    raw_params["gr"]["token_reduction"] = value
    (problem,) = problems_of(raw_params)
    assert problem == f"gr.token_reduction={value!r}: Input should be 'sum' or 'mean'"


def test_tasks_do_not_repeat(raw_params):
    raw_params["seq2seq"]["tasks"] = ["recommend", "align_items", "recommend"]
    (problem,) = problems_of(raw_params)
    assert problem.startswith("seq2seq: tasks=") and "a task occurs twice" in problem


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_finite(raw_params, value):
    raw_params["eval"]["length_penalty"] = value
    raw_params["quant"]["temperature"] = value
    assert len(problems_of(raw_params)) == 2


def test_a_whole_number_may_stand_for_a_real_one(raw_params):
    raw_params["quant"]["lambda_align"] = 0
    assert validate_params(raw_params, "test.yaml").quant.lambda_align == 0.0


# ----------------------------------------------------------------------------------- variants


def test_overrides_of_variants_are_validated_like_their_sections(raw_params):
    specs = raw_params["variant_specs"]
    specs["macrec"]["quant"] = {"codebook_size": 0, "codebooks": 4}
    specs["tiger"]["gr"] = {"dropout": 1.5}
    specs["mql4grec"]["quant"] = {"lambda_con": [0.1]}
    specs["without_explicit"]["seq2seq"] = {"tasks": ["align_items"]}
    assert sorted(line.split(": ")[0] for line in problems_of(raw_params)) == [
        "variant_specs.macrec.quant.codebook_size=0",
        "variant_specs.macrec.quant.codebooks=4",
        "variant_specs.mql4grec.quant",
        "variant_specs.tiger.gr.dropout=1.5",
        "variant_specs.without_explicit.seq2seq",
    ]


def test_overrides_are_reported_together_with_the_sections(raw_params):
    raw_params["eval"]["num_beams"] = 0
    raw_params["gr"]["dropout"] = 2.0
    raw_params["variant_specs"]["tiger"]["quant"] = {"latent_dim": 0}
    # The section's own error is told once, not again for each variant that overrides it.
    raw_params["variant_specs"]["macrec"]["gr"] = {"d_model": 32}
    assert sorted(line.split(": ")[0] for line in problems_of(raw_params)) == [
        "eval.num_beams=0",
        "gr.dropout=2.0",
        "variant_specs.tiger.quant.latent_dim=0",
    ]


def test_a_modality_of_a_variant_does_not_repeat(raw_params):
    raw_params["variant_specs"]["macrec"]["modalities"] = ["text", "image", "text"]
    (problem,) = problems_of(raw_params)
    assert problem.startswith("variant_specs.macrec: modalities=") and "twice" in problem


@pytest.mark.parametrize("tasks", [{}, {"tasks": ["recommend", "align_sequences"]}])
def test_alignment_tasks_need_two_modalities(raw_params, tasks):
    raw_params["variant_specs"]["tiger"]["seq2seq"] = tasks
    (problem,) = problems_of(raw_params)
    assert problem.startswith("variant_specs.tiger.seq2seq.tasks=")
    assert problem.endswith("the variant has ['text']; give it tasks: [recommend]")
    # A variant that does not run does no harm.
    raw_params["variants"] = raw_params["quantized_variants"] = ["macrec"]
    validate_params(raw_params, "test.yaml")


@pytest.mark.parametrize("name", ["random", "popularity", "oracle", "statistics", "embeddings"])
def test_names_of_the_pipelines_own_rows_and_folders_are_no_variants(raw_params, name):
    raw_params["variant_specs"][name] = raw_params["variant_specs"]["macrec"]
    raw_params["variants"].append(name)
    raw_params["quantized_variants"].append(name)
    (problem,) = problems_of(raw_params)
    assert problem.startswith(f"variants={name}: the name is taken by a folder or row of")


def test_an_unknown_variant_is_one_error_whatever_is_asked_of_it(raw_params):
    params = validate_params(raw_params, "test.yaml")
    for ask in (params.modalities_of, params.quant_of, params.seq2seq_of, params.gr_of):
        with pytest.raises(MacrecError, match="variant 'tigre': has no entry in variant_specs"):
            ask("tigre")


def test_one_modality_is_enough_for_a_variant_of_one(raw_params):
    raw_params["modalities"] = ["text"]
    raw_params["variants"] = raw_params["quantized_variants"] = ["tiger"]
    # Variants of both modalities may stay in the file: they do not run.
    params = validate_params(raw_params, "test.yaml")
    assert params.modalities_of("tiger") == params.modalities == ["text"]


def test_a_batch_must_hold_the_longest_text(raw_params):
    raw_params["embed"]["text"] |= {"max_tokens": 128, "batch_tokens": 127}
    (line,) = problems_of(raw_params)
    assert line == (
        "embed.text: batch_tokens=127: must be at least max_tokens=128, the longest text"
    )


def test_a_variant_may_only_name_modalities_that_are_embedded(raw_params):
    raw_params["modalities"] = ["text"]
    problems = problems_of(raw_params)
    assert any(line.startswith("variant_specs.macrec.modalities=") for line in problems)
    assert not any("tiger" in line for line in problems)


def test_overrides_reach_the_variants_section_alone(raw_params):
    params = validate_params(raw_params, "test.yaml")
    assert params.quant_of("macrec").lambda_con == [0.0, 0.0, 0.1, 0.1]
    assert params.quant_of("without_contrastive").lambda_con == [0.0] * 4
    assert params.quant_of("without_contrastive").lambda_align == params.quant.lambda_align
    assert params.quant_of("without_alignment").lambda_align == 0.0
    assert params.gr_of("without_implicit").lambda_implicit == 0.0
    assert params.seq2seq_of("without_explicit").tasks == ["recommend"]
    assert params.gr_of("without_explicit") == params.gr


# ------------------------------------------------------------------------ where IDs come from


def clustered(raw, *names, axis="clustered_variants"):
    """Run variants of clustered IDs beside the others."""
    raw["variants"] += names
    raw[axis] += names
    return raw


def test_variants_of_clustered_ids_run_beside_the_others(raw_params):
    clustered(raw_params, "p5_cid")
    clustered(raw_params, "vip5", axis="visual_variants")
    params = validate_params(raw_params, "test.yaml")
    assert params.modalities_of("p5_cid") == params.modalities_of("vip5") == ["collab"]
    assert "collab" not in params.modalities


@pytest.mark.parametrize("axis", ["quantized_variants", "clustered_variants", "visual_variants"])
@pytest.mark.parametrize("change", ["missing", "twice"])
def test_a_variant_stands_in_exactly_one_list(raw_params, axis, change):
    clustered(raw_params, "p5_cid")
    clustered(raw_params, "vip5", axis="visual_variants")
    name, *rest = raw_params[axis]
    raw_params[axis] = [name, *rest, name] if change == "twice" else rest
    times = 2 if change == "twice" else 0
    assert (
        f"variants={name}: stands {times} times in quantized_variants, clustered_variants, "
        "visual_variants; put it into just one"
    ) in problems_of(raw_params)


def test_a_list_of_variants_names_none_besides(raw_params):
    raw_params["quantized_variants"].append("tiger_original")
    (problem,) = problems_of(raw_params)
    assert problem == (
        "quantized_variants=tiger_original: is not in variants; add it there or remove it here"
    )


@pytest.mark.parametrize("axis", ["clustered_variants", "visual_variants"])
def test_clustered_ids_are_of_no_embedded_modality(raw_params, axis):
    raw_params["variant_specs"]["tiger_original"] |= {"quant": {}, "ids": {}}
    clustered(raw_params, "tiger_original", axis=axis)
    (problem,) = problems_of(raw_params)
    assert problem.startswith("variant_specs.tiger_original.modalities=['text']: IDs of clustered")
    assert problem.endswith("set that or list the variant in quantized_variants")


def test_clustered_ids_alone_have_nothing_to_align(raw_params):
    raw_params["variant_specs"]["p5_cid"]["seq2seq"] = {}
    (problem,) = problems_of(clustered(raw_params, "p5_cid"))
    assert problem.startswith("variant_specs.p5_cid.seq2seq.tasks=")


def test_a_quantized_variant_needs_embeddings_of_its_modality(raw_params):
    clustered(raw_params, "p5_cid", axis="quantized_variants")
    (problem,) = problems_of(raw_params)
    assert problem.startswith("variant_specs.p5_cid.modalities=['collab']: ['collab'] not in")


def test_visual_tokens_need_images_that_are_embedded_here(root):
    raw = YAML(typ="safe", pure=True).load(root / "presets/instruments-published.yaml")
    raw["variant_specs"]["vip5"] = raw["variant_specs"]["p5_cid"]
    clustered(raw, "p5_cid")  # which needs interactions alone
    validate_params(raw, "test.yaml")
    (problem,) = problems_of(clustered(raw, "vip5", axis="visual_variants"))
    assert problem.startswith("visual_variants=['vip5']: need image embeddings")


def test_visual_tokens_need_the_modality_image(raw_params):
    raw_params["modalities"] = ["text"]
    raw_params["variants"], raw_params["quantized_variants"] = ["tiger"], ["tiger"]
    (problem,) = problems_of(clustered(raw_params, "vip5", axis="visual_variants"))
    assert problem.startswith("visual_variants=['vip5']: need 'image' in modalities=['text']")


def test_a_level_more_counts_among_the_levels(raw_params):
    clustered(raw_params, "tiger_original", axis="quantized_variants")
    params = validate_params(raw_params, "test.yaml")
    assert params.ids_of("tiger_original").conflicts == "extra_level"
    assert params.ids_of("tiger").conflicts == "reassign"
    levels = {"num_levels": 15, "lambda_con": [0.0] * 15}
    raw_params["variant_specs"]["tiger_original"]["quant"] |= levels
    (problem,) = problems_of(raw_params)
    assert problem.startswith("variants=tiger_original: quant.num_levels=15 and one more")


# --------------------------------------------------------------- settings that would do nothing


@pytest.mark.parametrize("axis", ["clustered_variants", "visual_variants"])
def test_clustered_ids_read_neither_quantizer_nor_conflicts(raw_params, axis):
    overrides = {"quant": {"codebook_size": 16}, "ids": {"conflicts": "extra_level"}}
    raw_params["variant_specs"]["p5_cid"] |= overrides
    validate_params(raw_params, "test.yaml")  # one that does not run does no harm
    prefix, rule = "variant_specs.p5_cid", "IDs of clustered interactions do not read"
    assert problems_of(clustered(raw_params, "p5_cid", axis=axis)) == [
        f"{prefix}.quant={{'codebook_size': 16}}: {rule} quant; set it to {{}}",
        f"{prefix}.ids={{'conflicts': 'extra_level'}}: {rule} ids; set it to {{}}",
    ]


def test_terms_between_modalities_have_no_weight_in_a_variant_of_one(raw_params):
    raw_params["variant_specs"]["tiger"] |= {"quant": {}, "gr": {}}
    rule = "weighs a term between two modalities, the variant has ['text']; set variant_specs.tiger"
    assert problems_of(raw_params) == [
        f"variants=tiger: its quant.lambda_con=[0.0, 0.0, 0.1, 0.1] {rule}.quant.lambda_con to 0.0",
        f"variants=tiger: its quant.lambda_align=0.001 {rule}.quant.lambda_align to 0.0",
        f"variants=tiger: its gr.lambda_implicit=0.01 {rule}.gr.lambda_implicit to 0.0",
    ]
    raw_params["quant"] |= {"lambda_con": 0.0, "lambda_align": 0.0}
    raw_params["gr"]["lambda_implicit"] = 0.0
    validate_params(raw_params, "test.yaml")  # the sections' own zeros will do
    raw_params["variant_specs"]["tiger"]["gr"] = {"lambda_implicit": 0.01}
    raw_params["variants"] = raw_params["quantized_variants"] = ["macrec"]
    validate_params(raw_params, "test.yaml")  # one that does not run does no harm


@pytest.mark.parametrize("axis", ["clustered_variants", "visual_variants"])
def test_clustered_ids_alone_have_no_implicit_alignment(raw_params, axis):
    raw_params["variant_specs"]["p5_cid"]["gr"] = {}
    (problem,) = problems_of(clustered(raw_params, "p5_cid", axis=axis))
    assert problem == (
        "variants=p5_cid: its gr.lambda_implicit=0.01 weighs a term between two modalities, the "
        "variant has ['collab']; set variant_specs.p5_cid.gr.lambda_implicit to 0.0"
    )


@pytest.fixture
def imported(raw_params):
    """The committed params with the published IDs of one dataset, and no others."""
    raw_params["dataset_specs"]["sample"] = {
        "source": "published", "folder": "x", "name": "X", "index_files": {"text": "x"},
        "embedding_files": {},
    }  # fmt: skip
    raw_params["learned_datasets"], raw_params["imported_datasets"] = [], ["sample"]
    return raw_params


def running(raw, *names):
    """Run quantized variants and nothing else."""
    raw["variants"], raw["quantized_variants"], raw["ensembles"] = [*names], [*names], []
    return raw


def test_variants_of_imported_ids_differ_in_what_is_trained(imported):
    names = ("macrec", "without_contrastive", "tiger", "released", "tiger_original")
    rule = (
        "have the same modalities, seq2seq and gr, and IDs that are imported or clustered read "
        "neither quant nor ids: they are one training under"
    )
    remedy = "names; keep one, or change its seq2seq or gr"
    assert problems_of(running(imported, *names)) == [
        f"quantized_variants: ['macrec', 'without_contrastive', 'released'] {rule} 3 {remedy}",
        f"quantized_variants: ['tiger', 'tiger_original'] {rule} 2 {remedy}",
    ]
    # Each differs from macrec: in gr, in seq2seq, in both, in modalities.
    names = ("macrec", "without_implicit", "without_explicit", "without_all", "tiger")
    validate_params(running(imported, *names), "test.yaml")
    # Equal after the overrides.
    imported["variant_specs"]["without_implicit"]["gr"] = {
        "lambda_implicit": imported["gr"]["lambda_implicit"]
    }
    (problem,) = problems_of(imported)
    assert problem.startswith("quantized_variants: ['macrec', 'without_implicit'] have the same")


def test_where_some_ids_are_learned_such_variants_differ(raw_params):
    validate_params(running(raw_params, "macrec", "without_contrastive"), "test.yaml")


def test_imported_ids_of_one_modality_were_quantized_elsewhere(imported):
    imported["variant_specs"]["tiger"]["quant"] = {}
    validate_params(running(imported, "tiger"), "test.yaml")
    imported["variant_specs"]["tiger"]["gr"] = {}
    (problem,) = problems_of(imported)
    assert problem.startswith("variants=tiger: its gr.lambda_implicit=0.01 weighs a term")


@pytest.mark.parametrize("axis", ["clustered_variants", "visual_variants"])
def test_two_variants_of_the_same_clustered_ids_differ_too(raw_params, axis):
    clustered(raw_params, "p5_cid", "vip5", axis=axis)
    (problem,) = problems_of(raw_params)
    assert problem.startswith(f"{axis}: ['p5_cid', 'vip5'] have the same modalities")
    raw_params["variant_specs"]["vip5"]["gr"] |= {"max_epochs": 3}
    validate_params(raw_params, "test.yaml")


# --------------------------------------------------------------------------------------- axes


@pytest.mark.parametrize(
    ("axis", "value"),
    [("variants", ["macrec", "macrec"]), ("seeds", [1, 1]), ("modalities", ["text", "text"])],
)
def test_an_axis_names_a_value_once(raw_params, axis, value):
    raw_params[axis] = value
    if axis == "variants":
        raw_params["quantized_variants"] = value
    assert any(
        line.startswith(f"{axis}=") and "occurs twice" in line for line in problems_of(raw_params)
    )


@pytest.mark.parametrize("axis", ["datasets", "seeds", "modalities"])
def test_an_axis_is_not_empty(raw_params, axis):
    raw_params[axis] = []
    assert any(line.startswith(f"{axis}=[]") for line in problems_of(raw_params))


def test_variants_or_baselines_may_be_empty_but_not_both(raw_params):
    raw_params["variants"] = raw_params["quantized_variants"] = []
    assert validate_params(raw_params, "test.yaml").variants == []
    raw_params["baselines"] = []
    (problem,) = problems_of(raw_params)
    assert problem == (
        "variants=[], baselines=[], multimodal_baselines=[]: nothing to train; name one"
    )
    raw_params["multimodal_baselines"] = ["missrec"]
    assert validate_params(raw_params, "test.yaml").multimodal_baselines == ["missrec"]


def test_every_dataset_and_variant_has_its_specification(raw_params):
    raw_params["datasets"] = raw_params["learned_datasets"] = ["sample", "toys"]
    raw_params["variants"] = raw_params["quantized_variants"] = ["macrec", "sigir"]
    raw_params["baselines"] = ["caser"]
    raw_params["multimodal_baselines"] = ["vip5"]
    assert problems_of(raw_params) == [
        "datasets=toys: has no entry in dataset_specs; add one",
        "variants=sigir: has no entry in variant_specs; add one",
        "baselines=caser: has no entry in baseline_specs; add one",
        "multimodal_baselines=vip5: has no entry in baseline_specs; add one",
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("macrec", "another recommender has it too"), ("item_knn", "it is taken in the report")],
)
def test_a_baseline_has_a_name_of_its_own(raw_params, name, reason):
    raw_params["baselines"] = [name]
    raw_params["baseline_specs"][name] = raw_params["baseline_specs"]["sasrec"]
    assert problems_of(raw_params) == [f"baselines={name}: {reason}; use another name"]


def ensemble_of(*members, rule="mean"):
    lists = [
        {"source": source, "list": name, "weight": 1.0, "smoothing": None}
        for source, name in members
    ]
    return {"rule": rule, "members": lists}


def test_an_ensemble_unites_what_runs(raw_params):
    members = (("macrec", "text"), ("macrec", "ensemble"), ("sasrec", "sasrec"))
    raw_params["ensembles"] = ["both"]
    raw_params["ensemble_specs"] = {"both": ensemble_of(*members, ("item_knn", "item_knn"))}
    assert validate_params(raw_params, "test.yaml").ensembles == ["both"]
    raw_params["ensemble_specs"]["both"] = ensemble_of(
        ("tiger", "image"), ("sasrec", "ensemble"), ("gru4rec", "gru4rec")
    )
    where = "ensemble_specs.both.members: source"
    assert problems_of(raw_params) == [
        f"{where} 'tiger', list 'image': the source's lists are ['text', 'ensemble']; name one of "
        "them",
        f"{where} 'sasrec', list 'ensemble': the source's lists are ['sasrec']; name one of them",
        f"{where} 'gru4rec', list 'gru4rec': the source is neither in variants nor in baselines, "
        "nor one of ['popularity', 'last_item', 'item_knn', 'ease']; add it there or remove it "
        "here",
    ]


def test_an_ensemble_does_not_unite_a_yardstick_that_is_left_out(raw_params):
    raw_params["ensembles"] = ["both"]
    raw_params["ensemble_specs"] = {"both": ensemble_of(("ease", "ease"), ("sasrec", "sasrec"))}
    assert validate_params(raw_params, "test.yaml").ensembles == ["both"]
    raw_params["yardsticks"]["ease_regularization"] = None
    assert problems_of(raw_params) == [
        "ensemble_specs.both.members: source 'ease', list 'ease': "
        "yardsticks.ease_regularization=null leaves it out; give a number"
    ]


def test_an_ensemble_unites_a_multimodal_baseline_where_every_dataset_is_learned(raw_params):
    raw_params["multimodal_baselines"], raw_params["ensembles"] = ["missrec"], ["both"]
    members = (("sasrec", "sasrec"), ("missrec", "missrec"))
    raw_params["ensemble_specs"] = {"both": ensemble_of(*members)}
    assert validate_params(raw_params, "test.yaml").ensembles == ["both"]
    raw_params["dataset_specs"]["other"] = {
        "source": "published", "folder": "x", "name": "X", "index_files": {"text": "x"},
        "embedding_files": {},
    }  # fmt: skip
    raw_params["datasets"], raw_params["imported_datasets"] = ["sample", "other"], ["other"]
    (problem,) = problems_of(raw_params)
    assert "runs on learned_datasets alone, and ensembles run on imported_datasets" in problem


def test_an_ensemble_has_a_specification_and_a_name_of_its_own(raw_params):
    raw_params["ensembles"] = ["both", "sasrec", "oracle"]
    raw_params["ensemble_specs"] = {
        name: ensemble_of(("macrec", "text"), ("macrec", "image")) for name in ("sasrec", "oracle")
    }
    assert problems_of(raw_params) == [
        "ensembles=both: has no entry in ensemble_specs; add one",
        "ensembles=sasrec: another recommender has it too; use another name",
        "ensembles=oracle: it is taken in the report; use another name",
    ]


def test_an_ensemble_has_two_lists_at_least(raw_params):
    raw_params["ensemble_specs"]["alone"] = ensemble_of(("macrec", "text"))
    (problem,) = problems_of(raw_params)
    assert problem.startswith("ensemble_specs.alone.members=")


def test_narm_and_stamp_are_checked(raw_params):
    specs = raw_params["baseline_specs"]
    specs["narm"]["representation_dropout"] = 1.0
    specs["stamp"]["num_heads"] = 2
    assert problems_of(raw_params) == [
        "baseline_specs.narm.representation_dropout=1.0: Input should be less than 1",
        "baseline_specs.stamp.num_heads=2: is unknown: remove it or correct its name",
    ]


def test_stamp_is_given_no_size_that_it_lacks(raw_params):
    raw_params["baseline_specs"]["stamp"]["sequential"] |= {"num_layers": 1, "inner_size": 8}
    assert problems_of(raw_params) == [
        "baseline_specs.stamp.sequential.num_layers: STAMP has no such size; remove it",
        "baseline_specs.stamp.sequential.inner_size: STAMP has no such size; remove it",
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("macrec", "another recommender has it too"),
        ("sasrec", "another recommender has it too"),
        ("oracle", "it is taken in the report"),
    ],
)
def test_so_has_a_multimodal_one(raw_params, name, reason):
    raw_params["multimodal_baselines"], raw_params["baselines"] = [name], ["sasrec"]
    raw_params["baseline_specs"][name] = raw_params["baseline_specs"]["missrec"]
    assert f"multimodal_baselines={name}: {reason}; use another name" in problems_of(raw_params)


def test_a_baseline_stands_in_the_list_of_what_it_reads(raw_params):
    raw_params["baselines"], raw_params["multimodal_baselines"] = ["missrec"], ["fdsa"]
    assert problems_of(raw_params) == [
        "baselines=missrec: model 'missrec' reads the embeddings of the items; list it in "
        "multimodal_baselines",
        "multimodal_baselines=fdsa: model 'fdsa' reads no embeddings of the items; list it in "
        "baselines",
    ]
    raw_params["baselines"], raw_params["multimodal_baselines"] = ["fdsa"], ["missrec"]
    validate_params(raw_params, "test.yaml")


def test_a_multimodal_baseline_reads_what_is_embedded(raw_params):
    raw_params["multimodal_baselines"] = ["missrec"]
    raw_params["baseline_specs"]["missrec"]["modalities"] = ["text", "sound"]
    (problem,) = problems_of(raw_params)
    assert problem == (
        "baseline_specs.missrec.modalities=['text', 'sound']: ['sound'] not in "
        "modalities=['text', 'image']; add them there or remove them here"
    )
    # One that does not run does no harm.
    raw_params["multimodal_baselines"] = []
    validate_params(raw_params, "test.yaml")
    raw_params["baseline_specs"]["missrec"]["modalities"] = ["text", "text"]
    (problem,) = problems_of(raw_params)
    assert problem.startswith("baseline_specs.missrec: modalities=") and "twice" in problem


def test_multimodal_baselines_need_a_learned_dataset(raw_params):
    raw_params["dataset_specs"]["sample"] = {
        "source": "published", "folder": "x", "name": "X", "index_files": {"text": "x"},
        "embedding_files": {},
    }  # fmt: skip
    raw_params["learned_datasets"], raw_params["imported_datasets"] = [], ["sample"]
    raw_params["multimodal_baselines"] = ["missrec"]
    (problem,) = problems_of(raw_params)
    assert problem == (
        "multimodal_baselines=['missrec']: they run on learned_datasets, of which there are none; "
        "name one or empty the list"
    )


@pytest.mark.parametrize("name", ["sasrec", "bert4rec", "fdsa", "s3rec", "missrec"])
def test_heads_divide_the_width_whoever_has_them(raw_params, name):
    raw_params["baseline_specs"][name]["num_heads"] = 7
    (problem,) = problems_of(raw_params)
    assert problem.startswith(f"baseline_specs.{name}.num_heads=7: must divide sequential.")


def test_what_a_baseline_changes_is_checked(raw_params):
    raw_params["baseline_specs"]["sasrec"]["sequential"] = {"hidden_size": 0, "droput": 0.1}
    raw_params["baseline_specs"]["bert4rec"]["mask_ratio"] = 0.0
    assert problems_of(raw_params) == [
        "baseline_specs.bert4rec.mask_ratio=0.0: Input should be greater than 0",
        "baseline_specs.sasrec.sequential.hidden_size=0: "
        "Input should be greater than or equal to 1",
        "baseline_specs.sasrec.sequential.droput=0.1: is unknown: remove it or correct its name",
    ]
    raw_params["baseline_specs"]["sasrec"]["sequential"] = {"hidden_size": 63}
    raw_params["baseline_specs"]["bert4rec"]["mask_ratio"] = 0.5
    (problem,) = problems_of(raw_params)
    assert problem == (
        "baseline_specs.sasrec.num_heads=2: must divide sequential.hidden_size=63; change either"
    )


@pytest.mark.parametrize(
    ("learned", "imported"), [([], []), (["sample"], ["sample"]), (["sample", "other"], [])]
)
def test_every_dataset_is_either_learned_or_imported(raw_params, learned, imported):
    raw_params["learned_datasets"], raw_params["imported_datasets"] = learned, imported
    told = (" times in learned_datasets, imported_datasets;", "other: is not in datasets; add it")
    assert any(text in line for line in problems_of(raw_params) for text in told)


def test_a_name_says_how_it_is_made(raw_params):
    raw_params["datasets"] = raw_params["learned_datasets"] = ["My shop"]
    told = "='My shop': must be small letters, digits and underscores, a letter first; rename it"
    assert sorted(line for line in problems_of(raw_params) if told in line) == [
        f"datasets.0{told}", f"learned_datasets.0{told}",
    ]  # fmt: skip


def test_only_published_ids_can_be_imported(raw_params):
    raw_params["learned_datasets"], raw_params["imported_datasets"] = [], ["sample"]
    (problem,) = problems_of(raw_params)
    assert problem.startswith("imported_datasets=sample: needs source 'published'")


# -------------------------------------------------------------------------------------- files


def test_numbers_are_read_as_dvc_reads_them(tmp_path, root):
    text = (root / "presets/sample.yaml").read_text()
    assert "  learning_rate: 0.001\n" in text
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("  learning_rate: 0.001\n", "  learning_rate: 1e-3\n"))
    assert load_params(path).quant.learning_rate == 0.001


@pytest.mark.parametrize("text", ["quant: [1, 2", "- a\n- b\n", "", "a: 1\na: 2\n"])
def test_a_file_that_is_no_mapping_is_one_error_with_its_name(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(MacrecError, match=r"params\.yaml: "):
        load_params(path)


def test_a_missing_file_is_an_error_with_its_name(tmp_path):
    with pytest.raises(MacrecError, match=r"none\.yaml"):
        load_params(tmp_path / "none.yaml")


def test_the_committed_params_are_the_sample_preset(root):
    assert (root / "params.yaml").read_bytes() == (root / "presets/sample.yaml").read_bytes()


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_is_valid(path):
    load_params(path)


def test_the_paper_preset_holds_the_papers_settings(root):
    params = load_params(root / "presets/paper.yaml")
    assert params.datasets == ["instruments", "arts", "games"]
    assert params.seeds == [0, 1, 2, 3, 4]
    assert params.variants == [
        "macrec", "without_contrastive", "without_alignment", "without_implicit",
        "without_explicit", "without_all", "mql4grec", "tiger", "tiger_original", "p5_cid",
        "vip5",
    ]  # fmt: skip
    quant = params.quant_of("macrec")
    assert (quant.codebook_size, quant.num_levels, quant.latent_dim) == (256, 4, 32)
    assert quant.lambda_con == [0.0, 0.0, 0.1, 0.1]
    assert (quant.lambda_align, quant.temperature, quant.batch_size) == (0.001, 0.1, 1024)
    assert params.pseudo_labels.num_clusters == 512
    gr = params.gr_of("macrec")
    assert (gr.d_model, gr.num_layers, gr.num_heads, gr.d_kv, gr.d_ff) == (128, 4, 6, 64, 1024)
    assert (gr.batch_size, gr.learning_rate, gr.lambda_implicit) == (4096, 0.001, 0.01)


# ------------------------------------------------------------------------------ nothing unused


def test_every_parameter_is_read_by_the_code(root):
    read = set(_attributes_read(root))
    # An axis may be read by dvc.yaml alone.
    pipeline = (root / "dvc.yaml").read_text()
    unused = [
        name
        for name in sorted(_leaves(Params))
        if (leaf := name.rsplit(".", 1)[-1]) not in read | TAGS
        and f"${{{leaf}}}" not in pipeline
        and not (name.startswith(("variant_specs.", "baseline_specs.")) and f"{leaf}_of" in read)
    ]
    assert unused == []


def test_the_search_for_unused_parameters_can_fail(root):
    assert "codebok_size" not in set(_attributes_read(root))
    assert {"quant.codebook_size", "embed.width", "gr.dropout"} <= set(_leaves(Params))


def _leaves(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Dotted names of all parameters; those of a union carry no class."""
    for name, field in section.model_fields.items():
        inner = list(_sections(field.annotation))
        if not inner:
            yield f"{prefix}{name}"
        for each in inner:
            yield from _leaves(each, prefix or f"{name}.")


def _sections(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, Section):
            yield annotation
        return
    for argument in get_args(annotation):
        yield from _sections(argument)


def _attributes_read(root: Path) -> Iterator[str]:
    for folder in ("macrec_core", "stages"):
        for path in sorted((root / folder).rglob("*.py")):
            if path.parent.name == "params":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                    yield node.attr
                elif isinstance(node, ast.MatchClass):
                    yield from node.kwd_attrs
