"""Errors that a run fails with, reworded so that they say what the user can do."""

from __future__ import annotations

import errno
import re
import traceback
from pathlib import Path

import torch

from blitz.config.settings import Settings
from blitz.errors import BadInput, RunFailed
from blitz.runner.build import Setup
from blitz.runner.find import LAST

NO_MEMORY = re.compile("can't allocate memory|not enough memory")  # in the words of PyTorch
DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}


def reword(error: Exception, setup: Setup, folder: Path, saved: tuple[int, int] | None) -> Exception | None:
    """The same with what the user can do about it, for errors of which that is known.

    `saved`: how many epochs, and steps of the next one, the last checkpoint holds.
    """
    size = setup.settings.batch_size
    if is_out_of_memory(error):
        return BadInput(out_of_memory(setup.settings, setup.device.torch, error))
    if "Expected more than 1 value per channel" in str(error):
        return BadInput(
            f"batch_size={size}: leaves a batch of one image, too few for batch normalisation; choose another size"
        )
    if "does not have a deterministic implementation" in str(error):
        return BadInput(f"device.deterministic=true: {str(error).split('.')[0]}; set device.deterministic=false")
    if isinstance(error, OSError) and error.errno in DISK_TROUBLE:
        epoch, steps = saved or (0, 0)
        kept = (
            f"{LAST} holds epoch {epoch}{f' and {steps} steps more' * bool(steps)}" if saved else f"there is no {LAST}"
        )
        return RunFailed(f"{error.filename or folder}: {error.strerror}; {kept}, the record is whole until then")
    return None


def is_out_of_memory(error: Exception) -> bool:
    """Of a GPU, or of a CPU, which raises no exception of its own."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or NO_MEMORY.search(str(error)) is not None


def out_of_memory(settings: Settings, device: torch.device, error: Exception) -> str:
    """Which size to halve, in training or under a function `evaluate`."""
    # By where it was raised: a model that is averaged stays in training mode while the averaged one is evaluated.
    if any(frame.name == "evaluate" for frame in traceback.extract_tb(error.__traceback__)):
        asked, key, size = "eval_batch_size", "eval_batch_size", settings.eval_batch_size
    else:
        asked, key, size = "batch_size", "micro_batch_size", settings.micro_batch_size or settings.batch_size
    if size == 1:
        return f"model={settings.model['name']}: out of memory on {device} with a single image; choose a smaller model"
    return f"{asked}={getattr(settings, asked)}: out of memory on {device}; set {key}={size // 2}"
