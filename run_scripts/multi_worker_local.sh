#!/usr/bin/env bash
# Runs a program in several worker processes on this machine, as on several machines.
# Usage: ./run_scripts/multi_worker_local.sh COUNT train|search|retrain [--flags …]
# Prints the output of the first worker. The output of the other workers is in log files.
# The exit code is the first one of a worker that is not 0, or else 0.
set -u
if [[ ! "${1:-}" =~ ^[1-9][0-9]?$ || $# -lt 2 ]]; then
  sed -n '2,5s/^# //p' "$0" >&2
  exit 2
fi
count=$1 program=$2
shift 2
python=${PYTHON:-python}
addresses=$("$python" - "$count" <<'PYTHON'
import json, socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(json.dumps([f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]))
PYTHON
) || exit 1
logs=$(mktemp -d)
workers=()
trap 'kill "${workers[@]}" 2>/dev/null' INT TERM
for ((i = count - 1; i >= 0; i--)); do
  export TF_CONFIG="{\"cluster\": {\"worker\": $addresses}, \"task\": {\"type\": \"worker\", \"index\": $i}}"
  command=("$python" -m "oneshot_tf.$program" --distribution=multi_worker "$@")
  if ((i == 0)); then "${command[@]}" & else "${command[@]}" > "$logs/process_$i.log" 2>&1 & fi
  workers+=($!)
done
((count > 1)) && echo "The other workers write to $logs/process_*.log."
code=0
for worker in "${workers[@]}"; do
  wait "$worker" || { failed=$?; ((code == 0)) && code=$failed; }
done
exit "$code"
