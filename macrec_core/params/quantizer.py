"""Sections of the quantizer and of what becomes of its codes."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from macrec_core.params.section import (
    MAX_LEVELS,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Section,
)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class QuantParams(Section):
    """Cross-modal RQ-VAE (Eqs. 2-13)."""

    codebook_size: Annotated[int, Field(ge=2)]
    num_levels: Annotated[int, Field(ge=1, le=MAX_LEVELS)]
    latent_dim: PositiveInt
    common_width: PositiveInt
    hidden_sizes: list[PositiveInt]
    standardize: Literal["none", "unit_norm", "unit_variance"]
    lambda_con: list[NonNegativeFloat]
    lambda_align: NonNegativeFloat
    temperature: PositiveFloat
    commitment_weight: NonNegativeFloat
    similarity: Literal["inner_product", "cosine"]
    reduction: Literal["sum", "mean"]
    positives: Literal["pseudo_label", "self", "none"]
    residual_gradient: Literal["flows", "blocked"]
    lambda_collab: NonNegativeFloat
    lambda_diversity: NonNegativeFloat
    diversity_clusters: PositiveInt
    batch_size: PositiveInt
    max_epochs: PositiveInt
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    kmeans_iterations: PositiveInt
    evaluate_every: PositiveInt

    @model_validator(mode="before")
    @classmethod
    def _one_weight_for_all_levels(cls, values: object) -> object:
        """A number for `lambda_con` stands for that weight at every level."""
        if not isinstance(values, Mapping) or not _is_number(values.get("lambda_con")):
            return values
        weight, levels = values["lambda_con"], values.get("num_levels")
        # Of a weight or a number of levels that breaks its rule, one error and not one a level.
        known = isinstance(levels, int) and 1 <= levels <= MAX_LEVELS
        count: Any = levels if known and 0 <= weight < inf else 1
        return {**values, "lambda_con": [weight] * count}

    @model_validator(mode="after")
    def _one_weight_a_level(self) -> Self:
        if len(self.lambda_con) != self.num_levels:
            raise ValueError(
                f"lambda_con has {len(self.lambda_con)} weights for num_levels={self.num_levels}: "
                "give one weight for each level, or one number for all"
            )
        return self


class IdParams(Section):
    """How IDs that the quantizer has learned become unique."""

    conflicts: Literal["reassign", "extra_level"]


class CollaborativeIdParams(Section):
    """IDs from recursive spectral clustering of the co-occurrence graph (P5-CID)."""

    num_clusters: Annotated[int, Field(ge=2)]
    max_leaf: PositiveInt
    max_levels: Annotated[int, Field(ge=2, le=MAX_LEVELS)]
    n_init: PositiveInt


class VisualParams(Section):
    """Image vectors as tokens of the recommender's input (VIP5)."""

    tokens: PositiveInt
    adapter_width: PositiveInt
