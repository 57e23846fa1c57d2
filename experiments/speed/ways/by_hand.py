"""A loop written by hand over tensors in memory: uint8, or with --float32 normalised beforehand as speedrunners do.

On one thread for batches under 16 images, which is faster for them, else on all.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from net import Net
from torch import Tensor
from work import MEAN, STD, Work

PAD = 4


def crop_and_flip(images: Tensor) -> Tensor:
    """Whole batches: each of the 81 offsets cuts its share of the images."""
    number, _, height, width = images.shape
    padded = F.pad(images, (PAD,) * 4)
    rows, columns = torch.randint(2 * PAD + 1, (2, number))
    cropped = torch.empty_like(images)
    for row in range(2 * PAD + 1):
        for column in range(2 * PAD + 1):
            chosen = ((rows == row) & (columns == column)).nonzero().squeeze(1)
            if len(chosen):
                cropped[chosen] = padded[chosen, :, row : row + height, column : column + width]
    mirrored = torch.rand(number) < 0.5
    cropped[mirrored] = cropped[mirrored].flip(-1)
    return cropped


def main() -> None:
    work = Work(__doc__.splitlines()[0])
    float32 = work.asked.float32
    torch.set_num_threads(1 if work.asked.batch < 16 else torch.get_num_threads())
    mean, std = (255 * torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    images, labels = work.train
    if float32:
        images = images.float().sub_(mean).div_(std)
    net = work.model(Net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9)
    total = torch.zeros(())
    for _ in range(work.asked.epochs):
        for chosen in torch.randperm(len(labels)).split(work.asked.batch):
            inputs = images.index_select(0, chosen)
            if work.asked.augment:
                inputs = crop_and_flip(inputs)
            if not float32:
                inputs = inputs.float().sub_(mean).div_(std)
            optimizer.zero_grad()
            loss = F.cross_entropy(net(inputs), labels.index_select(0, chosen))
            loss.backward()
            optimizer.step()
            total += loss.detach()
            work.step_is_done()
    net.eval()
    correct = 0
    with torch.no_grad():
        for inputs, wanted in zip(work.test[0].split(500), work.test[1].split(500), strict=True):
            correct += int((net(inputs.float().sub_(mean).div_(std)).argmax(1) == wanted).sum())
    work.print(correct)


if __name__ == "__main__":
    main()
