"""The same in Lightning, without what it does beside training: no logger, checkpoints, progress bar or summary."""

from __future__ import annotations

import warnings

import lightning
import torch
from net import Net
from torch import Tensor, nn
from tutorial import loaders
from work import Work


class Classifier(lightning.LightningModule):
    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work
        self.model = work.model(Net)
        self.correct = 0

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, labels = batch
        return nn.functional.cross_entropy(self.model(inputs), labels)

    def on_train_batch_end(self, *_: object) -> None:
        self.work.step_is_done()

    def test_step(self, batch: tuple[Tensor, Tensor]) -> None:
        inputs, labels = batch
        self.correct += int((self.model(inputs).argmax(1) == labels).sum())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.001, momentum=0.9)


def main() -> None:
    warnings.filterwarnings("ignore")  # that more workers might be faster
    work = Work(__doc__.splitlines()[0])
    trainloader, testloader = loaders(work)
    classifier = Classifier(work)
    trainer = lightning.Trainer(
        max_epochs=work.asked.epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(classifier, trainloader)
    trainer.test(classifier, testloader, verbose=False)
    work.print(classifier.correct)


if __name__ == "__main__":
    main()
