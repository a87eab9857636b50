#!/usr/bin/env bash
# Installs the package on a TPU VM, then trains, searches, retrains and exports on ImageNet.
# Usage, in a checkout on the VM: ./run_scripts/tpu_vm_imagenet.sh DATA_DIR [RUN_DIR]
# DATA_DIR contains imagenet2012, prepared by tensorflow-datasets, on a disk of the VM.
# It is for a VM with one host (v5e-8 and smaller). It was never run on a TPU.
set -euo pipefail
if [[ $# -lt 1 ]]; then sed -n '2,4s/^# //p' "$0" >&2; exit 2; fi
data=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
run=${2:-runs/imagenet_tpu}
python3 -m venv .venv-tpu
.venv-tpu/bin/pip install -q ".[tpu]"
python="$PWD/.venv-tpu/bin/python -m oneshot_tf"
$python.train --flagfile=imagenet_tpu.flags --data_dir="$data" --run_dir="$run"
$python.search --run_dir="$run" --distribution=tpu --num_candidates=5000
$python.retrain --flagfile=imagenet_retrain.flags --distribution=tpu --mixed_precision \
  --run_dir="$run" --filters=32
$python.export --run_dir="$run"
