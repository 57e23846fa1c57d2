"""Where the published sets are, and their checksums, as torchvision knows them.

Imported inside functions: torchvision takes seconds, and a set in the cache needs none of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from blitz.parts.datasets.downloads import beside


class Link(NamedTuple):
    file: str
    urls: list[str]
    md5: str


def cifar10() -> list[Link]:
    from torchvision.datasets import CIFAR10

    return [Link(CIFAR10.filename, [CIFAR10.url], CIFAR10.tgz_md5)]


def cifar100() -> list[Link]:
    from torchvision.datasets import CIFAR100

    return [Link(CIFAR100.filename, [CIFAR100.url], CIFAR100.tgz_md5)]


def mnist() -> list[Link]:
    from torchvision.datasets import MNIST

    return _mirrored(MNIST.mirrors, MNIST.resources)


def fashion_mnist() -> list[Link]:
    from torchvision.datasets import FashionMNIST

    return _mirrored(FashionMNIST.mirrors, FashionMNIST.resources)


def svhn() -> list[Link]:
    from torchvision.datasets import SVHN

    return [Link(file, [url], md5) for url, file, md5 in (SVHN.split_list["train"], SVHN.split_list["test"])]


def _mirrored(mirrors: Sequence[str], resources: Sequence[tuple[str, str]]) -> list[Link]:
    return [Link(file, [beside(mirror, file) for mirror in mirrors], md5) for file, md5 in resources]
