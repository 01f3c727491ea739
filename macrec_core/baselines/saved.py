"""Sequence models by name, new and on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from macrec_core.baselines.bert4rec import BERT4Rec
from macrec_core.baselines.fdsa import FDSA
from macrec_core.baselines.features import ItemFeatures
from macrec_core.baselines.gru4rec import GRU4Rec
from macrec_core.baselines.missrec import MISSRec
from macrec_core.baselines.model import NextItemModel
from macrec_core.baselines.narm import NARM
from macrec_core.baselines.s3rec import S3Rec
from macrec_core.baselines.sasrec import SASRec
from macrec_core.baselines.stamp import STAMP
from macrec_core.baselines.transformer import Shape
from macrec_core.errors import MacrecError

if TYPE_CHECKING:
    from macrec_core.params.baselines import BaselineSpec, SequentialParams

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
MODEL_FILES = (_CONFIG, _WEIGHTS)


def new_model(
    spec: BaselineSpec, params: SequentialParams, features: ItemFeatures, draws: torch.Generator
) -> NextItemModel:
    """An untrained model.

    Args:
        spec: which model, and its own options.
        params: section `sequential` with the baseline's overrides.
        features: of the items, whose number every model asks for.
        draws: CPU generator of the weights.

    Raises:
        MacrecError: the model needs attributes and no item has any.
    """
    model = _bare(spec, params, features)
    model.initialise(draws)
    return model


def save_model(
    folder: Path, model: NextItemModel, spec: BaselineSpec, params: SequentialParams
) -> None:
    """Write weights and what is needed to read them into an existing folder.

    Features are not written: `load_model` takes them again and compares their sizes.
    """
    config = {
        **model.counts(),
        "spec": spec.model_dump(),
        "sequential": params.model_dump(),
    }
    (folder / _CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    save_file(tensors, str(folder / _WEIGHTS))


def load_spec(folder: Path) -> tuple[BaselineSpec, SequentialParams]:
    """Which model `save_model` wrote, and its settings.

    Raises:
        MacrecError: the file is missing or damaged.
    """
    spec, params, _ = _read_config(folder)
    return spec, params


def load_model(folder: Path, features: ItemFeatures) -> NextItemModel:
    """Read what `save_model` wrote, in evaluation mode.

    Args:
        folder: of the model.
        features: of the items that it was trained on.

    Raises:
        MacrecError: a file is missing or does not fit the other, or the items are others, as
            their number, that of attributes or the vectors' widths show.
    """
    spec, params, config = _read_config(folder)
    model = _bare(spec, params, features)
    for name, given in model.counts().items():
        if config.get(name) != given:
            raise MacrecError(
                f"{folder}: was trained with {name}={config.get(name)}, the items given have "
                f"{given}; run train_baseline again"
            )
    try:
        model.load_state_dict(load_file(str(folder / _WEIGHTS)))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise _no_model(folder, error) from error
    return model.eval()


def _read_config(folder: Path) -> tuple[BaselineSpec, SequentialParams, dict[str, Any]]:
    from pydantic import TypeAdapter

    from macrec_core.params.baselines import BaselineSpec, SequentialParams

    try:
        config = json.loads((folder / _CONFIG).read_text())
        params = SequentialParams.model_validate(config["sequential"])
        spec = TypeAdapter[BaselineSpec](BaselineSpec).validate_python(config["spec"])
    except (OSError, ValueError, KeyError) as error:
        raise _no_model(folder, error) from error
    return spec, params, config


def _no_model(folder: Path, error: Exception) -> MacrecError:
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    return MacrecError(
        f"{folder}: is no sequence model as train_baseline writes it ({first_line}); run "
        "train_baseline again"
    )


def _bare(spec: BaselineSpec, params: SequentialParams, features: ItemFeatures) -> NextItemModel:
    shape = Shape(
        features.num_items, params.hidden_size, params.num_layers, params.inner_size,
        params.dropout, params.max_history,
    )  # fmt: skip
    if spec.model == "sasrec":
        return SASRec(shape, spec.num_heads)
    if spec.model == "bert4rec":
        return BERT4Rec(shape, spec.num_heads, spec.mask_ratio, spec.last_item_ratio)
    if spec.model == "narm":
        return NARM(shape, spec.representation_dropout)
    if spec.model == "stamp":
        return STAMP(shape)
    if spec.model == "fdsa":
        return FDSA(shape, spec.num_heads, features)
    if spec.model == "s3rec":
        return S3Rec(shape, spec, features)
    if spec.model == "missrec":
        return MISSRec(shape, spec, features)
    return GRU4Rec(shape)
