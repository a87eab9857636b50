#!/usr/bin/env bash
# Compares what learners derive from the whole space of the paper with the paper's own way, on CIFAR-10 at 16x16 pixels.
#
#   ./run_scripts/learners_cifar.sh DIR --data_dir=DATA      # CIFAR-10, prepared in DATA
#
# Trains path dropout and three learners with the same 800 steps of 64 images, and three seeds each. With the weights of
# a learner, it scores the mixture, the most probable architecture, and five uniform draws. With path dropout, it scores
# 60 random candidates. Then it trains from scratch, for one epoch each: what each of them derived, and a random
# architecture. These are scored on the test images, which no learner saw. The same command resumes a study that was
# stopped. At the end, run_scripts/learners.py prints the table.
set -euo pipefail
DIR=$1
shift
PYTHON=${PYTHON:-python}
SEEDS=${SEEDS:-0 1 2}
SIZE="--dataset=cifar10 --image_size=16 --num_cells=3 --filters=8"
BATCH="--batch_size=64 --ghost_batch_size=32 --train_steps=800 --threads=1"
RETRAIN="--epochs=1 --batch_size=64 --ghost_batch_size=32 --evaluate_on=test --threads=1"
LOGITS="--architecture_learning_rate=0.01"
# Word splitting is intended.
# shellcheck disable=SC2086

program() { # program, name of the run, flags
  local name=$1 run=$DIR/$2_s$seed
  shift 2
  $PYTHON -m "oneshot_tf.$name" --run_dir="$run" "$@"
}

learner() { # name, strategy and its flags
  local name=$1
  shift
  program train "$name" $SIZE $BATCH --seed=$seed $DATA --strategy="$@"
  program search "$name" --strategy=learnt --name=learnt --num_candidates=1
  program search "$name" --name=random --num_candidates=5 --seed=$seed
  program retrain "$name" --search=learnt --top=1 --count=1 --name=derived $RETRAIN --seed=$seed
}

DATA="$*"
for seed in $SEEDS; do
  program train path_dropout $SIZE $BATCH --seed=$seed $DATA --strategy=path_dropout
  program search path_dropout --num_candidates=60 --seed=$seed
  program retrain path_dropout --top=1 --count=1 --name=derived $RETRAIN --seed=$seed
  program retrain path_dropout --select=random --count=1 --name=random $RETRAIN --seed=$seed
  learner darts darts $LOGITS
  learner gumbel gumbel $LOGITS
  learner enas enas --phase_steps=80 --phase_updates=80
done
$PYTHON "$(dirname "$0")/learners.py" "$DIR" --space=paper
