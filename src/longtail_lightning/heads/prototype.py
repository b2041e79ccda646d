"""The prototype classifier."""

from __future__ import annotations

from torch import Tensor

from longtail_lightning.heads._class_vectors import ClassVectorHead


class PrototypeHead(ClassVectorHead):
    r"""Answer with the class whose prototype has the smallest angle to the features.

    **What it changes.** Nothing is trained: a class with three pictures gets a vector as good as three pictures
    allow, and a class can be added at any time.

    **Formula.** \(z_i = s \cos(f, p_i)\) with \(p_i = \frac{1}{n_i} \sum_{y_j = i} f_j / \lVert f_j \rVert\) (eq. 3).

    **Shapes.** features `(batch, num_features)`; logits `(batch, num_classes)`.

    **When it helps, when it hurts.** On rare classes, where a trained classifier has seen too little. Classes with
    many images are more than their mean: there a trained classifier is ahead, and `KnowledgeTransferHead` joins both.

    **Classes without features** never win: their logit is 10,000 below the lowest of the others.

    Args:
        num_features: width of the features.
        num_classes: number of classes.
        scale: factor \(s\) of the logits: changes confidence, not answers.
        prototypes_per_class: into how many clusters the features of a class are divided; the closest one counts.

    Examples:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> bank = SimpleNamespace(features=torch.tensor([[2.0, 0.1], [3.0, 0.0], [0.0, 1.0]]), labels=[0, 0, 1])
        >>> head = PrototypeHead(2, 2).fit(bank)
        >>> head.add_classes([torch.tensor([[-1.0, 0.0]])])
        >>> head(torch.tensor([[5.0, 0.3], [0.2, 0.9], [-4.0, 1.0]])).argmax(1).tolist()
        [0, 1, 2]

    **Paper.** Parisot et al., Long-tail Recognition via Compositional Knowledge Transfer, CVPR 2022, eq. 3.

    **Differences from the paper.** None with one prototype per class; several are what it leaves to future work.
    `NearestClassMeanHead` differs in that it subtracts the mean of all features first.
    """

    def compose(self, classes: slice) -> Tensor:
        return self.classes.vectors[self.classes.rows_of(classes)].clone()
