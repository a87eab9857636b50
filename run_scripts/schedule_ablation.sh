#!/usr/bin/env bash
# Measures whether learning rate decay hurts the ranking of candidates, against all true accuracies.
#
#   ./run_scripts/schedule_ablation.sh DIR --data_dir=DATA      # CIFAR-10, prepared in DATA
#
# Trains all 84 cells of one choice block as stand-alone models, three runs each. Trains 24 one-shot
# models of 192,000 images each. They have three seeds of 4 and of 16 ghost batches with three
# learning-rate schedules, and three seeds of 16 ghost batches with two schedules and a constant
# dropout rate. One more model sees 512,000 images. The same command resumes an ablation that was
# stopped. At the end, run_scripts/schedule_ablation.py prints the tables. The stand-alone models take
# about 110 minutes of one CPU core (AMD EPYC, AVX2), and so do the one-shot models.
set -euo pipefail
DIR=$1
shift
PYTHON=${PYTHON:-python}
SIZE="--dataset=cifar10 --image_size=16 --num_cells=3 --filters=8 --num_blocks=1"
GHOSTS="--ghost_batch_size=32 --device_batch_size=128"
# Word splitting is intended.
# shellcheck disable=SC2086

one_shot() { # name, further flags
  local run=$DIR/$1
  shift
  $PYTHON -m oneshot_tf.train $SIZE $GHOSTS --run_dir="$run" "$@"
  $PYTHON -m oneshot_tf.search --run_dir="$run" --num_candidates=84
}

# This model trains for one step. Its candidates only list all 84 cells.
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
