"""Chapter 1 of 4: what a tensor is, how it is cut and shaped, what it shares with NumPy, and where it lives.

python experiments/sixty_minute_blitz/chapter1_tensors.py [OVERRIDE…]
"""

from __future__ import annotations

import numpy as np
import torch
from lesson import Lesson, chapter

from blitz.parts.datasets import DATASETS
from blitz.parts.devices import DEVICES, available


def present(lesson: Lesson) -> None:
    indexing(lesson)
    resizing(lesson)
    single_numbers(lesson)
    numpy_and_back(lesson)
    devices(lesson)
    images(lesson)


def indexing(lesson: Lesson) -> None:
    lesson.heading(
        "Indexing, as in NumPy", "A tensor is an array of numbers of one type, and is indexed as NumPy's are."
    )
    lesson.does("Twelve numbers in three rows of four:")
    x = torch.arange(12).view(3, 4)
    lesson.shows("A row.", x[1], [4, 5, 6, 7])
    lesson.shows("A column.", x[:, 1], [1, 5, 9])
    lesson.shows("Every second number of the last row.", x[-1, ::2], [8, 10])
    lesson.shows("All numbers for which a condition holds.", x[x > 8], [9, 10, 11])
    lesson.does("Rows, columns and slices are views: writing into one writes into the tensor.", statements=2)
    column = x[:, 0]
    column.fill_(0)
    lesson.shows("The first column of x is zero now.", x, [[0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11]])
    lesson.does("What a condition chooses is a copy, as it is in NumPy.", statements=2)
    chosen = x[x > 8]
    chosen.fill_(-1)
    lesson.shows("x is as it was.", x[-1], [0, 9, 10, 11])


def resizing(lesson: Lesson) -> None:
    lesson.heading("Resizing", "view() shows the same numbers in another shape. One side may be left open as -1.")
    lesson.does("Twelve numbers again.")
    x = torch.arange(12).view(3, 4)
    lesson.shows("-1 alone puts all of them in a row.", x.view(-1).shape, torch.Size([12]))
    lesson.shows("Beside other sides, -1 is what is left: 12 / 6 = 2.", x.view(-1, 6).shape, torch.Size([2, 6]))
    lesson.refuses("Twelve numbers do not make five rows.", lambda: x.view(5, -1), RuntimeError, "is invalid for input")
    lesson.refuses("Two open sides cannot be inferred.", lambda: x.view(-1, -1), RuntimeError, "only one dimension")
    lesson.shows("A view begins at the same address: nothing was copied.", x.view(-1).data_ptr() == x.data_ptr(), True)
    lesson.does("Turning rows into columns copies nothing either: it reads the same memory with other steps.")
    turned = x.t()
    lesson.shows("From row to row it is one number now, from column to column four.", turned.stride(), (1, 4))
    lesson.shows("So its numbers do not follow one another in memory any more.", turned.is_contiguous(), False)
    lesson.refuses(
        "view() refuses then: no steps through this memory give all numbers in a row.",
        lambda: turned.view(-1),
        RuntimeError,
        "view size is not compatible",
    )
    flat = lesson.shows("reshape() copies them.", turned.reshape(-1), [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11])
    lesson.shows("The copy has an address of its own.", flat.data_ptr() == x.data_ptr(), False)
    lesson.shows("Where a view is possible, reshape() makes one.", x.reshape(-1).data_ptr() == x.data_ptr(), True)


def single_numbers(lesson: Lesson) -> None:
    lesson.heading("One number", "A tensor of one element, such as a loss, can be read as a number of Python's.")
    lesson.does("A tensor of one element:")
    loss = torch.tensor([2.5])
    lesson.shows("item() gives its value.", loss.item(), 2.5)
    lesson.shows("Its shape does not matter.", torch.ones(1, 1, 1).item(), 1.0)
    lesson.refuses("Several elements are no number.", lambda: torch.ones(3).item(), RuntimeError, "cannot be converted")
    lesson.shows("They are a list.", torch.ones(3).tolist(), [1.0, 1.0, 1.0])
    lesson.say(
        "On a GPU, item() waits until all that was computed before is done. In a training loop it belongs into the "
        "report, not into every step."
    )


def numpy_and_back(lesson: Lesson) -> None:
    lesson.heading("NumPy and back", "A tensor on the CPU and a NumPy array can be two names for the same memory.")
    lesson.does("numpy() gives an array.", statements=2)
    a = torch.ones(3)
    b = a.numpy()
    lesson.does("Add one to the tensor. (Methods whose names end with an underscore work in place.)")
    a.add_(1)
    lesson.shows("The array has changed with it.", b, [2.0, 2.0, 2.0])
    lesson.does("Now change the array.")
    b[0] = 7
    lesson.shows("The tensor has changed with it.", a, [7.0, 2.0, 2.0])
    lesson.does("from_numpy() shares memory as well.", statements=2)
    c = np.zeros(2)
    d = torch.from_numpy(c)
    lesson.does("A change on NumPy's side:")
    np.add(c, 1, out=c)
    lesson.shows(
        "It shows in the tensor, whose numbers have NumPy's usual 64 bits.", d, torch.ones(2, dtype=torch.float64)
    )
    lesson.does("torch.tensor() copies, which another change of the array shows.", statements=2)
    copied = torch.tensor(c)
    c[:] = 0
    lesson.shows(
        "The tensor that shares is zero, and the copy is not.", (d.tolist(), copied.tolist()), ([0, 0], [1, 1])
    )
    lesson.does("A tensor that gradients are kept for (chapter 2) has to be detached first.")
    weights = torch.ones(2, requires_grad=True)
    lesson.refuses("Otherwise numpy() refuses.", lambda: weights.numpy(), RuntimeError, "detach().numpy()")


def devices(lesson: Lesson) -> None:
    lesson.heading("Devices", "A tensor lives on a device, and what is computed with it is computed there.")
    number = lesson.prints("The number of CUDA devices of this machine:", torch.cuda.device_count())
    lesson.shows("CUDA is available where there is at least one.", torch.cuda.is_available(), number > 0)
    lesson.refuses(
        "Old notes ask cuda_is_available(), which does not exist.",
        lambda: torch.cuda_is_available("cuda"),  # type: ignore[attr-defined]
        AttributeError,
        "has no attribute 'cuda_is_available'",
    )
    lesson.does("A device object is a name. The device need not be there.")
    second = torch.device("cuda", 1)
    lesson.shows("It has a type and a number.", (second.type, second.index), ("cuda", 1))
    lesson.shows("The same can be written in one word.", torch.device("cuda:1") == second, True)
    lesson.prints("blitz knows the kinds of devices that are here, the fastest first.", available())
    lesson.shows("Its device group makes the object from a config.", DEVICES.build({"name": "cpu"}).type, "cpu")
    lesson.does("The device that this chapter was started with: device=cuda, device=cpu, or the fastest that is here.")
    device = lesson.device.torch
    lesson.does("Without a device, a tensor is made on the CPU.")
    x = torch.arange(3.0)
    y = lesson.shows("With one, it is made there.", torch.ones_like(x, device=device), torch.ones(3))
    lesson.shows("It knows where it is.", y.device.type == device.type, True)
    lesson.does("to() moves a tensor.")
    moved = x.to(device)
    lesson.shows(
        "It is x itself where the device is the CPU, on which x was already.", moved is x, device.type == "cpu"
    )
    lesson.shows("What is there already is given back, not copied.", moved.to(moved.device) is moved, True)
    lesson.shows("One has to ask for a copy.", moved.to(moved.device, copy=True) is moved, False)
    lesson.shows("Another type of numbers is a copy, too.", x.to(torch.float64) is x, False)
    lesson.shows("Tensors on the same device can be added.", moved + y, torch.tensor([1.0, 2.0, 3.0]))
    lesson.does("The device called meta holds shapes without numbers, and is on every machine.")
    elsewhere = torch.ones(3, device="meta")
    lesson.refuses("Tensors on two devices cannot be added.", lambda: moved + elsewhere, RuntimeError, "device")
    lesson.does("But for a number: a tensor without sides on the CPU goes with tensors on any device.")
    two = torch.tensor(2.0)
    lesson.shows("The sum is where the other one is.", (two + elsewhere).device, elsewhere.device)
    lesson.refuses("A tensor with a side does not.", lambda: torch.ones(1) + elsewhere, RuntimeError, "device")


def images(lesson: Lesson) -> None:
    name = lesson.settings.data["name"]
    lesson.heading("Images are tensors", f"blitz holds all training images of data={name} as one tensor of bytes.")
    lesson.does("Its data group makes a data set from a config.", statements=2)
    dataset = DATASETS.build(lesson.settings.data)
    images = dataset.train.images
    lesson.prints("Its sides are images, channels, height and width.", tuple(images.shape))
    lesson.shows("A pixel is a byte, from 0 to 255.", images.dtype, torch.uint8)
    lesson.shows("There is a label for each image.", len(dataset.train.labels) == len(images), True)
    lesson.shows("An image is a view of the whole.", images[0].data_ptr() == images.data_ptr(), True)
    lesson.does(
        "Four images, moved to the device as bytes, a quarter of the size, and made floating-point numbers there:"
    )
    batch = images[:4].to(lesson.device.torch).float() / 255
    lesson.shows("They lie within 0 and 1.", bool((batch >= 0).all() and (batch <= 1).all()), True)


if __name__ == "__main__":
    chapter("Chapter 1: Tensors", present)
