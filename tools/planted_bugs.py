"""The bugs that `plant_bugs.py` plants: a text of a source file, and what stands in its place."""

from __future__ import annotations

from typing import NamedTuple


class Bug(NamedTuple):
    """A wrong edit."""

    file: str
    """Below src/longtail_lightning."""
    old: str
    """Occurs once in the file."""
    new: str
    breaks: str
    """What goes wrong."""
    tests: tuple[str, ...]
    """Those that should notice it."""


LOSSES = ("tests/losses", "tests/contracts/test_losses.py")
SAMPLERS = ("tests/samplers", "tests/contracts/test_samplers.py")
HEADS = ("tests/heads", "tests/contracts/test_heads.py")
METRICS = ("tests/metrics", "tests/contracts/test_metrics.py")
FIT_HEAD = ("tests/features/test_fit_head.py",)
BANK = ("tests/features/test_bank.py", "tests/features/test_strings.py", "tests/features/test_verify.py")
EXTRACT = ("tests/features/test_extract.py", "tests/features/test_source.py", "tests/ddp/test_extract.py")
METHODS = ("tests/methods",)
CLASSIFIER = ("tests/modules/test_base_classifier.py",)
DECOUPLED = ("tests/modules/test_decoupled.py",)

BUGS = [
    # -- losses
    Bug(
        "losses/functional.py",
        "return cross_entropy(logits + tau * offset,",
        "return cross_entropy(logits - tau * offset,",
        "logit adjustment with the wrong sign",
        LOSSES,
    ),
    Bug(
        "losses/functional.py",
        "(counts.min() / counts).pow(0.25)",
        "(counts.min() / counts).pow(0.5)",
        "LDAM margins fall with the root",
        LOSSES,
    ),
    Bug("losses/functional.py", "-scale * margins[target]", "-margins[target]", "LDAM margin is not scaled", LOSSES),
    Bug(
        "losses/functional.py",
        "factor = (counts / counts.max()).pow(gamma)",
        "factor = (counts / counts.sum()).pow(gamma)",
        "vector scaling divides by all images",
        LOSSES,
    ),
    Bug(
        "losses/functional.py",
        "- log_pi - math.log(all_logits.numel())",
        "- log_pi - math.log(len(all_logits))",
        "LADE forgets the number of classes",
        LOSSES,
    ),
    Bug(
        "losses/functional.py",
        "-total / present.clamp(min=1) + partition",
        "-total / len(all_target) + partition",
        "LADE divides by the batch instead of the class",
        LOSSES,
    ),
    Bug(
        "losses/functional.py",
        "own = factors.gather(1, target[:, None]).clamp(min=math.log(eps))",
        "own = factors.gather(1, target[:, None])",
        "seesaw without its floor",
        LOSSES,
    ),
    Bug(
        "losses/functional.py",
        "factors.add_((log_n - log_n[target][:, None]).clamp_(max=0), alpha=p)",
        "factors.add_((log_n - log_n[target][:, None]), alpha=p)",
        "seesaw strengthens rarer targets",
        LOSSES,
    ),
    Bug(
        "losses/functional.py",
        "rare = class_counts < threshold * class_counts.sum()",
        "rare = class_counts <= threshold * class_counts.max()",
        "equalization takes the share of the largest class",
        LOSSES,
    ),
    Bug(
        "losses/functional.py",
        "ignored = (drawn & rare).scatter(1, target[:, None], False)",
        "ignored = drawn & rare",
        "equalization ignores the target itself",
        LOSSES,
    ),
    Bug(
        "losses/functional.py",
        "others = max(logits.shape[1] - 1, 1)",
        "others = logits.shape[1]",
        "smoothing is spread over one class too many",
        LOSSES,
    ),
    Bug(
        "losses/functional.py",
        "epsilon = tail + (head - tail) * rank",
        "epsilon = head + (tail - head) * rank",
        "smoothing of head and tail exchanged",
        LOSSES,
    ),
    Bug(
        "losses/functional.py",
        "cloud = log_n.max() - log_n\n",
        "cloud = log_n - log_n.min()\n",
        "clouds for the head instead of the tail",
        LOSSES,
    ),
    Bug(
        "losses/functional.py",
        "miss.pow(gamma) * nll",
        "miss.pow(gamma) * nll.detach()",
        "focal loss holds its cross-entropy constant",
        LOSSES,
    ),
    Bug(
        "losses/functional.py",
        "F.softplus(lam * shifted) / lam",
        "F.softplus(lam * shifted)",
        "negatives are not divided by lambda",
        LOSSES,
    ),
    Bug(
        "losses/functional.py",
        "temperature**2 * (_times",
        "temperature * (_times",
        "distillation gradients shrink with the temperature",
        LOSSES,
    ),
    Bug(
        "losses/functional.py",
        "positive = (anchor_target[:, None] == other_target).scatter(1, itself[:, None], False)\n    log_p = sim",
        "positive = anchor_target[:, None] == other_target\n    log_p = sim",
        "an image is its own positive",
        LOSSES,
    ),
    Bug(
        "losses/weighting.py",
        "-1 / torch.expm1(at_least_one * math.log(beta))",
        "-1 / torch.expm1((at_least_one - 1).clamp(min=1) * math.log(beta))",
        "effective number of one image less",
        LOSSES,
    ),
    Bug(
        "losses/weighting.py",
        "return weights / (prior * weights).sum()",
        "return weights / weights.mean()",
        "global normalization over classes",
        LOSSES,
    ),
    Bug(
        "losses/_base.py",
        "weighted = target * weights\n",
        "weighted = target * (target @ weights)[:, None]\n",
        "a soft target weighs the mean of its classes",
        LOSSES,
    ),
    Bug(
        "losses/_base.py",
        "return total / weights.mean() if by_weight else total",
        "return total / weights.sum() if by_weight else total",
        "weighted mean is divided twice",
        LOSSES,
    ),
    Bug(
        "losses/_gather.py",
        "return total.chunk(dist.get_world_size())[dist.get_rank()]",
        "return gradient.chunk(dist.get_world_size())[dist.get_rank()]",
        "gradients of other ranks are lost",
        ("tests/contracts/test_losses.py", "tests/losses/test_lade.py", "tests/losses/test_parametric_contrastive.py"),
    ),
    Bug(
        "losses/_gather.py",
        "return torch.cat(parts)",
        "return torch.cat(parts[::-1])",
        "rows of the ranks in the wrong order",
        ("tests/contracts/test_losses.py", "tests/losses/test_lade.py", "tests/losses/test_parametric_contrastive.py"),
    ),
    # -- samplers
    Bug(
        "samplers/_class_draws.py",
        "place = (within * sizes.index_select(0, cell)).long()",
        "place = (within.square() * sizes.index_select(0, cell)).long()",
        "first images of a class are drawn more often",
        SAMPLERS,
    ),
    Bug(
        "samplers/_class_draws.py",
        "first, sizes = images.first[classes], images.sizes[classes].double()",
        "first, sizes = images.first[classes], images.sizes[classes].double().sub(1).clamp(min=1)",
        "the last image of a class is never drawn",
        SAMPLERS,
    ),
    Bug(
        "samplers/_class_draws.py",
        "alias[high[:-1]] = high[1:]",
        "alias[high[:-1]] = high[:-1]",
        "leftover gaps are not passed on",
        SAMPLERS,
    ),
    Bug(
        "samplers/_class_draws.py",
        "yield images.order.index_select(0, place.add_(first.index_select(0, cell)))",
        "yield images.order.index_select(0, place.add_(first.index_select(0, cell)).clamp_(min=1))",
        "the first image of all is never drawn",
        SAMPLERS,
    ),
    Bug(
        "samplers/repeat_factor.py",
        "marks = (self.repeat_factors[order].cumsum(0) + offset)",
        "marks = self.repeat_factors[order].cumsum(0)",
        "rounding without an offset",
        SAMPLERS,
    ),
    Bug(
        "samplers/repeat_factor.py",
        "order = torch.randperm(self.num_images, generator=generator)",
        "order = torch.arange(self.num_images)",
        "rounding in the order of the files",
        SAMPLERS,
    ),
    Bug(
        "samplers/repeat_factor.py",
        ".sqrt().clamp(min=1.0)",
        ".clamp(min=1.0)",
        "repeat factors without the root",
        SAMPLERS,
    ),
    Bug(
        "samplers/progressive.py",
        "max(1, last if self.endpoint else self.epochs)",
        "max(1, self.epochs if self.endpoint else last)",
        "the endpoint is taken the wrong way round",
        SAMPLERS,
    ),
    Bug(
        "samplers/_base.py",
        "(rank - dealt) % replicas",
        "rank % replicas",
        "pieces are dealt from the first rank each time",
        SAMPLERS,
    ),
    Bug(
        "samplers/_base.py",
        "generator(self.seed, self.epoch)",
        "generator(self.seed + self.epoch, 0)",
        "seed and epoch are added up",
        SAMPLERS,
    ),
    Bug(
        "samplers/_passes.py",
        "for start in range(done, total, len(head)):",
        "for start in range(done, total - 1, len(head)):",
        "the padding is one short",
        SAMPLERS,
    ),
    Bug(
        "samplers/_class_cycles.py",
        "taken = step % sizes",
        "taken = step % sizes.max()",
        "small classes run past their images",
        SAMPLERS,
    ),
    Bug(
        "samplers/_class_cycles.py",
        "choices = (sizes - torch.maximum(taken, in_row)).clamp(min=1)",
        "choices = (sizes - in_row).clamp(min=1)",
        "images repeat before all were seen",
        SAMPLERS,
    ),
    Bug(
        "samplers/class_uniform_batch.py",
        "kept = orders * num_classes // self.classes_per_batch * self.classes_per_batch",
        "kept = orders * num_classes",
        "batches with a class twice",
        SAMPLERS,
    ),
    Bug(
        "samplers/evaluation.py",
        "range(rank, self._size, replicas)",
        "range(rank, self._size - self._size % replicas, replicas)",
        "the last images are left out",
        SAMPLERS,
    ),
    Bug(
        "samplers/effective_number.py",
        "counts.tensor / counts.effective_number(self.beta).clamp(min=1.0)",
        "1 / counts.effective_number(self.beta).clamp(min=1.0)",
        "weight per class in the place of per image",
        SAMPLERS,
    ),
    # -- heads
    Bug(
        "heads/cosine.py",
        "F.normalize(features, dim=1), F.normalize(self.weight, dim=1)",
        "features, F.normalize(self.weight, dim=1)",
        "features keep their length",
        HEADS,
    ),
    Bug("heads/tau_normalized.py", ".pow(-tau), 0.0)", ".pow(tau - 1), 0.0)", "the norm is taken the wrong way", HEADS),
    Bug(
        "heads/tau_normalized.py",
        'linear.bias if self.bias == "keep" else None',
        "linear.bias",
        "the bias is never dropped",
        HEADS,
    ),
    Bug(
        "heads/learnable_scale.py",
        "return logits * self.scale + bias * (1 - self.scale)",
        "return logits * self.scale",
        "the bias is scaled, too",
        HEADS,
    ),
    Bug(
        "heads/learnable_scale.py",
        "if bias is not None and self.scale_bias:",
        "if bias is not None:",
        "to_linear scales the bias always",
        HEADS,
    ),
    Bug(
        "heads/nearest_class_mean.py",
        "self.class_means.copy_(sums / sizes.clamp(min=1)[:, None])",
        "self.class_means.copy_(F.normalize(sums / sizes.clamp(min=1)[:, None], dim=1))",
        "class means are normalized again",
        HEADS,
    ),
    Bug(
        "heads/nearest_class_mean.py",
        "total /= len(labels)",
        "total /= len(labels) - 1",
        "the mean of all divides by one less",
        HEADS,
    ),
    Bug(
        "heads/nearest_class_mean.py",
        "lowest - ABSENT, logits",
        "lowest, logits",
        "an absent class ties with the worst",
        HEADS,
    ),
    Bug(
        "heads/nearest_class_mean.py",
        "logits = 2 * query @ means.T - squares",
        "logits = query @ means.T - squares",
        "half the cross term of the distance",
        HEADS,
    ),
    Bug(
        "heads/mlp.py",
        "[hidden or num_features] * (depth - 1)",
        "[hidden or num_features] * depth",
        "one layer too many",
        HEADS,
    ),
    # -- metrics
    Bug(
        "metrics/class_accuracy.py",
        "torch.where(self.support > 0, self.correct / self.support, torch.nan)",
        "self.correct / self.support.clamp(min=1)",
        "an absent class counts as 0",
        METRICS,
    ),
    Bug("metrics/class_accuracy.py", ".any(1) & ~nan", ".any(1)", "NaN outputs may be right", METRICS),
    Bug(
        "metrics/class_accuracy.py",
        "torch.bincount(target[right]",
        "torch.bincount(target[~right]",
        "wrong answers are counted as right",
        METRICS,
    ),
    Bug(
        "metrics/calibration.py",
        "(confidence * self.num_bins).ceil().long().sub(1)",
        "(confidence * self.num_bins).long()",
        "bins are closed on the other side",
        METRICS,
    ),
    Bug(
        "metrics/calibration.py",
        ".clamp(0, self.num_bins - 1)",
        ".clamp(0, self.num_bins - 2)",
        "the last bin is never used",
        METRICS,
    ),
    Bug(
        "metrics/shot_accuracy.py",
        "overall = per_class.nanmean()",
        "overall = per_class.nansum() / len(per_class)",
        "absent classes count as 0 in the mean",
        METRICS,
    ),
    Bug(
        "metrics/shot_accuracy.py",
        "self.correct.sum() / torch.where(self.support.sum() > 0, self.support.sum(), torch.nan)",
        "per_class.nanmean()",
        "micro is macro",
        METRICS,
    ),
    Bug(
        "metrics/_mean_loss.py",
        "mean_loss.detach().float() * samples",
        "mean_loss.detach().float()",
        "the loss is not weighted by batch size",
        ("tests/modules/test_base_classifier.py", "tests/metrics"),
    ),
    # -- features
    Bug(
        "features/fit_head.py",
        "if best is None or accuracy > best[0]:",
        "if best is None or accuracy >= best[0]:",
        "of equal epochs the last is kept",
        FIT_HEAD,
    ),
    Bug(
        "features/fit_head.py",
        "rate * 0.5 * (1.0 + math.cos(math.pi * done))",
        "rate * 0.5 * (1.0 + math.cos(math.pi * epoch / training.epochs))",
        "the rate falls per epoch",
        FIT_HEAD,
    ),
    Bug(
        "features/fit_head.py",
        "weight_decay=training.weight_decay)",
        "weight_decay=0.0)",
        "weight decay is forgotten",
        FIT_HEAD,
    ),
    Bug(
        "features/_head_batches.py",
        "self._bank.num_views > 1",
        "self._bank.num_views > 2",
        "two views are one",
        FIT_HEAD,
    ),
    Bug(
        "features/_head_batches.py",
        "generator(self.sampler.seed, epoch)",
        "generator(self.sampler.seed, 0)",
        "every epoch draws alike",
        FIT_HEAD,
    ),
    Bug(
        "features/_evaluate.py",
        " & ~logits.isnan().any(1)",
        "",
        "NaN logits may be right",
        ("tests/features", "tests/methods"),
    ),
    Bug(
        "features/bank.py",
        "return self.views[index % self.num_views]",
        "return self.views[min(index, self.num_views - 1)]",
        "views do not start again",
        (*BANK, *FIT_HEAD),
    ),
    Bug(
        "features/bank.py",
        "labels=None if self.labels is None else self.labels[chosen],",
        "labels=None if self.labels is None else self.labels[: len(chosen)],",
        "a subset keeps the first labels",
        BANK,
    ),
    Bug(
        "features/_strings.py",
        "lengths = self.offsets[rows + 1] - starts",
        "lengths = (self.offsets[rows + 1] - starts).clip(max=8)",
        "long strings are cut in a subset",
        BANK,
    ),
    Bug(
        "features/_shards.py",
        "for task in range(rank, self.total, world_size):",
        "for task in range(rank, self.total - self.total % world_size, world_size):",
        "the last shards are left out",
        EXTRACT,
    ),
    # -- methods
    Bug("methods/learn_tau.py", "weight_decay=0.0", "weight_decay=0.05", "tau decays", METHODS),
    Bug(
        "methods/tau_selection.py",
        "better = (value > best[i])",
        "better = (value >= best[i])",
        "of equal logits a later block wins",
        METHODS,
    ),
    Bug(
        "methods/tau_selection.py",
        "tau = taus[int(scores.argmax())]",
        "tau = taus[len(scores) - 1 - int(scores.flip(0).argmax())]",
        "of equal scores the last tau wins",
        METHODS,
    ),
    Bug("methods/tau_selection.py", "answer[best.isnan()] = -1", "pass", "NaN logits score as class 0", METHODS),
    Bug(
        "methods/tau_selection.py",
        'scores = per_class.nanmean(1) if criterion == "macro"',
        'scores = per_class.nansum(1) / support.gt(0).sum().clamp(min=1) if criterion == "micro"',
        "macro and micro exchanged",
        METHODS,
    ),
    Bug(
        "methods/crt.py",
        "train_head(train, new",
        "train_head(val or train, new",
        "trained on validation features",
        METHODS,
    ),
    Bug("methods/ncm.py", ".fit(train)", ".fit(val or train)", "class means of validation features", METHODS),
    Bug(
        "methods/lws.py",
        "scale_bias=self.scale_bias)\n        return",
        "scale_bias=True)\n        return",
        "the bias is scaled always",
        METHODS,
    ),
    Bug(
        "methods/tau_normalization.py",
        'bank = train if self.choose == "train" or val is None else val',
        "bank = train",
        "tau is chosen on training features always",
        METHODS,
    ),
    # -- modules
    Bug(
        "modules/base_classifier.py",
        "self.global_step, batch_idx, self.global_rank",
        "self.global_step, self.global_rank",
        "batches of one accumulated step draw alike",
        CLASSIFIER,
    ),
    Bug(
        "modules/base_classifier.py",
        "self.global_step, batch_idx, self.global_rank",
        "self.global_step, batch_idx",
        "ranks draw alike",
        ("tests/ddp/test_base_classifier.py",),
    ),
    Bug(
        "modules/base_classifier.py",
        "elif bind is not None and ClassCounts(own) != self.class_counts:",
        "elif False:",
        "other class counts of a loss go unnoticed",
        CLASSIFIER,
    ),
    Bug(
        "modules/decoupled.py",
        'if mode and self.backbone_mode == "eval" and',
        "if mode and",
        "batch norms never follow the authors' code",
        DECOUPLED,
    ),
    Bug(
        "modules/decoupled.py",
        "            self.backbone.eval()\n",
        "",
        "batch norms of a frozen backbone drift",
        DECOUPLED,
    ),
    Bug(
        "modules/decoupled.py",
        "                block.train()\n",
        "                block.eval()\n",
        "the trained block stays in evaluation mode",
        DECOUPLED,
    ),
    Bug(
        "modules/decoupled.py",
        "        super().on_train_start()\n        self.train()\n",
        "        super().on_train_start()\n",
        "Lightning undoes the evaluation mode",
        DECOUPLED,
    ),
    Bug(
        "modules/decoupled.py",
        'optimizer.param_groups[-1]["lr"] *= self.backbone_lr_factor',
        "pass",
        "the backbone learns at the full rate",
        DECOUPLED,
    ),
]
