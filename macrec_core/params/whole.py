"""The whole of params.yaml, and what variants and baselines change of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from macrec_core.errors import MacrecError
from macrec_core.params.baselines import BaselineSpec, SequentialParams
from macrec_core.params.data import (
    DatasetSpec,
    EmbedParams,
    FilterParams,
    ImageParams,
    PseudoLabelParams,
)
from macrec_core.params.evaluation import (
    EmbeddingPlotParams,
    EnsembleSpec,
    EvalParams,
    ReportParams,
    SignificanceParams,
    SweepParams,
    YardstickParams,
)
from macrec_core.params.network import NetworkParams
from macrec_core.params.quantizer import CollaborativeIdParams, IdParams, QuantParams, VisualParams
from macrec_core.params.recommender import GrParams, Seq2SeqParams
from macrec_core.params.section import Name, NonNegativeFloat, NonNegativeInt, PositiveInt, Section
from macrec_core.ranking import YARDSTICKS


class RuntimeParams(Section):
    """Where and how numbers are computed."""

    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "float32", "bfloat16"]
    num_threads: NonNegativeInt
    num_processes: PositiveInt
    checkpoint_every_s: NonNegativeFloat


class VariantSpec(Section):
    """What a variant changes: its modalities, and overrides of four sections."""

    modalities: Annotated[list[Name], Field(min_length=1)]
    quant: dict[str, Any]
    ids: dict[str, Any]
    seq2seq: dict[str, Any]
    gr: dict[str, Any]

    @model_validator(mode="after")
    def _each_modality_once(self) -> Self:
        if len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"modalities={self.modalities}: one occurs twice; name each once")
        return self


# Rows, keys and folders beside those of variants, baselines and ensembles.
RESERVED_NAMES = {
    *YARDSTICKS, "random", "oracle", "statistics", "raw", "embeddings", "recommendations",
    "ensembles",
}  # fmt: skip


class Params(Section):
    """The whole of params.yaml."""

    datasets: Annotated[list[Name], Field(min_length=1)]
    learned_datasets: list[Name]
    imported_datasets: list[Name]
    variants: list[Name]
    quantized_variants: list[Name]
    clustered_variants: list[Name]
    visual_variants: list[Name]
    baselines: list[Name]
    multimodal_baselines: list[Name]
    ensembles: list[Name]
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)]
    modalities: Annotated[list[Literal["text", "image", "collab"]], Field(min_length=1)]
    dataset_specs: dict[Name, DatasetSpec]
    images: ImageParams
    network: NetworkParams
    filter: FilterParams
    embed: EmbedParams
    pseudo_labels: PseudoLabelParams
    quant: QuantParams
    ids: IdParams
    collaborative_ids: CollaborativeIdParams
    visual: VisualParams
    seq2seq: Seq2SeqParams
    gr: GrParams
    sequential: SequentialParams
    yardsticks: YardstickParams
    eval: EvalParams
    significance: SignificanceParams
    report: ReportParams
    embedding_plot: EmbeddingPlotParams
    sweeps: SweepParams
    runtime: RuntimeParams
    variant_specs: dict[Name, VariantSpec]
    baseline_specs: dict[Name, BaselineSpec]
    ensemble_specs: dict[Name, EnsembleSpec]

    def modalities_of(self, variant: str) -> list[str]:
        """The modalities of a variant.

        Raises:
            MacrecError: params.yaml has no such variant.
        """
        return list(self._spec(variant).modalities)

    def quant_of(self, variant: str) -> QuantParams:
        """`quant` with the variant's overrides."""
        return QuantParams.model_validate(self._overridden("quant", variant))

    def ids_of(self, variant: str) -> IdParams:
        """`ids` with the variant's overrides."""
        return IdParams.model_validate(self._overridden("ids", variant))

    def seq2seq_of(self, variant: str) -> Seq2SeqParams:
        """`seq2seq` with the variant's overrides."""
        return Seq2SeqParams.model_validate(self._overridden("seq2seq", variant))

    def gr_of(self, variant: str) -> GrParams:
        """`gr` with the variant's overrides."""
        return GrParams.model_validate(self._overridden("gr", variant))

    def baseline(self, name: str) -> BaselineSpec:
        """What a baseline is.

        Raises:
            MacrecError: params.yaml has no such baseline.
        """
        if name not in self.baseline_specs:
            raise MacrecError(
                f"baseline {name!r}: has no entry in baseline_specs "
                f"({sorted(self.baseline_specs)}); add one or correct the name"
            )
        return self.baseline_specs[name]

    def sequential_of(self, baseline: str) -> SequentialParams:
        """`sequential` with the baseline's overrides."""
        overrides = self.baseline(baseline).sequential
        return SequentialParams.model_validate(self.sequential.model_dump() | overrides)

    def _overridden(self, section: str, variant: str) -> dict[str, Any]:
        base: dict[str, Any] = getattr(self, section).model_dump()
        overrides: dict[str, Any] = getattr(self._spec(variant), section)
        if "num_levels" in overrides and len(set(base.get("lambda_con", ()))) == 1:
            # One number for all levels stays one; of a list the rules have spoken before.
            base["lambda_con"] = base["lambda_con"][0]
        return base | overrides

    def _spec(self, variant: str) -> VariantSpec:
        if variant not in self.variant_specs:
            raise MacrecError(
                f"variant {variant!r}: has no entry in variant_specs "
                f"({sorted(self.variant_specs)}); add one or correct the name"
            )
        return self.variant_specs[variant]
