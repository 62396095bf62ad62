"""Where and how a model runs: device, dtype, compilation, batch size, seed, threads."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import DeviceError, OutOfMemory, UsageError

if TYPE_CHECKING:
    import torch

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
MAX_SEED = 2**63 - 1  # torch's generators take 64 bits
MAX_THREADS = 1024  # far more than that ends in a crash of OpenMP, with no word of what it was
MAX_BATCH = 2**20
_CUDA = re.compile(r"cuda(:[0-9]{1,2})?")


@dataclass(frozen=True)
class Runtime:
    """What was asked for; `start` turns it into what there is.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: ``auto``, ``fp32``, ``bf16`` or ``fp16``: the type of the weights and of the arithmetic. ``auto`` is bf16 where the hardware
            multiplies it fast, else fp32.
        compile: compile the model with `torch.compile`; batches are then padded to one shape.
        batch_size: items per forward pass; None lets the adapter choose for the device.
        seed: seeds every random choice.
        threads: CPU threads; None leaves it to torch.
    """

    device: str = "auto"
    dtype: str = "auto"
    compile: bool = False
    batch_size: int | None = None
    seed: int = 0
    threads: int | None = None

    @classmethod
    def parse(
        cls,
        device: str = "auto",
        dtype: str = "auto",
        compile: str = "false",
        batch_size: str = "auto",
        seed: str = "0",
        threads: str = "auto",
    ) -> Runtime:
        """From settings, which are text. Raises UsageError for values that make no sense."""
        if device not in ("auto", "cpu", "mps") and not _CUDA.fullmatch(device):
            raise UsageError(f"device {device!r} is unknown; use auto, cpu, cuda, cuda:N or mps")
        if dtype != "auto" and dtype not in DTYPES:
            raise UsageError(f"dtype {dtype!r} is unknown; use auto, fp32, bf16 or fp16")
        if compile not in ("true", "false"):
            raise UsageError(f"compile is {compile!r}; use true or false")
        return cls(
            device=device,
            dtype=dtype,
            compile=compile == "true",
            batch_size=None if batch_size == "auto" else _number("batch-size", batch_size, 1, MAX_BATCH),
            seed=_number("seed", seed, 0, MAX_SEED),
            threads=None if threads == "auto" else _number("threads", threads, 1, MAX_THREADS),
        )

    def start(self) -> Started:
        """Choose the device and dtype, seed torch and set its threads.

        Raises:
            DeviceError: the device is not there.
        """
        import torch

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        torch.manual_seed(self.seed)
        if self.compile:
            import logging

            # It warns that the CUDA toolkit has no GPU to build for, which is no news on a CPU.
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        device = _device(self.device)
        name = self.dtype if self.dtype != "auto" else "bf16" if multiplies_bf16_fast(device) else "fp32"
        return Started(device, getattr(torch, DTYPES[name]), self.compile, self.batch_size)

    def decode_workers(self) -> int:
        """Threads that decode and preprocess images beside the model."""
        return max(1, min(8, self.threads or os.cpu_count() or 1))


@dataclass(frozen=True)
class Started:
    """A runtime in force."""

    device: torch.device
    dtype: torch.dtype
    compile: bool
    batch_size: int | None

    @property
    def dtype_name(self) -> str:
        return {value: key for key, value in DTYPES.items()}[str(self.dtype).removeprefix("torch.")]


def multiplies_bf16_fast(device: torch.device) -> bool:
    """CUDA from compute capability 8.0 on, CPUs with AMX or AVX512-BF16. Elsewhere bf16 is emulated and several times slower than fp32."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
        return any(check() for check in checks if check is not None)
    return False


@contextlib.contextmanager
def memory_errors(cure: str = "") -> Iterator[None]:
    """Turn torch's out-of-memory errors, on any device, into `OutOfMemory`, whose message says ``cure`` where nobody takes less at once."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise OutOfMemory(f"the device is out of memory{cure and '; '}{cure}") from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error) or "MPS backend out of memory" in str(error):
            raise OutOfMemory(f"out of memory{cure and '; '}{cure}") from error
        raise


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count <= (device.index or 0):
            raise DeviceError(f"there is no device {name} ({count} CUDA devices are visible); use --device auto or cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("there is no device mps; use --device auto or cpu")
    return device


def _number(name: str, text: str, least: int, most: int) -> int:
    # Python itself refuses to read a number of thousands of digits.
    if not text.isdecimal() or len(text) > 30 or not least <= int(text) <= most:
        raise UsageError(f"{name} is {text[:30]!r}; use a whole number from {least} to {most}")
    return int(text)
