"""Training of a linear classifier, typed from the formulas: no autograd, no optimizer, no loader."""

from __future__ import annotations

import math


def sgd(weight, bias, epochs, *, lr, momentum, weight_decay, total_steps):
    """Softmax regression by SGD with momentum, weight decay and a cosine to 0; nested lists of floats.

    `epochs` holds, for each epoch, a list of batches, each a list of (features, label).
    Velocity v <- momentum v + gradient + decay w, and w <- w - lr v.
    """
    classes, width = len(weight), len(weight[0])
    weight, bias = [row[:] for row in weight], bias[:]
    speed = [[0.0] * width for _ in range(classes)]
    bias_speed = [0.0] * classes
    step = 0
    for batches in epochs:
        for batch in batches:
            gradient = [[0.0] * width for _ in range(classes)]
            bias_gradient = [0.0] * classes
            for features, label in batch:
                logits = [sum(w * f for w, f in zip(weight[c], features)) + bias[c] for c in range(classes)]
                total = sum(math.exp(z) for z in logits)
                for c in range(classes):
                    slope = (math.exp(logits[c]) / total - (c == label)) / len(batch)
                    bias_gradient[c] += slope
                    for i in range(width):
                        gradient[c][i] += slope * features[i]
            rate = lr * (1 + math.cos(math.pi * step / total_steps)) / 2
            for c in range(classes):
                bias_speed[c] = momentum * bias_speed[c] + bias_gradient[c] + weight_decay * bias[c]
                bias[c] -= rate * bias_speed[c]
                for i in range(width):
                    speed[c][i] = momentum * speed[c][i] + gradient[c][i] + weight_decay * weight[c][i]
                    weight[c][i] -= rate * speed[c][i]
            step += 1
    return weight, bias
