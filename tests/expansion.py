"""Names of the stages that dvc.yaml makes of the axes in params.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product
from typing import Any

from macrec_core.params.whole import Params

_AXIS = re.compile(r"\$\{(\w+)\}")


def stage_names(declared: Mapping[str, Any], params: Params) -> set[str]:
    """Addresses as DVC gives them, without the file: `train_gr@sample-macrec-0`, `report`."""
    names = set()
    for stage, entry in declared.items():
        axes = []
        for axis in entry.get("matrix", {}).values():
            named = _AXIS.fullmatch(axis)
            assert named, f"{stage}: axis {axis} is no list of params.yaml"
            axes.append(getattr(params, named[1]))
        for item in product(*axes):
            names.add(f"{stage}@{'-'.join(map(str, item))}" if item else stage)
    return names
