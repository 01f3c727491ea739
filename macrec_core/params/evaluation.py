"""Sections of whatever is made of trained recommenders: lists, tests, tables and figures."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from macrec_core.params.section import (
    Name,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
)


class EnsembleMember(Section):
    """A list of an ensemble."""

    source: Name
    list: Name
    weight: PositiveFloat
    smoothing: PositiveFloat | None


class EnsembleSpec(Section):
    """Lists of several recommenders, and how they are united."""

    rule: Literal["mean_plus_found", "mean", "reciprocal_rank"]
    members: Annotated[list[EnsembleMember], Field(min_length=2)]

    @model_validator(mode="after")
    def _each_list_once(self) -> Self:
        lists = [(member.source, member.list) for member in self.members]
        if len(set(lists)) != len(lists):
            raise ValueError(f"members={lists}: a list occurs twice; give it more weight instead")
        smoothed = [m.source for m in self.members if m.smoothing is not None]
        if self.rule == "reciprocal_rank" and smoothed:
            raise ValueError(
                f"members={smoothed}: smoothing changes no rank; use smoothing: null, or another "
                "rule"
            )
        return self


class YardstickParams(Section):
    """Rankings without training."""

    max_history: PositiveInt
    recency_decay: Annotated[float, Field(gt=0, le=1)]
    cooccurrence_window: PositiveInt
    ease_regularization: Annotated[float, Field(gt=0)] | None


class EvalParams(Section):
    """Constrained beam search, ensemble and metrics."""

    split: Literal["test", "valid"]
    num_beams: PositiveInt
    list_length: PositiveInt
    length_penalty: float
    fusion: Literal["mean_plus_found", "mean", "reciprocal_rank"]
    ambiguous_ids: Literal["pessimistic", "optimistic"]
    batch_size: PositiveInt
    max_users: PositiveInt | None
    exclude_seen: bool


class SignificanceParams(Section):
    """Paired tests of all rows of the results table."""

    # Fewer cannot give a p below .05 after a handful of comparisons.
    bootstrap_draws: Annotated[int, Field(ge=100)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    seed: NonNegativeInt


class ReportParams(Section):
    """How the tables read."""

    ours: Annotated[list[Name], Field(min_length=1)]


class EmbeddingPlotParams(Section):
    """Figure 1: t-SNE of the embeddings, and how well they agree with brand and type."""

    perplexity: PositiveFloat
    neighbours: PositiveInt
    # As many as matplotlib's palette `tab10` has.
    colours: Annotated[int, Field(ge=1, le=10)]
    chance_draws: PositiveInt
    seed: NonNegativeInt


class SweepParams(Section):
    """Figure 3: the values of each hyper-parameter."""

    codebook_size: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1)]
    num_levels: Annotated[list[Annotated[int, Field(ge=1, le=15)]], Field(min_length=1)]
    first_level: Annotated[list[NonNegativeInt], Field(min_length=1)]
    lambda_con: Annotated[list[NonNegativeFloat], Field(min_length=1)]
    lambda_align: Annotated[list[NonNegativeFloat], Field(min_length=1)]
    lambda_implicit: Annotated[list[NonNegativeFloat], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_value_once(self) -> Self:
        for name in type(self).model_fields:
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name}={values}: a value occurs twice; name each once")
        return self
