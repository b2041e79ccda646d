"""Images per second of BaseClassifier in a Trainer against a plain PyTorch loop: same model, data, optimizer.

python benchmarks/throughput.py
"""

from __future__ import annotations

import logging
import statistics
import time

import lightning as L
import torch
from _record import record

from longtail_lightning import BaseClassifier, LogitAdjustedLoss, SyntheticLongTail
from longtail_lightning.modules.schedule import WarmupCosine, default_sgd

ROUNDS, WARM, STEPS = 9, 3, 25


class Clock(L.Callback):
    """Seconds from the end of the warm-up to the end of the run."""

    def on_train_batch_end(self, trainer: L.Trainer, *args: object) -> None:
        if trainer.global_step == WARM:
            self.start = time.perf_counter()
        self.seconds = time.perf_counter() - getattr(self, "start", 0.0)


def main() -> None:
    """A B A B in one process, medians of the images per second."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = SyntheticLongTail(batch_size=128)
    list(data.train_dataloader())  # draw the images once, before any clock runs
    ours, plain = [], []
    for _ in range(ROUNDS):
        ours.append(with_trainer(data, device))
        plain.append(plain_loop(data, device))
        print(f"trainer {ours[-1]:.1f}, plain loop {plain[-1]:.1f} images/s", flush=True)
    ratio = statistics.median(a / b for a, b in zip(ours, plain))
    record(
        "throughput" if device == "cpu" else "throughput_gpu",
        {
            "model": "cifar_resnet20, batch 128, channels_last",
            "trainer_images_per_s": round(statistics.median(ours), 1),
            "plain_loop_images_per_s": round(statistics.median(plain), 1),
            "ratio": round(ratio, 3),
            "limit": 0.97,
            "rounds": ROUNDS,
        },
        seed=0,
    )


def make_model(data: SyntheticLongTail) -> BaseClassifier:
    """The model of both."""
    torch.manual_seed(0)
    return BaseClassifier(data.class_counts, backbone="cifar_resnet20", loss=LogitAdjustedLoss())


def with_trainer(data: SyntheticLongTail, device: str) -> float:
    """Images per second through Lightning."""
    clock = Clock()
    trainer = L.Trainer(
        max_epochs=1, limit_train_batches=WARM + STEPS, limit_val_batches=0, callbacks=[clock], logger=False,
        enable_checkpointing=False, enable_model_summary=False, accelerator=device, devices=1,
    )  # fmt: skip
    trainer.fit(make_model(data), data)
    return STEPS * data.batch_size / clock.seconds


def plain_loop(data: SyntheticLongTail, device: str) -> float:
    """Images per second of a loop that somebody would write by hand, with a progress print per 10 steps."""
    model = make_model(data).to(device).train()
    optimizer = default_sgd(model.parameters())
    schedule = WarmupCosine(optimizer, total_steps=WARM + STEPS)
    for step, (images, target, items) in enumerate(data.train_dataloader()):
        if step == WARM:
            start = time.perf_counter()
        if step == WARM + STEPS:
            break
        images, target = images.to(device), target.to(device)
        images = data.prepare_batch(images, items=items, augment=True)
        loss = model.loss(model(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 10 == 0:
            print(f"\rstep {step}, loss {loss.item():.3f}", end="")
    print(end="\r")
    return STEPS * data.batch_size / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
