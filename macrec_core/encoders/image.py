"""Image encoders: one vector a picture, by a network with its own preprocessing."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from macrec_core.encoders.batches import computed, precision
from macrec_core.encoders.encoded import Encoded
from macrec_core.encoders.image_models import ImageModel, load
from macrec_core.encoders.pictures import check_images, image_chunks, pictures
from macrec_core.encoders.shards import Shards, run_folder
from macrec_core.lookahead import ahead
from macrec_core.memory import out_of_memory_names
from macrec_core.params.data import EfficientNetEncoder, TimmEncoder
from macrec_core.progress import Progress
from macrec_core.runtime import Runtime


def encode(
    path: Path,
    num_items: int,
    section: EfficientNetEncoder | TimmEncoder,
    runtime: Runtime,
    scratch: Path,
    progress: Progress,
) -> Encoded:
    """Embed the image of every item.

    Args:
        path: artifact IMAGES.
        num_items: of the catalogue.
        section: `embed.image`.
        runtime: device, precision, and the processes that share the shards.
        scratch: folder of interrupted runs.
        progress: receives the number of images done.

    Raises:
        MacrecError: an item without a readable image, or a model that cannot be loaded.
    """
    check_images(path, num_items)
    model = load(section)
    with out_of_memory_names("the weights alone are too many: choose a smaller model or dtype"):
        model.network.to(runtime.device)
    info: dict[str, object] = {
        "encoder": section.encoder,
        **model.info,
        "precision": str(precision(runtime, model.dtype)).removeprefix("torch."),
    }
    folder = run_folder(scratch, [section.model_dump_json(), repr(info)], path, runtime)
    shards = Shards(folder, num_items, runtime.processes)
    missing = shards.missing()
    progress.start("embed image", sum(map(shards.rows_of, missing)))
    with out_of_memory_names(f"lower embed.image.batch_size={section.batch_size}"):
        for start, images in zip(
            shards.starts, ahead(image_chunks(path, shards.size)), strict=True
        ):
            if start in missing:
                vectors = features(model, images, section.batch_size, runtime, progress)
                shards.save(start, vectors.numpy(), {})
    runtime.processes.wait()
    return Encoded(shards, info, {}, shards.discard)


def features(
    model: ImageModel, images: pa.Table, batch_size: int, runtime: Runtime, progress: Progress
) -> Tensor:
    """Vectors [images, width] of images, float32.

    Args:
        model: the encoder.
        images: rows of artifact IMAGES.
        batch_size: pictures that pass through the network at once.
        runtime: where to compute.
        progress: receives the number of images done.
    """

    def prepare(batch: pa.Table) -> tuple[Tensor]:
        stacked = torch.stack([model.transform(picture) for picture in pictures(batch)])
        # Channels last: convolutions run about 1.4 times as fast on a CPU.
        return (stacked.to(model.dtype, memory_format=torch.channels_last),)

    batches = [images.slice(first, batch_size) for first in range(0, len(images), batch_size)]
    found = []
    for vectors in computed(model.network, prepare, batches, runtime, model.dtype):
        found.append(vectors)
        progress.advance(len(vectors))
    return torch.cat(found).cpu()
