"""A run's best weights, set up to compute what they computed in the run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blitz.job import device_of
from blitz.loading import BEST, RunRecord, restored
from blitz.parts.devices import Device
from blitz.recorded import Provenance, read_provenance
from blitz.settings import Settings
from blitz.training.batches import Batches
from blitz.training.classifier import Classifier


@dataclass(frozen=True)
class Trained:
    """A run's best weights on a device, and this process set up as the run's was."""

    settings: Settings
    provenance: Provenance
    classifier: Classifier
    input_shape: tuple[int, int, int]  # (C, H, W)
    device: Device

    def batches(self, images: Tensor, labels: Tensor) -> Batches:
        """As the run evaluates them: uint8 images (N, C, H, W), normalised as those that it was trained on."""
        size, device = self.settings.eval_batch_size, self.device
        return Batches(images, labels, size, device.torch, self.classifier.normalise, device.channels_last)


def trained(record: RunRecord, settings: Settings) -> Trained:
    """Raises BadInput where the record lacks something, or is damaged."""
    provenance = read_provenance(record.file("provenance.json"))
    classifier, input_shape = restored(record.file(BEST))
    device = device_of(settings, provenance.device)
    memory_format = torch.channels_last if device.channels_last else torch.contiguous_format
    classifier.to(device.torch, memory_format=memory_format)  # type: ignore[call-overload]
    if device.compile and settings.ema is None:  # a run compiles its model, not the average of it
        classifier.model.compile()
    return Trained(settings, provenance, classifier, input_shape, device)
