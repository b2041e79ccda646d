"""What teachers add to a student's training step: seen exactly, or remembered.

python benchmarks/distillation_step.py [--steps 12] [--teachers 1 2 4]

A training step of a student of K teachers of its own kind, against the same step without teachers, and with features
that were found before. All ways take steps in turn, in one process; medians are reported. On a GPU the network is a
ResNet-50 at 224 pixels and the teachers compute in bfloat16, on a CPU a CIFAR ResNet-32 in float32.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from _record import record

from longtail_lightning import BaseClassifier, ClassCounts, Distillation, create_backbone
from longtail_lightning.modules._teachers import Taught
from longtail_lightning.modules.distillation import fixed_cosine

CLASSES = 100


def main() -> None:
    """Time the steps, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--teachers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    name, size = ("torchvision/resnet50", 224) if cuda else ("cifar_resnet32", 32)
    counts = ClassCounts.from_labels(list(range(CLASSES)) * 100)
    images = torch.randn(args.batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    target = torch.randint(CLASSES, (args.batch,), device=device)

    def student(number: int) -> Distillation:
        teachers = [BaseClassifier(counts, backbone=create_backbone(name)) for _ in range(number)]
        made = Distillation(
            counts,
            teachers=teachers or None,
            backbone=create_backbone(name),
            head=fixed_cosine,
            teacher_precision="bf16" if cuda else "32",
        )
        made.teachers.to(device, channels_last=True)
        return made.to(device).train()

    def step_of(number: int, *, remembered: bool) -> Callable[[], None]:
        model = student(number)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        kept = [one.clone() for one in model.teachers.look(images, logits=False).features] if number else []

        def step() -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
                features = model.backbone(images)
                logits = model.head(features)
            if number:
                taught = Taught(kept, None) if remembered else model.teachers.look(images, logits=False)
                loss = model.loss_terms(features, logits, target, taught)["loss"]
            else:
                loss = model.loss(logits, target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    timed = {"without teachers": step_of(0, remembered=False)}
    for number in args.teachers:
        timed[f"{number} teachers"] = step_of(number, remembered=False)
        timed[f"{number} teachers, remembered"] = step_of(number, remembered=True)
    seconds: dict[str, list[float]] = {way: [] for way in timed}
    for turn in range(args.steps + 2):
        for way, run in timed.items():
            start = time.perf_counter()
            run()
            if cuda:
                torch.cuda.synchronize()
            if turn >= 2:  # the first ones warm up
                seconds[way].append(time.perf_counter() - start)
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    base = medians["without teachers"]
    rows = {
        way: {"ms": round(1e3 * value, 2), "of the step without": round(value / base, 3)}
        for way, value in medians.items()
    }
    for way, row in rows.items():
        print(f"{way:<32} {row['ms']:9.2f} ms  {row['of the step without']:.3f}")
    limits = {number: round((1 + number / 3) * (0.9 if cuda else 1.1), 3) for number in args.teachers}
    settings = {"network": name, "batch": args.batch, "steps": args.steps}
    results = {"settings": settings, "rows": rows, "(1 + K / 3) times": limits}
    record(f"distillation_step_{'gpu' if cuda else 'cpu'}", results, seed=None)


if __name__ == "__main__":
    main()
