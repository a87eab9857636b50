"""metrics.jsonl: what is kept of it when a training goes on, and its last line in words."""

import json

from oneshot_tf.system.files import read_json_lines, write_atomically


def truncate(metrics_file, start: int) -> None:
    """Drops lines of steps after the checkpoint from which training goes on."""
    if not metrics_file.exists():
        return
    kept = []
    for line in read_json_lines(metrics_file, {"step": int}):
        if line["step"] <= start:
            kept.append(json.dumps(line) + "\n")
    write_atomically(metrics_file, lambda file: file.writelines(kept))


def last_line(metrics_file, step: int) -> dict:
    """What `truncate` left of the last line."""
    lines = read_json_lines(metrics_file, {"step": int}) if metrics_file else []
    return lines[-1] if lines else {"step": step}


def words(entry: dict) -> str:
    """Loss and accuracy; empty without an entry."""
    if not entry:
        return ""
    return f"loss {entry['loss']:.3f}, accuracy {entry['accuracy']:.3f}"
