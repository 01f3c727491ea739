"""The numbers of the MACRec paper (AAAI 2026), Tables 1 to 4: to stand beside ours, never among.

Keyed by this project's names of datasets and rows.
"""

from __future__ import annotations

from typing import Final

# Of Table 2, in its order.
METRICS: Final = ("hr@1", "hr@5", "hr@10", "ndcg@5", "ndcg@10")
_METHODS: Final = (
    "bert4rec", "sasrec", "fdsa", "s3rec", "missrec", "p5_cid", "vip5", "tiger", "mql4grec",
    "macrec",
)  # fmt: skip

# Table 1; sparsity as a share.
STATISTICS: Final[dict[str, dict[str, float]]] = {
    "instruments": {
        "num_users": 17112, "num_items": 6250, "num_interactions": 136226,
        "sparsity": 0.9987, "average_length": 7.96,
    },
    "arts": {
        "num_users": 22171, "num_items": 9416, "num_interactions": 174079,
        "sparsity": 0.9992, "average_length": 7.85,
    },
    "games": {
        "num_users": 42259, "num_items": 13839, "num_interactions": 373514,
        "sparsity": 0.9994, "average_length": 8.84,
    },
}  # fmt: skip

# Table 2 as printed: a line a metric, a column a method.
_TABLE_2: Final = {
    "instruments": """
        0.0450 0.0318 0.0530 0.0339 0.0723 0.0512 0.0737 0.0754 0.0763 0.0819
        0.0856 0.0946 0.0987 0.0937 0.1089 0.0839 0.0892 0.1007 0.1058 0.1110
        0.1081 0.1233 0.1249 0.1123 0.1361 0.1119 0.1071 0.1221 0.1291 0.1363
        0.0667 0.0654 0.0775 0.0693 0.0797 0.0678 0.0815 0.0882 0.0902 0.0965
        0.0739 0.0746 0.0859 0.0743 0.0880 0.0704 0.0872 0.0950 0.0997 0.1046
    """,
    "arts": """
        0.0289 0.0212 0.0380 0.0172 0.0479 0.0421 0.0474 0.0532 0.0626 0.0685
        0.0697 0.0951 0.0832 0.0739 0.1021 0.0713 0.0704 0.0894 0.0997 0.1046
        0.0922 0.1250 0.1190 0.1030 0.1321 0.0994 0.0959 0.1167 0.1254 0.1329
        0.0502 0.0610 0.0583 0.0511 0.0699 0.0607 0.0586 0.0718 0.0816 0.0868
        0.0575 0.0706 0.0695 0.0630 0.0815 0.0662 0.0635 0.0806 0.0898 0.0953
    """,
    "games": """
        0.0115 0.0069 0.0163 0.0136 0.0201 0.0169 0.0173 0.0166 0.0200 0.0208
        0.0426 0.0587 0.0614 0.0527 0.0674 0.0532 0.0480 0.0523 0.0645 0.0671
        0.0725 0.0985 0.0988 0.0903 0.1048 0.0824 0.0758 0.0857 0.1007 0.1078
        0.0270 0.0333 0.0389 0.0351 0.0385 0.0331 0.0328 0.0345 0.0421 0.0435
        0.0366 0.0461 0.0509 0.0468 0.0499 0.0454 0.0418 0.0453 0.0538 0.0565
    """,
}


def _by_method(printed: str) -> dict[str, dict[str, float]]:
    lines = [[float(number) for number in line.split()] for line in printed.split("\n")]
    columns = zip(*[line for line in lines if line], strict=True)
    return {
        method: dict(zip(METRICS, column, strict=True))
        for method, column in zip(_METHODS, columns, strict=True)
    }


# Table 2 by dataset, method and metric.
RESULTS: Final = {dataset: _by_method(printed) for dataset, printed in _TABLE_2.items()}

# Table 3 by dataset and variant: HR@10.
ABLATIONS: Final[dict[str, dict[str, float]]] = {
    "instruments": {
        "macrec": 0.1363, "without_contrastive": 0.1289, "without_alignment": 0.1310,
        "without_implicit": 0.1312, "without_explicit": 0.1296,
    },
    "arts": {
        "macrec": 0.1329, "without_contrastive": 0.1283, "without_alignment": 0.1301,
        "without_implicit": 0.1296, "without_explicit": 0.1299,
    },
    "games": {
        "macrec": 0.1078, "without_contrastive": 0.1018, "without_alignment": 0.1026,
        "without_implicit": 0.1042, "without_explicit": 0.1037,
    },
}  # fmt: skip

# Table 4 by dataset, variant and modality: collision rate in percent, before reassignment.
COLLISIONS: Final[dict[str, dict[str, dict[str, float]]]] = {
    "instruments": {
        "mql4grec": {"text": 2.76, "image": 3.71}, "macrec": {"text": 2.38, "image": 3.23},
    },
    "arts": {
        "mql4grec": {"text": 5.15, "image": 5.71}, "macrec": {"text": 4.24, "image": 5.29},
    },
    "games": {
        "mql4grec": {"text": 3.51, "image": 26.10}, "macrec": {"text": 2.91, "image": 25.24},
    },
}  # fmt: skip
