"""Chapter 2 of 4: how PyTorch differentiates, what it keeps for that, and how to check a gradient.

python experiments/sixty_minute_blitz/chapter2_autograd.py [OVERRIDE…]
"""

from __future__ import annotations

import torch
from lesson import Lesson, Near, chapter
from torch import Tensor, nn

from blitz.runner.build import build


def present(lesson: Lesson) -> None:
    requires_grad(lesson)
    recorded_operations(lesson)
    backward_of_a_number(lesson)
    backward_of_a_vector(lesson)
    accumulation(lesson)
    leaving_things_out(lesson)
    device_of_64_bits = checking(lesson)
    gradient_of_an_image(lesson, device_of_64_bits)


def requires_grad(lesson: Lesson) -> None:
    lesson.heading("requires_grad", "A tensor says whether gradients with respect to it are wanted.")
    lesson.does("The device that this chapter was started with.")
    device = lesson.device.torch
    lesson.shows("By default they are not.", torch.ones(2, 2).requires_grad, False)
    lesson.does("One asks for them when a tensor is made.")
    x = torch.ones(2, 2, device=device, requires_grad=True)
    lesson.shows("Of this one they are.", x.requires_grad, True)
    lesson.shows("It can be done later as well.", torch.ones(2, 2).requires_grad_().requires_grad, True)
    lesson.shows("Parameters of a layer ask for them by themselves.", nn.Linear(2, 1).weight.requires_grad, True)
    lesson.refuses(
        "Whole numbers have no gradients.",
        lambda: torch.ones(2, dtype=torch.int64, requires_grad=True),
        RuntimeError,
        "Only Tensors of floating point and complex dtype can require gradients",
    )
    lesson.shows(
        "Variable, in old notes, gives a plain tensor today.", type(torch.autograd.Variable(x)) is Tensor, True
    )


def recorded_operations(lesson: Lesson) -> None:
    device = lesson.device.torch
    lesson.heading("grad_fn", "What is computed from such a tensor remembers how, and can be differentiated.")
    lesson.does("A sum.", statements=2)
    x = torch.ones(2, 2, device=device, requires_grad=True)
    y = x + 2
    lesson.shows("It wants gradients because x does.", y.requires_grad, True)
    lesson.shows("Its grad_fn is the derivative of what made it.", type(y.grad_fn).__name__, "AddBackward0")
    lesson.shows("x was made by no operation: it is a leaf.", x.is_leaf, True)
    lesson.shows("A leaf has no grad_fn.", x.grad_fn, None)
    lesson.does("One more operation:")
    z = 3 * y * y
    lesson.shows("Its grad_fn is that of the last product, (3 y) · y.", type(z.grad_fn).__name__, "MulBackward0")
    assert z.grad_fn is not None
    lesson.shows(
        "It leads to those of both factors: the product 3 y, and the sum y.",
        [type(function).__name__ for function, _ in z.grad_fn.next_functions],
        ["MulBackward0", "AddBackward0"],
    )
    lesson.shows("The second one is y's own.", z.grad_fn.next_functions[1][0] is y.grad_fn, True)


def backward_of_a_number(lesson: Lesson) -> None:
    device = lesson.device.torch
    lesson.heading(
        "backward() of a number", "It walks from a result back to the leaves, and adds to the gradient of each."
    )
    lesson.does("The mean of 3 (x + 2)² over four ones:", statements=2)
    x = torch.ones(2, 2, device=device, requires_grad=True)
    out = (3 * (x + 2) ** 2).mean()
    lesson.shows("3 · 3² = 27.", out.item(), 27.0)
    lesson.shows("Nobody has asked for a gradient yet.", x.grad, None)
    lesson.does("Differentiate.")
    out.backward()
    lesson.shows("By hand: 6 (x + 2) / 4 = 4.5 for each of the four.", x.grad, torch.full((2, 2), 4.5))
    lesson.refuses(
        "What was kept for this is freed afterwards: a second time fails.",
        lambda: out.backward(),
        RuntimeError,
        "Trying to backward through the graph a second time",
    )
    lesson.does("retain_graph keeps it.", statements=4)
    x.grad = None
    out = (3 * (x + 2) ** 2).mean()
    out.backward(retain_graph=True)
    out.backward()
    lesson.shows("Both times have added 4.5.", x.grad, torch.full((2, 2), 9.0))


def backward_of_a_vector(lesson: Lesson) -> None:
    device = lesson.device.torch
    lesson.heading(
        "backward() of a vector", "Several results have a matrix of derivatives, and one has to say which sum."
    )
    lesson.does("Three results.", statements=2)
    x = torch.tensor([1.0, 2.0, 3.0], device=device, requires_grad=True)
    y = x**2
    lesson.refuses(
        "Their gradient is not one vector.",
        lambda: y.backward(),
        RuntimeError,
        "grad can be implicitly created only for",
    )
    lesson.does("The argument weighs the results: this is the gradient of 1·y₀ + 10·y₁ + 0·y₂.")
    y.backward(torch.tensor([1.0, 10.0, 0.0], device=x.device))
    lesson.shows("2 x, times the weights:", x.grad, [2.0, 40.0, 0.0])
    lesson.does("Of a number, the argument is 1 where it is left out.")
    w = torch.tensor(3.0, requires_grad=True)
    lesson.shows("The derivative of w² at 3:", torch.autograd.grad(w**2, w), (torch.tensor(6.0),))
    lesson.shows("The same:", torch.autograd.grad(w**2, w, torch.tensor(1.0)), (torch.tensor(6.0),))


def accumulation(lesson: Lesson) -> None:
    device = lesson.device.torch
    lesson.heading("Gradients add up", "backward() adds to what is there. A training step has to begin with none.")
    lesson.does("The gradient of x² is 2 x.", statements=2)
    x = torch.tensor([1.0, 2.0], device=device, requires_grad=True)
    (x**2).sum().backward()
    lesson.shows("Once:", x.grad, [2.0, 4.0])
    lesson.does("The same again, without clearing the gradient.")
    (x**2).sum().backward()
    lesson.shows("It is twice as large, and wrong for a step that thinks it is new.", x.grad, [4.0, 8.0])
    lesson.does("Cleared before:", statements=2)
    x.grad = None
    (x**2).sum().backward()
    lesson.shows("Now it is right.", x.grad, [2.0, 4.0])


def leaving_things_out(lesson: Lesson) -> None:
    device = lesson.device.torch
    lesson.heading("no_grad() and detach()", "Testing, and changing weights, need no gradients.")
    lesson.does("Inside no_grad() nothing is remembered.", statements=2)
    x = torch.ones(2, device=device, requires_grad=True)
    with torch.no_grad():
        y = x * 2
    lesson.shows("The result does not ask for gradients.", (y.requires_grad, y.grad_fn), (False, None))
    lesson.does("detach() gives the same numbers without the history.")
    detached = x.detach()
    lesson.shows("They share memory.", detached.data_ptr() == x.data_ptr(), True)
    lesson.does("Gradients do not pass through it: w² is 3 w here.", statements=2)
    w = torch.tensor([3.0], requires_grad=True)
    (w.detach() * w).backward()
    lesson.shows("Its derivative is 3 then, not 6.", w.grad, [3.0])
    lesson.refuses(
        "A leaf that asks for gradients must not be changed in place.",
        lambda: x.add_(1),
        RuntimeError,
        "a leaf Variable that requires grad is being used in an in-place operation",
    )
    lesson.does("Inside no_grad() it may be: an optimizer does this.")
    with torch.no_grad():
        x.add_(1)
    lesson.shows("x is two now.", x, [2.0, 2.0])


def checking(lesson: Lesson) -> torch.device:
    lesson.heading("Is a gradient right?", "Three ways to the derivative of f(x) = Σ x² sin x, in 64 bits.")
    lesson.does("mps, Apple's GPU, has no 64 bits; the CPU has.")
    device = lesson.device.torch if lesson.device.torch.type != "mps" else torch.device("cpu")
    lesson.does("Five points, and the function.", statements=2)
    x = torch.linspace(-2, 2, 5, dtype=torch.float64, device=device, requires_grad=True)
    f = lambda x: (x**2 * x.sin()).sum()  # noqa: E731
    by_autograd = lesson.prints("By autograd:", torch.autograd.grad(f(x), x)[0])
    lesson.does("By hand: 2 x sin x + x² cos x.")
    by_hand = 2 * x * x.sin() + x**2 * x.cos()
    lesson.shows("Both are the same but for rounding.", by_autograd, Near(by_hand, within=1e-14))
    lesson.does("By finite differences: change one number a little, and see what happens to f.")
    by_differences = torch.stack(
        [(f(x + h) - f(x - h)) / 2e-6 for h in 1e-6 * torch.eye(5, dtype=x.dtype, device=device)]
    )
    lesson.shows("They agree to eight digits.", by_differences, Near(by_autograd, within=1e-8))
    lesson.shows("torch has this check as a function.", torch.autograd.gradcheck(f, (x,)), True)
    lesson.does("The same differences in 32 bits, at 2:", statements=2)
    a = torch.tensor([2.0])
    slope = (f(a + 1e-6) - f(a - 1e-6)) / 2e-6
    lesson.shows("So small a step drowns in rounding.", abs(slope.item() - by_hand[-1].item()) > 0.001, True)
    return device


def gradient_of_an_image(lesson: Lesson, device: torch.device) -> None:
    data, model_name = lesson.settings.data["name"], lesson.settings.model["name"]
    lesson.heading(
        "Gradients of an image",
        f"Weights are not all that can be changed: an image of data={data} before model={model_name}.",
    )
    lesson.does("blitz builds data, model and all that trains it from the config; chapter 3 looks inside.")
    job = build(lesson.settings)
    lesson.does("As in testing, without dropout; and in 64 bits, which show small effects as well.")
    model = job.learner.model.eval().to(device, torch.float64)
    lesson.does("The first test image:", statements=3)
    images, labels = next(job.test.in_order())
    image = images[:1].to(device, torch.float64).requires_grad_()
    label = labels[:1].to(device)
    lesson.does("How wrong is the untrained model, and which pixels have a say in it?", statements=2)
    loss = nn.functional.cross_entropy(model(image), label)
    loss.backward()
    assert image.grad is not None
    lesson.shows("Every pixel has its derivative.", image.grad.shape == image.shape, True)
    lesson.does("A small step against it changes the image, and no weight:", statements=2)
    before = loss.item()
    with torch.no_grad():
        image -= 0.1 * image.grad / image.grad.norm()
        after = nn.functional.cross_entropy(model(image), label).item()
    lesson.shows("The loss is lower.", after < before, True)


if __name__ == "__main__":
    chapter("Chapter 2: Autograd", present)
