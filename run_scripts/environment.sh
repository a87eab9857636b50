# The other scripts source this file. It makes the virtual environment VENV (default .venv) and sets
# PYTHON_BIN to the Python of the environment. The argument names the pip extras to install.

prepare_environment() {
  local extras=$1 base="" candidate
  for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.10; do
    if [ -n "$candidate" ] && "$candidate" -c \
      'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      base=$candidate
      break
    fi
  done
  if [ -z "$base" ]; then
    echo "No Python 3.10 to 3.13 was found. Install one, or name it: PYTHON=/path/to/python3 $0" >&2
    exit 1
  fi
  VENV=${VENV:-.venv}
  PYTHON_BIN=$VENV/bin/python
  if [ ! -x "$PYTHON_BIN" ]; then
    echo "Making a virtual environment in $VENV …"
    if ! "$base" -m venv "$VENV"; then
      rm -rf "$VENV"
      echo "$base cannot make virtual environments. On Debian and Ubuntu, run: apt install python3-venv" >&2
      exit 1
    fi
  fi
  # Installs again only when the extras or setup.py have changed.
  local wanted
  wanted="$extras $(cat setup.py | cksum)"
  if [ "$(cat "$VENV/.installed" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing oneshot_tf[$extras] and its dependencies (about 1.5 GB, a few minutes) …"
    "$PYTHON_BIN" -m pip install --quiet --disable-pip-version-check --editable ".[$extras]"
    echo "$wanted" >"$VENV/.installed"
  fi
}
