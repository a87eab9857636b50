#!/usr/bin/env bash
# Runs the whole pipeline on scikit-learn's handwritten digits: trains, searches, retrains, exports and
# serves. It takes a few minutes on two cores. Set RUN_DIR to replace runs/quickstart.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=run_scripts/environment.sh
source run_scripts/environment.sh
prepare_environment cpu
RUN_DIR=${RUN_DIR:-runs/quickstart}
SECONDS=0
program() { echo; echo "== python -m oneshot_tf.$*"; "$PYTHON_BIN" -m "oneshot_tf.$@"; }

program train --flagfile=quickstart.flags --run_dir="$RUN_DIR"
program search --run_dir="$RUN_DIR" --num_candidates=300
program retrain --flagfile=quickstart_retrain.flags --run_dir="$RUN_DIR" --select=top --top=3 --count=3
program retrain --flagfile=quickstart_retrain.flags --run_dir="$RUN_DIR" --select=random --count=3
program retrain --flagfile=quickstart_retrain.flags --run_dir="$RUN_DIR" --select=all_on
program export --run_dir="$RUN_DIR"
program analyze --run_dir="$RUN_DIR"

echo; echo "== Serving the SavedModel with TensorFlow alone"
"$PYTHON_BIN" run_scripts/serve_digits.py "$RUN_DIR/export"

echo; echo "== Results ($SECONDS s)"
cat "$RUN_DIR/retrain/table.txt"
cat <<EOF

one-shot model   $RUN_DIR/checkpoints/     its training: $RUN_DIR/metrics.jsonl
candidates       $RUN_DIR/candidates.csv
stand-alone nets $RUN_DIR/retrain/
SavedModel       $RUN_DIR/export/1/
report           $RUN_DIR/report/report.html
EOF
