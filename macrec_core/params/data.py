"""Sections of the data: datasets, images, filter, embeddings, pseudo-labels."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from macrec_core.params.section import (
    Fraction,
    Name,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
)

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SampleSource(Section):
    """A synthetic shop written as raw files in the Amazon-2018 layout."""

    source: Literal["sample"]
    num_items: PositiveInt
    num_users: PositiveInt
    image_size: Annotated[int, Field(ge=32)]
    seed: NonNegativeInt


class AmazonSource(Section):
    """A category of an Amazon release, from the first of several URLs or local folders."""

    source: Literal["amazon"]
    layout: Literal["amazon2018", "amazon2023"]
    category: str
    bases: Annotated[list[str], Field(min_length=1)]
    sha256: dict[Literal["ratings", "metadata", "reviews"], Sha256]


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


class FilesSource(Section):
    """A catalogue of one's own: a table of interactions and one of items, Parquet or CSV."""

    source: Literal["files"]
    folder: str
    interactions: str
    items: str


DatasetSpec = Annotated[
    SampleSource | AmazonSource | PublishedSource | MiniOneRecSource | FilesSource,
    Field(discriminator="source"),
]


class ImageParams(Section):
    """What `download` does with images."""

    max_side: PositiveInt
    max_pixels: PositiveInt
    jpeg_quality: Annotated[int, Field(ge=1, le=95)]
    concurrency: PositiveInt
    per_host: PositiveInt
    timeout_s: PositiveFloat
    max_failure_rate: Fraction
    shard_mb: Annotated[int, Field(ge=1, le=1024)]


class FilterParams(Section):
    """What `filter` keeps."""

    k_core: PositiveInt
    max_bad_lines: NonNegativeInt


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
