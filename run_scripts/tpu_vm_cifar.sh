#!/usr/bin/env bash
# CIFAR-10 on a TPU VM: installs the package, then trains, searches, retrains and exports.
# Usage, in a checkout on the VM: ./run_scripts/tpu_vm_cifar.sh [RUN_DIR]
# Written for a VM with one host (v5e-8 and smaller); it hasn't been run on one.
set -euo pipefail
cd "$(dirname "$0")/.."
run=${1:-runs/cifar_tpu}
python3 -m venv .venv-tpu
.venv-tpu/bin/pip install -q ".[tpu]"
python="$PWD/.venv-tpu/bin/python -m oneshot_tf"
tpu="--distribution=tpu"
# On 8 cores: 128 images each, four ghost batches of 32, all at once.
$python.train --flagfile=cifar.flags $tpu --device_batch_size=128 --mixed_precision --run_dir="$run"
$python.search --run_dir="$run" $tpu --num_candidates=20000
# 256 images a step, the fewest that eight cores share in ghost batches of 32; the paper has 64.
$python.retrain --flagfile=cifar_retrain.flags $tpu --batch_size=256 --run_dir="$run" --filters=32
$python.export --run_dir="$run"
