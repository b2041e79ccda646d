"""Help of `ltl fit`, `validate`, `test` and `predict`: what is used most, with examples, and without torch."""

from __future__ import annotations

RUN = ("fit", "validate", "test", "predict")

_FIT = """\
usage: ltl fit --config FILE_OR_RECIPE [options]
       ltl fit --model CLASS --data CLASS [options]

Trains a model, and writes runs/NAME/version_N with checkpoints, curves, a report and a config that repeats the run.

what to train
  --config FILE               settings; several times, the later wins      --config quickstart
  --model CLASS               the module                                   --model BaseClassifier
  --model.backbone NAME       `ltl list backbones`                         --model.backbone resnet50
  --model.pretrained BOOL     whether to download its weights              --model.pretrained true
  --model.loss CLASS          `ltl list losses`                            --model.loss LogitAdjustedLoss
  --model.loss.OPTION VALUE   of that loss; `ltl show LogitAdjustedLoss`   --model.loss.tau 1.5
  --model.head CLASS          `ltl list heads`                             --model.head CosineHead
  --model.optimizer CLASS     any of torch.optim                           --model.optimizer AdamW
  --model.optimizer.lr X      and its other options                        --model.optimizer.lr 0.001

on what
  --data CLASS                `ltl list data`                              --data ImageFolderLT
  --data.root FOLDER          and its other options, `ltl show CLASS`      --data.root photos
  --data.sampler CLASS        `ltl list samplers`                          --data.sampler ClassBalancedSampler
  --data.batch_size N         images per step and process                  --data.batch_size 256
  --data.num_workers N        processes that load images                   --data.num_workers 8
  --data.val_split X          share of training images to validate on      --data.val_split 0.1

how
  --trainer.max_epochs N      passes over the images                       --trainer.max_epochs 90
  --trainer.devices N         GPUs                                         --trainer.devices 4
  --trainer.precision P       of numbers                                   --trainer.precision bf16-mixed
  --trainer.callbacks+ CLASS  `ltl list callbacks`                         --trainer.callbacks+ DeferredReweighting
  --trainer.fast_dev_run true one batch, to see whether it works           --trainer.fast_dev_run true
  --seed_everything N         of everything random (default: 0)            --seed_everything 1
  --ckpt_path FILE            go on with a run that was interrupted        --ckpt_path runs/.../last.ckpt
  --ckpt_path last            the newest run of this config; or best, hpc  --ckpt_path last
"""

_EVALUATE = """\
usage: ltl {command} --ckpt_path FILE [options]

{what}
Model and data are those of the run that wrote the checkpoint, unless --data or --config say others.

  --ckpt_path FILE              the trained model              --ckpt_path runs/mine/version_0/checkpoints/best.ckpt
  --ckpt_path best              that of the newest run         --ckpt_path best
  --import MODULE               yours; a checkpoint may hold   --import my_project.nets
                                classes of it
  --data CLASS                  other data                     --data ImageFolderLT --data.root photos
  --data.OPTION VALUE           another option of the data     --data.batch_size 256
  --config FILE                 settings of model and data     --config runs/mine/version_0/config_fit.yaml
  --trainer.accelerator NAME    cpu, gpu ...                   --trainer.accelerator cpu
  --trainer.devices N           GPUs                           --trainer.devices 4
  --trainer.precision P         of numbers                     --trainer.precision bf16-mixed
  --logit_adjustment.tau X      adjust trained logits by the   --logit_adjustment.tau 1
                                class prior (default: 0)
  --fail_on_nan                 end with an error if an output   --fail_on_nan
                                of the model is not finite
{more}
The model's own options come from the checkpoint: another value for them is refused.
"""
_PREDICT = """\
  --images PATH ...             pictures of no data set        --images photos
  --predictions.path FILE       .csv or .parquet               --predictions.path predictions.csv
  --predictions.top_k N         classes per image              --predictions.top_k 5
"""
_MORE = """
Files and recipes may be mixed with options: what comes later wins. `ltl {command} --help-all` lists every option;
`ltl {command} --model.help CLASS` and `--data.help CLASS` those of a class.
"""


def run_help(command: str) -> str:
    """What `ltl COMMAND --help` prints."""
    if command == "fit":
        text = _FIT
    else:
        what = {
            "validate": "Evaluates a trained model on the validation images.",
            "test": "Evaluates a trained model on the test images.",
            "predict": "Writes the classes of the test images to a file; with --images, those of any pictures.",
        }[command]
        text = _EVALUATE.format(command=command, what=what, more=_PREDICT if command == "predict" else "")
    return text + _MORE.format(command=command)
