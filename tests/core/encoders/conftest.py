"""A catalogue of a few items, and tiny Hugging Face models with random weights."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from macrec_core.artifacts import write_artifact
from macrec_core.runtime import Runtime
from macrec_core.schemas import IMAGES, ITEMS

WORDS = ["guitar", "strings", "drum", "red", "maple", "neck", "stand", "cable"]


@pytest.fixture
def runtime():
    return Runtime(torch.device("cpu"), None)


@pytest.fixture
def scratch(tmp_path):
    return tmp_path / "scratch"


@pytest.fixture
def make_items(tmp_path_factory):
    """Folder of items.parquet with the given titles and descriptions."""

    def make(rows: list[tuple[str | None, str | None]]) -> Path:
        folder = tmp_path_factory.mktemp("catalogue")
        table = pa.table(
            {
                "item_id": range(len(rows)),
                "item_key": [f"B{i}" for i in range(len(rows))],
                "title": pa.array([title for title, _ in rows], pa.string()),
                "description": pa.array([description for _, description in rows], pa.string()),
                "brand": [""] * len(rows),
                "categories": [""] * len(rows),
            }
        )
        write_artifact(folder / "items.parquet", table, ITEMS)
        return folder

    return make


@pytest.fixture
def make_images(make_items):
    """Folder of images.parquet with the given pictures, and of items.parquet with `count` items."""

    def make(
        pictures: list[Image.Image | bytes],
        items: list[int] | None = None,
        count: int | None = None,
    ) -> Path:
        folder = make_items([("", "")] * (len(pictures) if count is None else count))
        table = pa.table(
            {
                "item_id": items if items is not None else range(len(pictures)),
                "url": [f"image-{i}.jpg" for i in range(len(pictures))],
                "width": [64] * len(pictures),
                "height": [64] * len(pictures),
                "image": pa.array([_bytes(p) for p in pictures], pa.binary()),
            }
        )
        write_artifact(folder / "images.parquet", table, IMAGES)
        return folder

    return make


@pytest.fixture
def noise_pictures():
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (64, 48 + 8 * i, 3), dtype=np.uint8)) for i in range(5)
    ]


def _bytes(picture: Image.Image | bytes) -> bytes:
    if isinstance(picture, bytes):
        return picture
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory) -> Path:
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=16,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
        )
    ).save_pretrained(folder)
    specials = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    _save_tokenizer(folder, ["[PAD]", "[CLS]", "[SEP]"], "[CLS] $A [SEP]", specials)
    return folder


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory) -> Path:
    """A causal model whose tokenizer has no padding token, as LLaMA's."""
    from transformers import LlamaConfig, LlamaModel

    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    LlamaModel(
        LlamaConfig(
            vocab_size=16,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
        )
    ).save_pretrained(folder)
    _save_tokenizer(folder, ["<s>", "</s>"], "<s> $A", {"bos_token": "<s>", "eos_token": "</s>"})
    return folder


def _save_tokenizer(folder: Path, specials: list[str], template: str, names: dict[str, str]):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate([*specials, "[UNK]", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    used = [(word, vocabulary[word]) for word in specials if word in template]
    tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=used)
    # As in MiniLM's file: settings that would silently shorten and fill up every text.
    tokenizer.enable_truncation(4)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", **names).save_pretrained(
        folder
    )
