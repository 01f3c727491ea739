"""Sections of the generative recommender: its examples and T5."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from macrec_core.params.section import (
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Probability,
    Section,
)


class Seq2SeqParams(Section):
    """Training examples: window and tasks."""

    max_history: PositiveInt
    tasks: Annotated[
        list[Literal["recommend", "align_items", "align_sequences"]], Field(min_length=1)
    ]

    @model_validator(mode="after")
    def _recommends(self) -> Self:
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"tasks={self.tasks}: a task occurs twice; name each once")
        if "recommend" not in self.tasks:
            raise ValueError(
                "tasks lacks 'recommend': without it nothing learns to recommend; add it"
            )
        return self


class GrParams(Section):
    """T5 and its training (Eqs. 14-19)."""

    d_model: PositiveInt
    d_kv: PositiveInt
    d_ff: PositiveInt
    num_layers: PositiveInt
    num_heads: PositiveInt
    dropout: Probability
    batch_size: PositiveInt
    micro_batch_tokens: PositiveInt
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    warmup_fraction: Fraction
    max_grad_norm: PositiveFloat
    label_smoothing: Probability
    history_dropout: Probability
    token_reduction: Literal["sum", "mean"]
    max_epochs: PositiveInt
    max_steps: PositiveInt | None
    patience: PositiveInt
    select_by: Literal["loss", "ndcg@10"]
    max_validation_users: PositiveInt | None
    lambda_implicit: NonNegativeFloat
    temperature: PositiveFloat
    implicit_similarity: Literal["cosine", "inner_product"]
    implicit_batch_size: Annotated[int, Field(ge=2)]
