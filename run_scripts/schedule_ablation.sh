#!/usr/bin/env bash
# Does decaying the learning rate hurt the ranking of candidates? An ablation with exact truth.
#
#   ./run_scripts/schedule_ablation.sh DIR --data_dir=DATA      # CIFAR-10, prepared in DATA
#
# Trains all 84 cells of one choice block alone, three runs each, and 24 one-shot models of 192,000
# images each, three seeds of: 4 and 16 ghost batches with three learning-rate schedules, and 16
# with two schedules and a dropout rate that is constant from the start. One more sees 512,000
# images. Every command goes on where it stopped. The tables at the end are
# run_scripts/schedule_ablation.py's. About 110 and 110 minutes of one CPU core (AMD EPYC, AVX2).
set -euo pipefail
DIR=$1
shift
PYTHON=${PYTHON:-python}
SIZE="--dataset=cifar10 --image_size=16 --num_cells=3 --filters=8 --num_blocks=1"
GHOSTS="--ghost_batch_size=32 --device_batch_size=128"
# Word splitting is wanted.
# shellcheck disable=SC2086

one_shot() { # name, further flags
  local run=$DIR/$1
  shift
  $PYTHON -m oneshot_tf.train $SIZE $GHOSTS --run_dir="$run" "$@"
  $PYTHON -m oneshot_tf.search --run_dir="$run" --num_candidates=84
}

# A model of one step: its candidates are the list of all 84 cells.
one_shot truth --batch_size=128 --train_steps=1 "$@"
for run in 0 1 2; do
  $PYTHON -m oneshot_tf.retrain --run_dir="$DIR/truth" --select=top --top=84 --count=84 \
    --name=run$run --first_run=$run --repeats=1 --epochs=1 --batch_size=64 \
    --learning_rate_schedule=cosine --evaluate_on=validation
done
for seed in 0 1 2; do
  for ghosts in 16 4; do
    for schedule in constant cosine cooldown; do
      batch=$((32 * ghosts))
      one_shot "one_shot/g${ghosts}_${schedule}_s$seed" --batch_size=$batch \
        --train_steps=$((192000 / batch)) --learning_rate_schedule=$schedule --seed=$seed "$@"
    done
  done
  for schedule in constant cosine; do
    one_shot "one_shot/g16_${schedule}_flat_s$seed" --batch_size=512 --train_steps=375 \
      --learning_rate_schedule=$schedule --drop_schedule=constant --seed=$seed "$@"
  done
done
one_shot one_shot/g16_cosine_long_s0 --batch_size=512 --train_steps=1000 \
  --learning_rate_schedule=cosine "$@"
$PYTHON "$(dirname "$0")/schedule_ablation.py" "$DIR"
