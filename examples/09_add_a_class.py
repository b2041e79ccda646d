"""A classifier gets three classes more from three examples each: nothing is trained, no training data are needed."""

import torch

from longtail_lightning import CosineHead, FeatureBank, KnowledgeTransfer, SquareRootSampler, fit_head

# Features of a frozen backbone: classes come in families that look alike, and have 200 images or 5.
generator = torch.Generator().manual_seed(0)
families = torch.randn(8, 64, generator=generator)
centers = families.repeat(5, 1) + 0.7 * torch.randn(40, 64, generator=generator)
counts = [200] * 16 + [40] * 11 + [5] * 10  # the last three of the 40 classes are not there yet


def features(classes, number):
    """Some examples of each class."""
    return [centers[c] + 2.5 * torch.randn(number, 64, generator=generator) for c in classes]


labels = torch.arange(37).repeat_interleave(torch.tensor(counts))
bank = FeatureBank.from_arrays(torch.cat([features([c], n)[0] for c, n in enumerate(counts)]), labels)
trained = fit_head(bank, CosineHead(64, 37), sampler=SquareRootSampler, epochs=20, lr=0.5, progress=False)

# From the trained classifier and one pass over the features: classifiers for rare classes, which vote.
head = KnowledgeTransfer(k=(20, 100), parts=("transfer", "prototype"), also=("prototypes",))(trained, bank).head
tests = features(range(40), 50)


def accuracy(head, classes):
    """Mean accuracy over some classes."""
    with torch.no_grad():
        return sum(float((head(tests[c]).argmax(1) == c).float().mean()) for c in classes) / len(classes)


few = range(27, 37)
print(f"classes with 5 images: {accuracy(trained, few):.0%} trained, {accuracy(head, few):.0%} composed")
head.add_classes(features([37, 38, 39], 3))
print(f"three new classes: {accuracy(head, [37, 38, 39]):.0%}, all 40: {accuracy(head, range(40)):.0%}")
print("class 39 was given", [f"{share:.2f} of class {donor}" for donor, share in head.heads[1].donors_of(39, top=3)])
# With pictures in the place of features: load("m.ckpt").add_classes({"axolotl": "photos/axolotl"}).save("m2.ckpt")
