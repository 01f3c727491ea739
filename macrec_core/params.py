"""Typed sections of params.yaml: loaded once, validated as a whole, no defaults.

Every knob of the system stands in params.yaml; a section here gives its type and range.
An unknown, missing, mistyped or out-of-range value is an error, and all errors are
reported together as `name=value: rule`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from macrec_core.errors import MacrecError
from macrec_core.ranking import ENSEMBLE, YARDSTICKS

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]

# Of a semantic ID: one letter a level in tokens, and T5's exact relative positions end at 16.
MAX_LEVELS = 15
# Modality of IDs that are made of interactions: no embedding stands behind it.
COLLABORATIVE = "collab"


class Section(BaseModel):
    """Base of every section: immutable, strictly typed, finite, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


# ----------------------------------------------------------------------------- datasets


class SampleSource(Section):
    """A synthetic shop written as raw files in the Amazon-2018 layout."""

    source: Literal["sample"]
    num_items: PositiveInt
    num_users: PositiveInt
    image_size: Annotated[int, Field(ge=32)]
    seed: NonNegativeInt


class AmazonSource(Section):
    """A category of the Amazon-2018 release, from a base URL or a local folder."""

    source: Literal["amazon"]
    category: str
    base: str


class PublishedSource(Section):
    """The field's file family (`X.inter.json`, `X.item.json`, `X.index*.json`, ...)."""

    source: Literal["published"]
    folder: str
    name: str
    index_files: dict[Name, str]
    embedding_files: dict[Name, str]


class MiniOneRecSource(Section):
    """MiniOneRec's layout: `X.item.json`, and a CSV row for every purchase with its history."""

    source: Literal["minionerec"]
    folder: str
    item_file: str
    row_files: Annotated[list[str], Field(min_length=1)]


DatasetSpec = Annotated[
    SampleSource | AmazonSource | PublishedSource | MiniOneRecSource,
    Field(discriminator="source"),
]


class ImageParams(Section):
    """What `download` does with images."""

    max_side: PositiveInt
    max_pixels: PositiveInt
    jpeg_quality: Annotated[int, Field(ge=1, le=95)]
    concurrency: PositiveInt
    timeout_s: PositiveFloat
    max_failure_rate: Fraction


class FilterParams(Section):
    """What `filter` keeps."""

    k_core: PositiveInt
    max_bad_lines: NonNegativeInt


# --------------------------------------------------------------------------- embeddings


class TokenBatches(Section):
    """Texts that pass through a model in batches of about equally many tokens."""

    max_tokens: Annotated[int, Field(ge=2)]
    batch_tokens: PositiveInt

    @model_validator(mode="after")
    def _holds_a_text(self) -> Self:
        if self.batch_tokens < self.max_tokens:
            raise ValueError(
                f"batch_tokens={self.batch_tokens}: must be at least max_tokens={self.max_tokens}, "
                "the longest text"
            )
        return self


class MiniLMEncoder(TokenBatches):
    """MiniLM, whose weights come with the `embedded` extra."""

    encoder: Literal["minilm"]
    fields: Annotated[
        list[Literal["title", "description", "brand", "categories"]], Field(min_length=1)
    ]
    max_tokens: Annotated[int, Field(ge=2, le=512)]


class HuggingFaceTextEncoder(TokenBatches):
    """Any Hugging Face text encoder (LLaMA included), by hub id or local folder."""

    encoder: Literal["huggingface"]
    model: str
    revision: str | None
    dtype: Literal["float32", "bfloat16", "float16"]
    fields: Annotated[
        list[Literal["title", "description", "brand", "categories"]], Field(min_length=1)
    ]


class TfidfEncoder(Section):
    """TF-IDF followed by truncated SVD; needs no weights."""

    encoder: Literal["tfidf_svd"]
    fields: Annotated[
        list[Literal["title", "description", "brand", "categories"]], Field(min_length=1)
    ]
    width: PositiveInt
    seed: NonNegativeInt


class EfficientNetEncoder(Section):
    """EfficientNet-Lite0, whose weights come with the `embedded` extra."""

    encoder: Literal["efficientnet_lite0"]
    batch_size: PositiveInt


class TimmEncoder(Section):
    """Any timm image model with timm's own preprocessing (CLIP ViT-L/14 included)."""

    encoder: Literal["timm"]
    model: str
    weights: str | None
    dtype: Literal["float32", "bfloat16", "float16"]
    batch_size: PositiveInt


class HsvHogEncoder(Section):
    """HSV colour histogram and histogram of oriented gradients; needs no weights."""

    encoder: Literal["hsv_hog"]
    image_size: PositiveInt


class PublishedEmbedding(Section):
    """Embeddings published as `X.emb-*.npy` beside the interactions."""

    encoder: Literal["published"]


class CooccurrenceSvdEncoder(Section):
    """Shifted positive PMI of training purchases, reduced by truncated SVD; needs no weights."""

    encoder: Literal["cooccurrence_svd"]
    width: PositiveInt
    shift: PositiveFloat
    seed: NonNegativeInt


TextEncoder = MiniLMEncoder | HuggingFaceTextEncoder | TfidfEncoder | PublishedEmbedding
ImageEncoder = EfficientNetEncoder | TimmEncoder | HsvHogEncoder | PublishedEmbedding
CollabEncoder = CooccurrenceSvdEncoder | PublishedEmbedding


class EmbedParams(Section):
    """One encoder a modality."""

    text: Annotated[TextEncoder, Field(discriminator="encoder")]
    image: Annotated[ImageEncoder, Field(discriminator="encoder")]
    collab: Annotated[CollabEncoder, Field(discriminator="encoder")]


class PseudoLabelParams(Section):
    """K-means pseudo-labels (Eq. 1)."""

    num_clusters: PositiveInt
    n_init: PositiveInt
    seed: NonNegativeInt


# ---------------------------------------------------------------------------- quantizer


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


# --------------------------------------------------------------------------- recommender


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


class RuntimeParams(Section):
    """Where and how numbers are computed."""

    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "float32", "bfloat16"]
    num_threads: NonNegativeInt
    num_processes: PositiveInt
    checkpoint_every_s: NonNegativeFloat


# -------------------------------------------------------------------------------- whole


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
_RESERVED_NAMES = {
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


def load_params(path: Path) -> Params:
    """Read and validate a params file.

    Raises:
        MacrecError: the file cannot be read or parsed, or any value breaks a rule; every
            broken rule is named, one a line.
    """
    return validate_params(_parsed(path), str(path))


def read_params(path: Path) -> Mapping[str, Any]:
    """Read a params file as it stands, but valid; see `load_params`."""
    raw = _parsed(path)
    validate_params(raw, str(path))
    assert isinstance(raw, Mapping)  # or it were not valid
    return raw


def _parsed(path: Path) -> object:
    try:
        # YAML 1.2 as DVC reads it: PyYAML would take 1e-3 for a string.
        return YAML(typ="safe", pure=True).load(path)
    except (OSError, YAMLError) as error:
        raise MacrecError(f"{path}: cannot be read as YAML: {error}") from error


def validate_params(raw: object, origin: str) -> Params:
    """Validate a parsed params mapping; see `load_params`."""
    if not isinstance(raw, Mapping):
        raise MacrecError(f"{origin}: holds {type(raw).__name__}, expected a mapping of sections")
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        # Overrides are checked on the raw sections, so that they are reported with the rest.
        problems = [_line(e) for e in error.errors()] + _override_problems(raw)
        raise _as_one_error(origin, problems) from error
    problems = [
        *_axis_problems(params), *_variant_problems(params), *_unquantized_problems(params),
        *_ensemble_problems(params), *_override_problems(raw),
    ]  # fmt: skip
    if not problems:  # of sections that are valid with their overrides
        problems = [
            *_baseline_problems(params), *_letter_problems(params), *_level_problems(params),
        ]  # fmt: skip
    if problems:
        raise _as_one_error(origin, problems)
    return params


def _as_one_error(origin: str, problems: list[str]) -> MacrecError:
    return MacrecError(
        f"{origin}: {len(problems)} invalid parameter(s):\n  " + "\n  ".join(problems)
    )


def _line(error: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails, a TypedDict of mixed types
    """One `name=value: rule` line of a pydantic error."""
    # A discriminated union puts its tag into the location; the user's key path has no such part.
    tags = {
        "sample",
        "amazon",
        "published",
        "minionerec",
        "minilm",
        "huggingface",
        "tfidf_svd",
        "efficientnet_lite0",
        "timm",
        "hsv_hog",
        "cooccurrence_svd",
        "sasrec",
        "bert4rec",
        "gru4rec",
        "narm",
        "stamp",
        "fdsa",
        "s3rec",
        "missrec",
    }
    location = list(error["loc"])
    if location[:1] == ["dataset_specs"] and len(location) > 2 and location[2] in tags:
        del location[2]
    if location[:1] == ["embed"] and len(location) > 2 and location[2] in tags:
        del location[2]
    if location[:1] == ["baseline_specs"] and len(location) > 2 and location[2] in tags:
        del location[2]
    name = ".".join(str(part) for part in location)
    rules = {
        "missing": "is missing: add it (presets/ holds complete files)",
        "extra_forbidden": "is unknown: remove it or correct its name",
    }
    rule = rules.get(error["type"], error["msg"].removeprefix("Value error, "))
    if error["type"] == "missing" or isinstance(error["input"], Mapping):
        return f"{name}: {rule}"
    return f"{name}={error['input']!r}: {rule}"


def _axis_problems(params: Params) -> list[str]:
    problems = []
    axes: dict[str, list[Any]] = {
        "datasets": params.datasets,
        "variants": params.variants,
        "baselines": params.baselines,
        "multimodal_baselines": params.multimodal_baselines,
        "ensembles": params.ensembles,
        "seeds": params.seeds,
        "modalities": params.modalities,
    }
    for name, values in axes.items():
        if len(set(values)) != len(values):
            problems.append(f"{name}={values}: a value occurs twice; name each once")
    if not params.variants and not params.baselines and not params.multimodal_baselines:
        problems.append(
            "variants=[], baselines=[], multimodal_baselines=[]: nothing to train; name one"
        )
    for axis, specs in (
        ("dataset", params.dataset_specs),
        ("variant", params.variant_specs),
        ("baseline", params.baseline_specs),
        ("multimodal_baseline", params.baseline_specs),
        ("ensemble", params.ensemble_specs),
    ):
        problems += [
            f"{axis}s={name}: has no entry in {axis.removeprefix('multimodal_')}_specs; add one"
            for name in axes[f"{axis}s"]
            if name not in specs
        ]
    multimodal = params.multimodal_baselines
    for axis, others in (
        ("baselines", [*params.variants, *multimodal]),
        ("multimodal_baselines", [*params.variants, *params.baselines]),
        ("ensembles", [*params.variants, *params.baselines, *multimodal]),
    ):
        problems += [
            f"{axis}={name}: {reason}; use another name"
            for name in axes[axis]
            for reason in _taken(name, others)
        ]
    problems += _multimodal_problems(params)
    if sorted(params.learned_datasets + params.imported_datasets) != sorted(params.datasets):
        problems.append(
            f"datasets={params.datasets}: each must stand in exactly one of learned_datasets "
            f"({params.learned_datasets}) and imported_datasets ({params.imported_datasets})"
        )
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
    return reasons + (["it is taken in the report"] if name in _RESERVED_NAMES else [])


def _ensemble_problems(params: Params) -> list[str]:
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


def _baseline_problems(params: Params) -> list[str]:
    problems = []
    for name, spec in params.baseline_specs.items():
        width = params.sequential_of(name).hidden_size
        if isinstance(spec, SASRecSpec | BERT4RecSpec) and width % spec.num_heads:
            problems.append(
                f"baseline_specs.{name}.num_heads={spec.num_heads}: must divide "
                f"sequential.hidden_size={width}; change either"
            )
        if isinstance(spec, STAMPSpec):
            problems += [
                f"baseline_specs.{name}.sequential.{knob}: STAMP has no such size; remove it"
                for knob in ("num_layers", "inner_size")
                if knob in spec.sequential
            ]
    return problems


def _letter_problems(params: Params) -> list[str]:
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


def _level_problems(params: Params) -> list[str]:
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


def _unquantized_problems(params: Params) -> list[str]:
    """Rules of the lists that say where a variant's IDs come from."""
    problems = []
    unquantized = params.clustered_variants + params.visual_variants
    if sorted(params.quantized_variants + unquantized) != sorted(params.variants):
        problems.append(
            f"variants={params.variants}: each must stand in exactly one of quantized_variants "
            f"({params.quantized_variants}), clustered_variants ({params.clustered_variants}) "
            f"and visual_variants ({params.visual_variants})"
        )
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


def _variant_problems(params: Params) -> list[str]:
    problems = []
    for name in params.variants:
        if name in _RESERVED_NAMES:
            problems.append(
                f"variants={name}: the name stands for a yardstick in the report; use another"
            )
        spec = params.variant_specs.get(name)
        if spec is None:
            continue
        unknown = [m for m in spec.modalities if m not in params.modalities]
        if unknown and name in params.quantized_variants:
            problems.append(
                f"variant_specs.{name}.modalities={spec.modalities}: {unknown} not in "
                f"modalities={list(params.modalities)}; add them there or remove them here"
            )
        tasks = spec.seq2seq.get("tasks", params.seq2seq.tasks)
        aligned = [task for task in tasks if task != "recommend"]
        if aligned and len(spec.modalities) < 2:
            problems.append(
                f"variant_specs.{name}.seq2seq.tasks={tasks}: {aligned} need two modalities, the "
                f"variant has {spec.modalities}; give it tasks: [recommend]"
            )
    return problems


def _override_problems(raw: Mapping[str, Any]) -> list[str]:
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
        known = {_line(e) for e in _errors_of(model, base)}
        prefix = f"{specs_name}.{name}.{section}"
        problems += [
            f"{prefix}.{_line(e)}" if e["loc"] else f"{prefix}{_line(e)}"
            for e in _errors_of(model, {**base, **changes})
            if _line(e) not in known
        ]
    return problems


def _errors_of(model: type[Section], values: Mapping[str, Any]) -> list[Any]:
    try:
        model.model_validate(values)
    except ValidationError as error:
        return error.errors()
    return []
