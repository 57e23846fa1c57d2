"""The menu of datasets."""

from blitz.parts.datasets.folder import folder
from blitz.parts.datasets.homemade import digits, synthetic
from blitz.parts.datasets.published import cifar10, cifar100, fashion_mnist, mnist, svhn
from blitz.parts.datasets.splits import Dataset, Split, Splits, split
from blitz.parts.registry import Registry

DATASETS = Registry(
    "data",
    "blitz.datasets",
    split,
    cifar10=cifar10,
    cifar100=cifar100,
    mnist=mnist,
    fashion_mnist=fashion_mnist,
    svhn=svhn,
    digits=digits,
    folder=folder,
    synthetic=synthetic,
)

__all__ = ["DATASETS", "Dataset", "Split", "Splits", "split"]
