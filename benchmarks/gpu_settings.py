"""The sections of presets/paper.yaml that `benchmarks.gpu` needs, as plain classes.

A bare GPU image lacks pydantic and a YAML reader, and the core takes anything with the sections'
attributes. tests/benchmarks/test_gpu.py holds every name and value against the preset.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin, get_type_hints

from macrec_core.errors import MacrecError

if TYPE_CHECKING:
    from macrec_core.params.evaluation import EvalParams
    from macrec_core.params.quantizer import QuantParams
    from macrec_core.params.recommender import GrParams
    from macrec_core.params.whole import RuntimeParams


@dataclass(frozen=True)
class Gr:
    """Section `gr`, of the variant that pairs with MQL4GRec: without L_implicit."""

    d_model: int = 128
    d_kv: int = 64
    d_ff: int = 1024
    num_layers: int = 4
    num_heads: int = 6
    dropout: float = 0.1
    batch_size: int = 4096
    micro_batch_tokens: int = 524288
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_fraction: float = 0.01
    max_grad_norm: float = 1.0
    label_smoothing: float = 0.0
    history_dropout: float = 0.0
    token_reduction: Literal["sum", "mean"] = "sum"
    max_epochs: int = 200
    max_steps: int | None = None
    patience: int = 10
    select_by: Literal["loss", "ndcg@10"] = "loss"
    max_validation_users: int | None = None
    lambda_implicit: float = 0.0
    temperature: float = 0.1
    implicit_similarity: Literal["cosine", "inner_product"] = "cosine"
    implicit_batch_size: int = 1024

    @property
    def core(self) -> GrParams:
        """As the core's functions name it."""
        return cast("GrParams", self)


@dataclass(frozen=True)
class Eval:
    """Section `eval`."""

    num_beams: int = 20
    length_penalty: float = 1.0
    fusion: Literal["mean_plus_found", "mean", "reciprocal_rank"] = "mean_plus_found"
    ambiguous_ids: Literal["pessimistic", "optimistic"] = "pessimistic"
    batch_size: int = 256
    max_users: int | None = None

    @property
    def core(self) -> EvalParams:
        """As the core's functions name it."""
        return cast("EvalParams", self)


@dataclass(frozen=True)
class Quant:
    """Section `quant`."""

    codebook_size: int = 256
    num_levels: int = 4
    latent_dim: int = 32
    common_width: int = 768
    hidden_sizes: tuple[int, ...] = (2048, 1024, 512, 256, 128, 64)
    standardize: Literal["none", "unit_norm", "unit_variance"] = "unit_variance"
    lambda_con: tuple[float, ...] = (0.0, 0.0, 0.1, 0.1)
    lambda_align: float = 0.001
    temperature: float = 0.1
    commitment_weight: float = 0.25
    similarity: Literal["inner_product", "cosine"] = "inner_product"
    reduction: Literal["sum", "mean"] = "sum"
    positives: Literal["pseudo_label", "self", "none"] = "pseudo_label"
    residual_gradient: Literal["flows", "blocked"] = "flows"
    lambda_collab: float = 0.0
    lambda_diversity: float = 0.0
    diversity_clusters: int = 10
    batch_size: int = 1024
    max_epochs: int = 500
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    kmeans_iterations: int = 10
    evaluate_every: int = 10

    @property
    def core(self) -> QuantParams:
        """As the core's functions name it."""
        return cast("QuantParams", self)


@dataclass(frozen=True)
class Runtime:
    """Section `runtime`."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    num_threads: int = 0
    num_processes: int = 1
    checkpoint_every_s: float = 60.0

    @property
    def core(self) -> RuntimeParams:
        """As the core's functions name it."""
        return cast("RuntimeParams", self)


# A network of nothing, for `--small`.
SMALL_GR = Gr(
    d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, batch_size=64, max_epochs=2,
    implicit_batch_size=16,
)  # fmt: skip
SMALL_EVAL = Eval(num_beams=10, batch_size=16)
SMALL_QUANT = Quant(
    codebook_size=8, num_levels=2, latent_dim=4, common_width=16, hidden_sizes=(8,),
    lambda_con=(0.0, 0.1), batch_size=32, kmeans_iterations=2, evaluate_every=2,
)  # fmt: skip


def changed(gr: Gr, assignments: Iterable[str]) -> Gr:
    """Settings with some of them changed.

    Args:
        gr: settings.
        assignments: each `NAME=VALUE`, the value as in JSON; what is no JSON is a text.

    Raises:
        MacrecError: no such setting, or a value of another type.
    """
    hints = get_type_hints(Gr)
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, _, text = assignment.partition("=")
        if name not in hints:
            raise MacrecError(f"--set {assignment}: no setting {name!r}; known: {sorted(hints)}")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
        if not _fits(values[name], hints[name]):
            wanted = getattr(hints[name], "__name__", str(hints[name]))
            raise MacrecError(f"--set {assignment}: {text!r} is no {wanted}; give one")
    return replace(gr, **values)


def _fits(value: object, hint: object) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    assert isinstance(hint, type | UnionType)  # the other kinds of hints that `Gr` has
    return isinstance(value, hint) and not isinstance(value, bool)
