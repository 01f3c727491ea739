"""Sections of the sequence encoders."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from macrec_core.params.section import (
    Fraction,
    Name,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Section,
)


class SequentialParams(Section):
    """Sequence encoders that score every item, and their training."""

    hidden_size: PositiveInt
    num_layers: PositiveInt
    inner_size: PositiveInt
    dropout: Probability
    max_history: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    max_epochs: PositiveInt
    patience: PositiveInt


class SASRecSpec(Section):
    """Self-attention over what came before (Kang and McAuley, 2018)."""

    model: Literal["sasrec"]
    num_heads: PositiveInt
    sequential: dict[str, Any]


class BERT4RecSpec(Section):
    """Masked items, seen from both sides (Sun et al., 2019)."""

    model: Literal["bert4rec"]
    num_heads: PositiveInt
    mask_ratio: Annotated[float, Field(gt=0, le=1)]
    last_item_ratio: Fraction
    sequential: dict[str, Any]


class GRU4RecSpec(Section):
    """A recurrent network (Hidasi et al., 2016)."""

    model: Literal["gru4rec"]
    sequential: dict[str, Any]


class NARMSpec(Section):
    """A recurrent network with attention (Li et al., 2017)."""

    model: Literal["narm"]
    representation_dropout: Probability
    sequential: dict[str, Any]


class STAMPSpec(Section):
    """Attention that gives priority to the last item (Liu et al., 2018)."""

    model: Literal["stamp"]
    sequential: dict[str, Any]


class FDSASpec(Section):
    """Self-attention over items and, apart, over their attributes (Zhang et al., 2019)."""

    model: Literal["fdsa"]
    num_heads: PositiveInt
    sequential: dict[str, Any]


class S3RecSpec(Section):
    """SASRec, pre-trained on attributes, masked items and segments (Zhou et al., 2020)."""

    model: Literal["s3rec"]
    num_heads: PositiveInt
    pretrain_epochs: NonNegativeInt
    mask_ratio: Annotated[float, Field(gt=0, le=1)]
    aap_weight: NonNegativeFloat
    mip_weight: NonNegativeFloat
    map_weight: NonNegativeFloat
    sp_weight: NonNegativeFloat
    sequential: dict[str, Any]


class MISSRecSpec(Section):
    """Interests mined from the modalities' vectors (Wang et al., 2023)."""

    model: Literal["missrec"]
    modalities: Annotated[list[Name], Field(min_length=1)]
    num_heads: PositiveInt
    item_ids: bool
    standardize: Literal["none", "unit_variance"]
    temperature: PositiveFloat
    interest_ratio: Annotated[float, Field(gt=0, le=1)]
    kmeans_iterations: PositiveInt
    orthogonality: NonNegativeFloat
    sequential: dict[str, Any]

    @model_validator(mode="after")
    def _each_modality_once(self) -> Self:
        if len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"modalities={self.modalities}: one occurs twice; name each once")
        return self


BaselineSpec = Annotated[
    SASRecSpec
    | BERT4RecSpec
    | GRU4RecSpec
    | NARMSpec
    | STAMPSpec
    | FDSASpec
    | S3RecSpec
    | MISSRecSpec,
    Field(discriminator="model"),
]


def modalities_read(spec: BaselineSpec) -> list[str]:
    """Modalities whose embeddings a baseline reads; none of most."""
    return list(spec.modalities) if isinstance(spec, MISSRecSpec) else []
