"""Full-ranking evaluation of a sequence model."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from macrec_core.baselines.histories import Histories
from macrec_core.baselines.model import NextItemModel
from macrec_core.errors import MacrecError
from macrec_core.full_ranking import rank_all_items
from macrec_core.ranking import Cases, Evaluation
from macrec_core.runtime import Runtime


def evaluate_sequence_model(
    name: str,
    model: NextItemModel,
    histories: Histories,
    cases: Cases,
    length: int,
    runtime: Runtime,
) -> Evaluation:
    """Rank all items for every case by their log-probability.

    Args:
        name: of the list.
        model: trained.
        histories: of the cases, in their order.
        cases: users, targets and whole histories.
        length: items of a list.
        runtime: where to compute.

    Raises:
        MacrecError: the model does not know an item.
    """
    largest = int(cases.items.max(initial=-1))
    if largest >= model.num_items:
        raise MacrecError(
            f"{name}: the interactions name item {largest}, the model knows 0..."
            f"{model.num_items - 1}; run train_baseline again"
        )
    model.to(runtime.device).eval()
    histories = histories.to(runtime.device)

    @torch.no_grad()
    def log_probabilities(rows: slice) -> NDArray[np.floating]:
        places = torch.arange(rows.start, rows.stop, device=runtime.device)
        scores: NDArray[np.float32] = (
            model.scores(histories.batch(places)).log_softmax(dim=1).cpu().numpy()
        )
        return scores

    ties = np.zeros(model.num_items, dtype=np.int64)
    return rank_all_items(name, log_probabilities, cases, ties, length)
