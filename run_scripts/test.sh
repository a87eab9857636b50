#!/usr/bin/env bash
# Checks style and runs the tests in their own virtual environment. Arguments go to pytest:
#   ./run_scripts/test.sh                 runs all tests that are not marked "slow".
#   ./run_scripts/test.sh -m slow         runs the tests that are marked "slow".
#   ./run_scripts/test.sh -k path_dropout runs the tests with path_dropout in their name.
# Up to four processes share the tests, one file at a time each. -n 0 uses one process.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=run_scripts/environment.sh
source run_scripts/environment.sh
VENV=${VENV:-.venv-test}
prepare_environment cpu,test
"$PYTHON_BIN" -m ruff check --quiet --config .ci/ruff.toml oneshot_tf tests run_scripts setup.py
"$PYTHON_BIN" -m ruff format --check --quiet --config .ci/ruff.toml oneshot_tf tests run_scripts setup.py
"$PYTHON_BIN" -m mypy --config-file .ci/mypy.ini --cache-dir=/dev/null
NO_MKDOCS_2_WARNING=1 "$PYTHON_BIN" -m mkdocs build --strict --quiet -f .ci/mkdocs.yml
exec "$PYTHON_BIN" -m pytest -c tests/pytest.ini --rootdir . \
  --numprocesses=logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder tests "$@"
