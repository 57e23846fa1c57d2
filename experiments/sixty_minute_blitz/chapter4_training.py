"""Chapter 4 of 4: a classifier, trained and tested by hand, and then by one blitz command with the same losses.

python experiments/sixty_minute_blitz/chapter4_training.py [OVERRIDE…]

Pictures and weights go to `runs_dir`/sixty_minute_blitz.
"""

from __future__ import annotations

import copy
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from lesson import Lesson, Near, chapter
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms
from torchvision.transforms import v2

from blitz.config.settings import Settings
from blitz.errors import BadInput, RunFailed
from blitz.figures import canvas, one_run
from blitz.parts.datasets import DATASETS
from blitz.parts.models import MODELS
from blitz.run_folder import journal
from blitz.run_folder.journal import JOURNAL
from blitz.runner.build import Setup, build
from blitz.training.loop import Progress, fit

RECIPE = ("experiment=tutorial",)
# What the loop by hand follows.
KNOWN = ("data.", "device.name", "device.index", "device.threads", "optimizer.lr", "optimizer.momentum", "augment.",
         "epochs", "batch_size", "seed")  # fmt: skip


@dataclass
class ByHand:
    """What the chapter's own loops leave."""

    net: nn.Module
    losses: Tensor  # of each step
    accuracy: float = 0.0
    per_class: Sequence[float] = ()


def fitted(settings: Settings) -> list[str]:
    """What the recipe, which is for CIFAR-10, needs for other data. Raises BadInput for images that are no pictures."""
    changes = []
    channels = DATASETS.build(settings.data).train.images.shape[1]
    if channels not in (1, 3):
        raise BadInput(f"data={settings.data['name']}: this chapter draws images of 1 or 3 channels, not {channels}")
    if channels == 1:
        changes += ["data.mean=[0.5]", "data.std=[0.5]"]
    if settings.data["name"] == "digits":  # fewer and smaller, learned in more epochs
        changes += ["epochs=6", "optimizer.lr=0.005"]
    return changes


def usable_folder(runs_dir: str) -> Path:
    """Raises BadInput where nothing can be written into it."""
    folder = Path(runs_dir) / "sixty_minute_blitz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        problem = f"runs_dir={runs_dir}: cannot be written to ({error.strerror}); name another with runs_dir="
        raise BadInput(problem) from None
    return folder


def present(lesson: Lesson) -> None:
    lesson.does("A folder for pictures and weights, and the device for model and batches.", statements=2)
    folder = usable_folder(lesson.settings.runs_dir)
    device = lesson.device.torch
    lesson.does("blitz builds data, model and all that trains it from the config.")
    job = build(lesson.settings)
    images_and_normalisation(lesson, job, device)
    batches(lesson, job, device, folder)
    by_hand = training(lesson, job, device)
    testing(lesson, job, by_hand, folder)
    saving_and_loading(lesson, job, device, by_hand, folder)
    the_loop_of_blitz(lesson, job, by_hand)
    one_command(lesson, by_hand)


def images_and_normalisation(lesson: Lesson, job: Setup, device: torch.device) -> None:
    lesson.heading("Images", "Files hold bytes. Networks learn better from numbers around zero.")
    lesson.does("A training image as Pillow, and so torchvision's data sets, would hand it over.", statements=2)
    image = job.splits.train.images[0]
    picture = Image.fromarray(image.squeeze(0).numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy())
    lesson.shows("Old notes say that it lies in [0, 1]. It holds bytes.", str(np.asarray(picture).dtype), "uint8")
    lesson.does("ToTensor divides them by 255, and puts the channels first.")
    scaled = transforms.ToTensor()(picture)
    lesson.shows("Now they lie in [0, 1].", scaled, Near(image / 255, within=0))
    lesson.does("torchvision writes this in two steps today.")
    of_today = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    lesson.shows("The same numbers, but for rounding:", of_today(picture), Near(scaled, within=1e-7))
    lesson.does("The bits of what both make of all 256 bytes, as whole numbers:", statements=2)
    every = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    bits = [scale(every).view(torch.int32) for scale in (transforms.ToTensor(), of_today)]
    lesson.shows("Where they differ, it is by one: in the last bit.", (bits[0] - bits[1]).abs().max().item(), 1)
    lesson.does("Normalising takes [0, 1] to [-1, 1].", statements=2)
    mean, std = [0.5] * len(image), [0.5] * len(image)
    normalised = transforms.Normalize(mean, std)(scaled)
    lesson.shows("(x - 0.5) / 0.5:", normalised, Near((scaled - 0.5) / 0.5, within=0))
    lesson.does("blitz does both on the device, for a whole batch of bytes at once.")
    by_blitz = job.classifier.normalise(image.unsqueeze(0).to(device))
    if (job.splits.mean, job.splits.std) == (tuple(mean), tuple(std)):
        lesson.shows("It differs by rounding alone.", by_blitz[0], Near(normalised, within=1e-6))


def batches(lesson: Lesson, job: Setup, device: torch.device, folder: Path) -> None:
    size = job.settings.batch_size
    lesson.heading("Batches", f"Every epoch sees every training image once, in a new order, {size} at a time.")
    lesson.does("The first batch of the first epoch:", statements=2)
    seed = job.settings.seed
    images, labels = next(job.train.shuffled(seed, 0, job.augment, job.mix))
    lesson.shows("Images, channels, height, width.", tuple(images.shape), (size, *job.splits.train.images.shape[1:]))
    lesson.shows("A class number for each.", tuple(labels.shape), (size,))
    lesson.does("The model has to be moved to the device, once, and so does every batch.", statements=2)
    net = copy.deepcopy(job.learner.model).to(device)
    images, labels = images.to(device), labels.to(device)
    lesson.shows("They are on the same one.", images.device == labels.device == next(net.parameters()).device, True)
    lesson.say("The batches of blitz are there already: it moves images as bytes, a quarter of the size.")
    lesson.does("The order follows from the seed and the epoch.")
    again, _ = next(job.train.shuffled(seed, 0, job.augment, job.mix))
    lesson.shows("The same batch again:", torch.equal(images, again), True)
    lesson.shows("How many there are in an epoch:", len(job.train), -(-len(job.splits.train) // size))
    lesson.does(f"The first ones, in a picture: {folder / 'training_images.png'}", statements=4)
    first = slice(12)
    names = [job.dataset.classes[label] for label in job.splits.train.labels[first]]
    grid = one_run.image_grid(job.splits.train.images[first].numpy(), names, "Training images")
    canvas.save(grid, folder / "training_images.png")


def training(lesson: Lesson, job: Setup, device: torch.device) -> ByHand:
    lesson.heading("Training, by hand", f"{job.settings.epochs} epochs of {len(job.train):,} steps.")
    lesson.does("Network, loss and optimizer.", statements=4)
    settings = job.settings
    net = copy.deepcopy(job.learner.model).train()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=settings.optimizer["lr"], momentum=settings.optimizer["momentum"])
    lesson.does(
        "Inputs, reset, forward, backward, step, statistics. item() once an epoch, not once a step.", statements=2
    )
    losses = []
    for epoch in range(settings.epochs):
        running_loss = torch.zeros((), device=device)
        for images, labels in job.train.shuffled(settings.seed, epoch, job.augment, job.mix):
            optimizer.zero_grad()
            outputs = net(images)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            running_loss += losses[-1] * len(labels)  # the last batch may be smaller
        print(f"    epoch {epoch + 1}: mean loss {running_loss.item() / len(job.splits.train):.3f}")
    lesson.does("What is left of it:")
    by_hand = ByHand(net, torch.stack(losses).cpu())
    if not (finite := by_hand.losses.isfinite()).all():
        step = finite.tolist().index(False) + 1
        raise RunFailed(f"training diverged: the loss of step {step} is not finite; a smaller optimizer.lr may help")
    return by_hand


def testing(lesson: Lesson, job: Setup, by_hand: ByHand, folder: Path) -> None:
    lesson.heading("Testing, by hand", "No gradients and no steps: how many test images get their own class?")
    lesson.does("The network that was trained, and the names of the classes.", statements=2)
    net = by_hand.net.eval()
    classes = job.dataset.classes
    lesson.does("Every test image once.", statements=2)
    correct, found = 0, []
    with torch.no_grad():
        for images, labels in job.test.in_order():
            predicted = net(images).argmax(1)
            correct += int((predicted == labels).sum().item())
            found.append(predicted.cpu())
    lesson.does("What they are, and what the network takes them for.")
    truth, predictions = job.splits.test.labels, torch.cat(found)
    accuracy = lesson.prints("Accuracy:", correct / len(truth))
    lesson.does("By class: of the images of a class, the share that was recognised (nan where there is none).")
    right = [(predictions[truth == k] == k).float().mean().item() for k in range(len(classes))]
    lesson.prints("Some are harder than others.", dict(zip(classes, [f"{share:.0%}" for share in right], strict=True)))
    lesson.does(f"What it makes of the first ones, in a picture: {folder / 'predictions.png'}", statements=4)
    first = slice(12)
    captions = [f"{classes[t]} → {classes[p]}" for t, p in zip(truth[first], predictions[first], strict=True)]
    grid = one_run.image_grid(job.splits.test.images[first].numpy(), captions, "Test images: true → predicted")
    canvas.save(grid, folder / "predictions.png")
    by_hand.accuracy, by_hand.per_class = accuracy, right


def saving_and_loading(lesson: Lesson, job: Setup, device: torch.device, by_hand: ByHand, folder: Path) -> None:
    lesson.heading("Saving and loading", "Weights are saved by name, and put into a new network of the same class.")
    lesson.does("state_dict() has a tensor for each name.", statements=2)
    path = folder / "net.pt"
    torch.save(by_hand.net.state_dict(), path)
    lesson.does("On any machine: map_location says where the tensors go.", statements=2)
    net = MODELS.build({"name": "net"}, len(job.dataset.classes), tuple(job.train.images.shape[1:]))
    net.load_state_dict(torch.load(path, map_location="cpu"))
    lesson.does("Then the model moves as a whole.")
    net = net.to(device).eval()
    lesson.does("Some test images:", statements=2)
    images, _ = next(job.test.in_order())
    with torch.no_grad():
        outputs, outputs_by_hand = net(images), by_hand.net(images)
    lesson.shows("The same outputs, to the last bit.", outputs, outputs_by_hand)
    lesson.does("A file can also say that a function is to be called.")
    torch.save(Trap(), folder / "trap.pt")
    lesson.refuses(
        "Old notes load any file. Since PyTorch 2.6, torch.load reads weights alone and calls nothing.",
        lambda: torch.load(folder / "trap.pt"),
        UnpicklingError,
        "Weights only load failed",
    )
    (folder / "trap.pt").unlink()


class Trap:
    """An object whose file says: when this is read, print."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("a file has run code",)


def the_loop_of_blitz(lesson: Lesson, job: Setup, by_hand: ByHand) -> None:
    lesson.heading("The loop of blitz", "blitz/training/loop.py: the same steps, for any model, loss and optimizer.")
    lesson.does("It hands over the losses of some steps at a time.", statements=3)
    losses = []
    for report in fit(job.learner, job.train, None, job.augment, job.mix, epochs=job.settings.epochs):
        if isinstance(report, Progress):
            losses.append(report.losses.cpu())
    by_loop = torch.cat(losses)
    lesson.shows("They are those of the loop by hand, bit for bit.", by_loop.equal(by_hand.losses), True)
    lesson.does("It tests as well.")
    found = job.learner.evaluate(job.test)
    lesson.shows("It finds the same accuracy.", found.accuracy, by_hand.accuracy)
    lesson.shows("And the same for each class.", found.per_class, Near(by_hand.per_class, within=1e-6))


def one_command(lesson: Lesson, by_hand: ByHand) -> None:
    lesson.heading("One command", "From the config to a recorded run, which can be compared, resumed and reproduced.")
    lesson.does("As one would type it.", statements=2)
    command = ["blitz", *lesson.overrides, "tracking.step_loss=1"]
    output = ran(command)
    lesson.does("Its journal, in the folder of the record, has the loss of every step.", statements=3)
    (run,) = re.findall(r"^record +(.+)/ \(", output, re.MULTILINE)
    points = journal.every_point(Path(run) / JOURNAL, 0)
    recorded = torch.tensor([point.value for point in points if point.name == "train/step_loss"])
    lesson.shows("The same losses, bit for bit, for the third time.", recorded.equal(by_hand.losses), True)
    lesson.say("blitz ui shows the run in a browser. The README says how to continue from here.")


def ran(command: Sequence[str]) -> str:
    """What a blitz command prints, shown as it comes. Raises RunFailed where it fails."""
    print(f"\n    $ {shlex.join(command)}")
    output = ""
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}  # whatever the terminal's is
    with subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, encoding="utf-8", env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"    {line}", end="", flush=True)
            output += line
    if process.returncode:
        raise RunFailed(f"blitz ended with {process.returncode}")
    return output


if __name__ == "__main__":
    chapter("Chapter 4: Training a classifier", present, RECIPE, KNOWN, fitted)
