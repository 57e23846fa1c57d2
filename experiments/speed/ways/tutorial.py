"""The script of PyTorch's tutorial: PIL images, transforms one image at a time, a DataLoader.

https://docs.pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html; the images come from a file of tensors instead
of the archive, through the same lines as in torchvision's CIFAR10.
"""

from __future__ import annotations

import torch
from net import Net
from PIL import Image
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from work import MEAN, STD, Work


class CIFAR10(Dataset[tuple[Tensor, int]]):
    """As torchvision's: an array in memory, a PIL image and its transforms for each item."""

    def __init__(self, images: Tensor, labels: Tensor, transform: transforms.Compose) -> None:
        self.data = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.targets = labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.data[index])), self.targets[index]


def loaders(work: Work) -> tuple[DataLoader[tuple[Tensor, int]], DataLoader[tuple[Tensor, int]]]:
    crop = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()] if work.asked.augment else []
    usual = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    workers, batch = work.asked.workers, work.asked.batch
    train = CIFAR10(*work.train, transforms.Compose([*crop, *usual]))
    test = CIFAR10(*work.test, transforms.Compose(usual))
    return (
        DataLoader(train, batch_size=batch, shuffle=True, num_workers=workers),
        DataLoader(test, batch_size=500, shuffle=False, num_workers=workers),
    )


def main() -> None:
    work = Work(__doc__.splitlines()[0])
    trainloader, testloader = loaders(work)
    net = work.model(Net)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(net.parameters(), lr=0.001, momentum=0.9)
    for _ in range(work.asked.epochs):
        running_loss = 0.0
        for inputs, labels in trainloader:
            optimizer.zero_grad()
            outputs = net(inputs)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
            work.step_is_done()
    net.eval()
    correct = 0
    with torch.no_grad():
        for inputs, labels in testloader:
            correct += int((net(inputs).argmax(1) == labels).sum())
    work.print(correct)


if __name__ == "__main__":
    main()
