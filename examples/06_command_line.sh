#!/usr/bin/env bash
# The same from the command line: a recipe, another loss, another sampler, adjusted logits.
set -euo pipefail
cd "$(mktemp -d)"
small=(--data.max_count 40 --trainer.max_epochs 1)

ltl fit --config quickstart "${small[@]}"
ltl fit --config quickstart "${small[@]}" --model.loss CrossEntropyLoss --data.sampler ClassBalancedSampler

ltl test --ckpt_path runs/quickstart/version_1/checkpoints/best.ckpt --logit_adjustment.tau 0.5
ltl predict --ckpt_path runs/quickstart/version_1/checkpoints/best.ckpt --predictions.path predictions.csv
head -n 3 predictions.csv
