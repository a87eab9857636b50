#!/usr/bin/env bash
# Measures what strategies that learn the architecture derive, against the true accuracy of all 84 cells of one block.
#
#   ./run_scripts/learners.sh DIR --data_dir=DATA      # CIFAR-10, prepared in DATA
#
# Trains path dropout and five learners with the same 1,000 steps of 64 images, and five seeds each. With path dropout, a
# search then scores all 84 cells. The logits have a higher learning rate than published (0.006, not 0.0003),
# since there are 20 times fewer updates. The same command resumes a study that was stopped. At the end,
# run_scripts/learners.py prints the table. All of it took 1 h 42 min with one core of a busy machine (n = 1, AMD EPYC).
set -euo pipefail
DIR=$1
shift
PYTHON=${PYTHON:-python}
SEEDS=${SEEDS:-0 1 2 3 4}
SIZE="--dataset=cifar10 --image_size=16 --num_cells=3 --filters=8 --num_blocks=1"
BATCH="--batch_size=64 --ghost_batch_size=32 --train_steps=1000"
LOGITS="--architecture_learning_rate=0.006"
# Word splitting is intended.
# shellcheck disable=SC2086

train() { # name, strategy and its flags
  local run=$DIR/$1_s$seed
  shift
  $PYTHON -m oneshot_tf.train $SIZE $BATCH --run_dir="$run" --seed=$seed --threads=1 $DATA --strategy="$@"
}

DATA="$*"
for seed in $SEEDS; do
  train path_dropout path_dropout
  $PYTHON -m oneshot_tf.search --run_dir="$DIR/path_dropout_s$seed" --num_candidates=84
  train darts_1 darts $LOGITS
  train darts_paths darts $LOGITS --relaxation=paths
  train darts_2 darts $LOGITS --order=2
  train gumbel_hard gumbel $LOGITS --masks=hard
  train gumbel_soft gumbel $LOGITS --masks=soft
  train enas enas --phase_steps=100 --phase_updates=100
done
$PYTHON "$(dirname "$0")/learners.py" "$DIR"
