"""Sequence models by name, new and on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from macrec_core.baselines.bert4rec import BERT4Rec
from macrec_core.baselines.gru4rec import GRU4Rec
from macrec_core.baselines.model import NextItemModel
from macrec_core.baselines.narm import NARM
from macrec_core.baselines.sasrec import SASRec
from macrec_core.baselines.stamp import STAMP
from macrec_core.baselines.transformer import Shape
from macrec_core.errors import MacrecError

if TYPE_CHECKING:
    from macrec_core.params import BaselineSpec, SequentialParams

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


def new_model(
    spec: BaselineSpec, params: SequentialParams, num_items: int, draws: torch.Generator
) -> NextItemModel:
    """An untrained model.

    Args:
        spec: which model, and its own options.
        params: section `sequential` with the baseline's overrides.
        num_items: N.
        draws: CPU generator of the weights.
    """
    model = _bare(spec, params, num_items)
    model.initialise(draws)
    return model


def save_model(
    folder: Path, model: NextItemModel, spec: BaselineSpec, params: SequentialParams
) -> None:
    """Write weights and what is needed to read them into an existing folder."""
    config = {
        "num_items": model.num_items,
        "spec": spec.model_dump(),
        "sequential": params.model_dump(),
    }
    (folder / _CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    save_file(tensors, str(folder / _WEIGHTS))


def load_model(folder: Path) -> tuple[NextItemModel, SequentialParams]:
    """Read what `save_model` wrote, in evaluation mode.

    Raises:
        MacrecError: a file is missing or does not fit the other.
    """
    from pydantic import TypeAdapter

    from macrec_core.params import BaselineSpec, SequentialParams

    try:
        config = json.loads((folder / _CONFIG).read_text())
        params = SequentialParams.model_validate(config["sequential"])
        spec = TypeAdapter[BaselineSpec](BaselineSpec).validate_python(config["spec"])
        model = _bare(spec, params, config["num_items"])
        model.load_state_dict(load_file(str(folder / _WEIGHTS)))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise MacrecError(
            f"{folder}: is no sequence model as train_baseline writes it ({first_line}); run "
            "train_baseline again"
        ) from error
    return model.eval(), params


def _bare(spec: BaselineSpec, params: SequentialParams, num_items: int) -> NextItemModel:
    shape = Shape(
        num_items, params.hidden_size, params.num_layers, params.inner_size, params.dropout,
        params.max_history,
    )  # fmt: skip
    if spec.model == "sasrec":
        return SASRec(shape, spec.num_heads)
    if spec.model == "bert4rec":
        return BERT4Rec(shape, spec.num_heads, spec.mask_ratio, spec.last_item_ratio)
    if spec.model == "narm":
        return NARM(shape, spec.representation_dropout)
    if spec.model == "stamp":
        return STAMP(shape)
    return GRU4Rec(shape)
