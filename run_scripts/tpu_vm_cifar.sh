#!/usr/bin/env bash
# Installs the package on a TPU VM, then trains, searches, retrains and exports on CIFAR-10.
# Usage, in a checkout on the VM: ./run_scripts/tpu_vm_cifar.sh [RUN_DIR]
# It is for a VM with one host (v5e-8 and smaller). It was never run on a TPU.
set -euo pipefail
cd "$(dirname "$0")/.."
run=${1:-runs/cifar_tpu}
python3 -m venv .venv-tpu
.venv-tpu/bin/pip install -q ".[tpu]"
python="$PWD/.venv-tpu/bin/python -m oneshot_tf"
tpu="--distribution=tpu"
# Each of 8 cores takes 128 images in one micro-batch: four ghost batches of 32.
$python.train --flagfile=cifar.flags $tpu --device_batch_size=128 --mixed_precision --run_dir="$run"
$python.search --run_dir="$run" $tpu --num_candidates=20000
# 256 images per step are the fewest for eight cores and ghost batches of 32. The paper has 64.
$python.retrain --flagfile=cifar_retrain.flags $tpu --batch_size=256 --run_dir="$run" --filters=32
$python.export --run_dir="$run"
