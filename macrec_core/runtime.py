"""Seeds, device, precision and thread count, decided in one place.

Imports nothing beyond torch and numpy, so that it runs on a bare GPU image.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from macrec_core.errors import MacrecError
from macrec_core.files import file_sha256 as file_sha256
from macrec_core.files import scratch_root as scratch_root
from macrec_core.processes import ALONE, Processes, joined

if TYPE_CHECKING:
    from macrec_core.params.whole import RuntimeParams

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Runtime:
    """Where numbers are computed.

    Attributes:
        device: torch device of models and data.
        autocast: type of matrix products under autocast, or None for plain float32.
        processes: those that share the work.
    """

    device: torch.device
    autocast: torch.dtype | None
    processes: Processes = ALONE

    def against_divergence(self, rate: str) -> str:
        """What an error for a loss that is not finite advises.

        Args:
            rate: name of the learning rate's parameter.
        """
        advice = f"lower {rate}"
        if self.autocast is not None:
            advice += " or set runtime.precision to 'float32'"
        return advice


def start(params: RuntimeParams, use_precision: bool = False, shared: bool = False) -> Runtime:
    """Fix threads and determinism, and choose device and precision.

    Deterministic kernels are required, so that one seed gives one result on one machine.

    Args:
        params: section `runtime`.
        use_precision: follow `runtime.precision`, as training and embedding do; otherwise
            float32, as assignment and decoding do.
        shared: join the processes that a launcher has started. Their number is the launcher's;
            one other than `runtime.num_processes` is logged.

    Raises:
        MacrecError: `runtime.device=cuda` on a machine without a usable GPU, or processes that
            cannot be joined.
    """
    # cuBLAS is deterministic only with a fixed workspace.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As `use_deterministic_algorithms(True)`, which would also import torch's compiler, only to
    # set its flag: 1.5 s of every stage.
    torch.set_deterministic_debug_mode("error")
    # On by default with the above, costs a tenth of the time, and guards only against reading
    # memory that was never written, which nothing here does.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # not in torch's types
    device = _device(params.device)
    processes = ALONE
    if shared:
        device, processes = _shared(device, params)
    # Joining may change it. Of several processes each has as many.
    if params.num_threads:
        torch.set_num_threads(params.num_threads)
    wanted = params.precision if use_precision else "float32"
    half = wanted == "bfloat16" or (wanted == "auto" and computes_bfloat16(device))
    log.info(
        "device %s, %s, %d threads%s",
        device, "bfloat16" if half else "float32", torch.get_num_threads(),
        f" in each of {processes.count} processes" if processes.count > 1 else "",
    )  # fmt: skip
    if wanted == "bfloat16" and not computes_bfloat16(device):
        log.warning(
            "runtime.precision='bfloat16': this %s has no instructions for it and is slower with "
            "it; 'auto' would choose float32", device.type,
        )  # fmt: skip
    return Runtime(device, torch.bfloat16 if half else None, processes)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Without either, torch emulates the type and is slower than with float32.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Values of the CPU on a device, without waiting for the work that a GPU has yet to do.

    torch waits for a GPU before it copies from ordinary memory, and not from pinned memory.
    """
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def generator(*parts: int | str) -> torch.Generator:
    """A CPU random generator whose stream is a function of the given parts alone.

    Streams named by (seed, purpose, epoch) do not depend on what ran before them, which is
    what lets an interrupted training go on with the same data order.
    """
    digest = hashlib.sha256("/".join(str(p) for p in parts).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def fingerprint(
    settings: Iterable[str], files: Iterable[Path], code: Iterable[Path], runtime: Runtime
) -> str:
    """Hash of everything that a training's result depends on.

    Args:
        settings: parameters and seed in a canonical form.
        files: input files; their contents count, not their names.
        code: Python files whose change makes older results stale.
        runtime: the kind of device, precision and number of processes in use; the thread count
            is read from torch.
    """
    libraries = [f"{name} {version(name)}" for name in ("torch", "transformers", "numpy")]
    used = [
        runtime.device.type, str(runtime.autocast), str(torch.get_num_threads()),
        str(runtime.processes.count),
    ]  # fmt: skip
    digest = hashlib.sha256()
    for text in (*libraries, *used, *settings):
        digest.update(hashlib.sha256(text.encode()).digest())
    for path in (*files, *sorted(code)):
        digest.update(file_sha256(path).encode())
    return digest.hexdigest()[:32]


def code_files(*names: str) -> list[Path]:
    """Files of modules and packages of macrec_core, by name, whose change makes results stale."""
    home = Path(__file__).parent
    files: list[Path] = []
    for name in names:
        module = home / f"{name}.py"
        files += [module] if module.is_file() else (home / name).rglob("*.py")
    return sorted(files)


def _device(name: str) -> torch.device:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise MacrecError("runtime.device='cuda': no usable GPU here; set it to 'auto' or 'cpu'")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def _shared(device: torch.device, params: RuntimeParams) -> tuple[torch.device, Processes]:
    """This process's own device, and the processes that share the work."""
    processes = joined(device)
    if processes.count != params.num_processes:
        # One is the default, and no wish to be overruled.
        level = logging.WARNING if params.num_processes > 1 else logging.INFO
        log.log(
            level, "runtime.num_processes=%d, but a launcher has started %d: these share the work",
            params.num_processes, processes.count,
        )  # fmt: skip
    if device.type == "cuda" and processes.count > 1:
        # By its number: a thread of this process would take the first one for the current one.
        device = torch.device("cuda", torch.cuda.current_device())
    return device, processes
