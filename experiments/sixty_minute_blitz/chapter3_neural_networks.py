"""Chapter 3 of 4: a network, what it is made of, its loss, and the step that makes it better.

python experiments/sixty_minute_blitz/chapter3_neural_networks.py [OVERRIDE…]
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from lesson import Lesson, Near, chapter
from torch import nn

from blitz.errors import BadInput
from blitz.parts.models import MODELS
from blitz.parts.models.net import Net
from blitz.runner.build import Setup, build

# It looks inside of Net, whose graph another loss, precision or layout would change.
KNOWN = ("data.", "device.name", "device.index", "device.threads", "device.deterministic", "batch_size",
         "eval_batch_size", "seed")  # fmt: skip
LARGEST = 10  # root mean square of what goes into the network


def present(lesson: Lesson) -> None:
    lesson.does("blitz builds data, model and all that trains it from the config.")
    job = build(lesson.settings)
    refuse_huge_images(job)
    a_module(lesson, job)
    parameters(lesson, job)
    mini_batches(lesson, job)
    losses(lesson, job)
    what_backward_walks(lesson, job)
    zero_grad(lesson, job)
    a_step(lesson, job)


def refuse_huge_images(job: Setup) -> None:
    """Raises BadInput for a scale at which losses and gradients are not what the text says, and PyTorch is not why."""
    images, _ = next(job.test.in_order())
    scale = images.square().mean().sqrt().item()
    if scale > LARGEST:
        mean, std = job.settings.data["mean"], job.settings.data["std"]
        raise BadInput(
            f"data.mean={mean}, data.std={std}: the images come to a scale of {scale:.0f}; this chapter can do up to "
            f"{LARGEST}, and 1 is usual"
        )


def a_module(lesson: Lesson, job: Setup) -> None:
    lesson.heading("A module", "A network is an nn.Module: layers, and a method forward() that says how they are used.")
    lesson.does("How many classes there are, and the channels, height and width of an image.")
    classes, shape = len(job.dataset.classes), tuple(job.train.images.shape[1:])
    lesson.does("Net is on the model menu of blitz: blitz/parts/models/net.py.")
    net = MODELS.build({"name": "net"}, classes, shape).to(lesson.device.torch)
    lesson.prints("It knows its layers.", net)
    lesson.shows("The class defines forward().", "forward" in vars(Net), True)
    lesson.shows("It has no backward(): autograd derives it.", hasattr(net, "backward"), False)
    lesson.does("Some test images, as the loop of blitz gets them.")
    images, _ = next(job.test.in_order())
    lesson.shows("One calls the network, not forward().", tuple(net(images).shape), (len(images), classes))
    lesson.shows(
        "It begins in training mode; train() and eval() switch.", (net.training, net.eval().training), (True, False)
    )


def parameters(lesson: Lesson, job: Setup) -> None:
    lesson.heading("Parameters", "What is learned: a weight and a bias for each layer that has some.")
    lesson.does("The job has a Net as well.")
    net = job.learner.model
    lesson.shows("Two convolutions and three linear layers:", len(list(net.parameters())), 10)
    lesson.does("The number of classes, and of what the second pooling leaves of an image:", statements=3)
    num_classes = len(job.dataset.classes)
    channels, height, width = job.train.images.shape[1:]
    num_pooled = 16 * (((height - 4) // 2 - 4) // 2) * (((width - 4) // 2 - 4) // 2)
    expected = [
        ("conv1.weight", (6, channels, 5, 5)), ("conv1.bias", (6,)),
        ("conv2.weight", (16, 6, 5, 5)), ("conv2.bias", (16,)),
        ("fc1.weight", (120, num_pooled)), ("fc1.bias", (120,)), ("fc2.weight", (84, 120)), ("fc2.bias", (84,)),
        ("fc3.weight", (num_classes, 84)), ("fc3.bias", (num_classes,)),
    ]  # fmt: skip
    lesson.shows("Their names and shapes:", [(name, tuple(p.shape)) for name, p in net.named_parameters()], expected)
    lesson.does("All numbers together, counted by hand:")
    total = 6 * (25 * channels + 1) + 16 * (6 * 25 + 1) + 120 * (num_pooled + 1) + 84 * 121 + num_classes * 85
    lesson.shows("PyTorch counts as many.", sum(p.numel() for p in net.parameters()), total)


def mini_batches(lesson: Lesson, job: Setup) -> None:
    lesson.heading("Mini-batches", "A network takes several images at once: (images, channels, height, width).")
    lesson.does("One image has three sides.", statements=3)
    net = job.learner.model
    images, _ = next(job.test.in_order())
    image = images[0]
    lesson.shows("A batch of one has four.", tuple(image.unsqueeze(0).shape), (1, *image.shape))
    lesson.shows("The network takes that.", tuple(net(image.unsqueeze(0)).shape), (1, len(job.dataset.classes)))
    assert isinstance(net, Net)
    side = image.shape[-1] - 4
    lesson.shows(
        "Old notes say that torch.nn takes mini-batches alone. Today a convolution takes a single image.",
        tuple(net.conv1(image).shape), (6, image.shape[1] - 4, side),
    )  # fmt: skip
    lesson.shows(
        "So does pooling.", tuple(net.pool(image).shape), (len(image), image.shape[1] // 2, image.shape[2] // 2)
    )
    lesson.shows(
        "So does a linear layer.",
        tuple(net.fc3(torch.ones(84, device=image.device)).shape),
        (len(job.dataset.classes),),
    )
    lesson.refuses(
        "Net does not: it flattens from the second side on, and that is the height of a single image.",
        lambda: net(image), RuntimeError, "shapes cannot be multiplied",
    )  # fmt: skip


def losses(lesson: Lesson, job: Setup) -> None:
    lesson.heading("Losses", "A loss is a number that says how wrong the outputs are.")
    lesson.does("Up to four images.", statements=3)
    images, labels = next(job.test.in_order())
    images, labels = images[:4], labels[:4]
    outputs = job.learner.model(images)
    lesson.does(
        "For classes: cross-entropy. It takes outputs as they are (no softmax before it) and the classes' numbers."
    )
    criterion = nn.CrossEntropyLoss()
    loss = lesson.prints("How wrong an untrained network is:", criterion(outputs, labels))
    lesson.does("Guessing gives each of K classes 1/K, and is wrong by log K.")
    guessing = torch.tensor(float(len(job.dataset.classes))).log()
    lesson.shows("An untrained network is about as wrong.", guessing, Near(loss, within=0.5))
    lesson.does("By hand: minus the logarithm of the probability of the right class, the mean over images.")
    by_hand = -outputs.log_softmax(1)[range(len(labels)), labels].mean()
    lesson.shows("It is the same.", loss, Near(by_hand, within=1e-6))
    lesson.does("For numbers: the mean squared error. Its target has the shape of the outputs.")
    one_hot = nn.functional.one_hot(labels, len(job.dataset.classes)).float()
    lesson.shows(
        "The mean over all of them:",
        nn.MSELoss()(outputs, one_hot),
        Near(((outputs - one_hot) ** 2).mean(), within=1e-6),
    )
    lesson.does("Losses of blitz give a sum and a weight, so that batches of any size add up to the right mean.")
    total, weight = job.learner.loss(outputs, labels)
    lesson.shows("Divided, they are what torch.nn has.", total / weight, Near(loss, within=1e-6))


def what_backward_walks(lesson: Lesson, job: Setup) -> None:
    lesson.heading("What backward() walks", "A loss leads back, function by function, to the parameters.")
    lesson.does("The loss of some images.", statements=2)
    images, labels = next(job.test.in_order())
    loss = nn.functional.cross_entropy(job.learner.model(images[:4]), labels[:4])
    lesson.does("Follow next_functions to the first that leads on, which a parameter's does not.", statements=3)
    function = loss.grad_fn
    functions = []
    while function is not None:
        functions.append(function)
        function = next((f for f, _ in function.next_functions if f is not None and f.next_functions), None)
    lesson.shows(
        "From the loss to the first convolution:",
        [type(f).__name__.removesuffix("Backward0") for f in functions],
        ["NllLoss", "LogSoftmax", "Addmm", "Relu", "Addmm", "Relu", "Addmm", "View", "MaxPool2DWithIndices", "Relu",
         "Convolution", "MaxPool2DWithIndices", "Relu", "Convolution"],
    )  # fmt: skip
    lesson.shows(
        "That leads to its weight and its bias, and not to the images, which want no gradient.",
        [f and type(f).__name__ for f, _ in functions[-1].next_functions],
        [None, "AccumulateGrad", "AccumulateGrad"],
    )
    lesson.does("The last linear layer is two functions up from the loss.")
    last_layer: Any = loss.grad_fn.next_functions[0][0].next_functions[0][0]  # type: ignore[union-attr]
    lesson.shows(
        "It leads to its bias, to the layer before, and to its weight, transposed.",
        [type(f).__name__ for f, _ in last_layer.next_functions],
        ["AccumulateGrad", "ReluBackward0", "TBackward0"],
    )
    lesson.does("The last parameter is that bias.")
    bias = list(job.learner.model.parameters())[-1]
    lesson.shows("AccumulateGrad holds the parameter.", last_layer.next_functions[0][0].variable is bias, True)


def zero_grad(lesson: Lesson, job: Setup) -> None:
    lesson.heading("zero_grad()", "Gradients add up (chapter 2), so each step begins by clearing them.")
    lesson.does("A copy of the network, and some images.", statements=2)
    net = copy.deepcopy(job.learner.model)
    images, labels = next(job.test.in_order())
    lesson.does("The bias of the first convolution:")
    bias = next(p for name, p in net.named_parameters() if name == "conv1.bias")
    lesson.shows("Before anything is differentiated it has no gradient.", bias.grad, None)
    lesson.does("Differentiate.")
    nn.functional.cross_entropy(net(images[:4]), labels[:4]).backward()
    assert bias.grad is not None
    lesson.shows("Now there is one: a number for each of the six filters.", tuple(bias.grad.shape), (6,))
    lesson.does("Clear the gradients of all parameters.")
    net.zero_grad()
    lesson.shows(
        "Old notes show zeros. Since PyTorch 2.0 there is no gradient at all, which saves memory and time.",
        bias.grad,
        None,
    )
    lesson.does("Zeros can still be had.", statements=2)
    nn.functional.cross_entropy(net(images[:4]), labels[:4]).backward()
    net.zero_grad(set_to_none=False)
    lesson.shows("Six of them.", bias.grad, [0.0] * 6)


def a_step(lesson: Lesson, job: Setup) -> None:
    lesson.heading("A step, by hand and by torch.optim", "Both change each parameter against its gradient.")
    lesson.does("Some images, and two copies of the network.", statements=3)
    images, labels = next(job.test.in_order())
    images, labels = images[:4], labels[:4]
    by_hand, by_optimizer = copy.deepcopy(job.learner.model), copy.deepcopy(job.learner.model)
    lesson.does("By hand: weight = weight - rate * gradient, outside the sight of autograd.", statements=4)
    criterion = nn.CrossEntropyLoss()
    loss = criterion(by_hand(images), labels)
    loss.backward()
    with torch.no_grad():
        for parameter in by_hand.parameters():
            parameter.sub_(0.01 * parameter.grad)  # type: ignore[operator]
    lesson.does("The other network has gradients of an earlier batch, as it would in the midst of training.")
    criterion(by_optimizer(images), labels).backward()
    lesson.does("With an optimizer it takes five steps. First, once: declare it.")
    optimizer = torch.optim.SGD(by_optimizer.parameters(), lr=0.01)
    lesson.does("Second, and from here on for every batch: clear the gradients.")
    optimizer.zero_grad()
    lesson.shows(
        "No parameter has one any more.",
        [name for name, p in by_optimizer.named_parameters() if p.grad is not None],
        [],
    )
    lesson.does("Third: compute the loss.")
    loss = criterion(by_optimizer(images), labels)
    lesson.does("Fourth: differentiate it.")
    loss.backward()
    lesson.does("Fifth: change the parameters.")
    optimizer.step()
    lesson.does("Are both networks the same now?")
    difference = max(
        (a - b).abs().max().item() for a, b in zip(by_hand.parameters(), by_optimizer.parameters(), strict=True)
    )
    lesson.shows("They are, but for rounding.", difference, Near(0.0, within=1e-7))
    lesson.does("The loss of the same images after the step:")
    after = criterion(by_optimizer(images), labels)
    lesson.shows("It is lower.", bool(after < loss), True)
    lesson.say("Chapter 4 does this some thousand times, and then lets blitz do it.")


if __name__ == "__main__":
    chapter("Chapter 3: Neural networks", present, known=KNOWN)
