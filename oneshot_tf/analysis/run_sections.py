"""Sections of the report about the run: its training, export, commands and versions."""

from oneshot_tf.analysis import plots
from oneshot_tf.analysis.page import Page
from oneshot_tf.analysis.served import Export
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.system.json_files import read_json_lines
from oneshot_tf.system.printable import command


def training(page: Page, directory: RunDirectory) -> None:
    """Plots the loss and the accuracy of the one-shot model's training."""
    form = {"step": int, "loss": float, "accuracy": float}
    lines = read_json_lines(directory.path / "metrics.jsonl", form)
    if lines:
        page.head("Training of the one-shot model", "One point per line of metrics.jsonl.")
        loss = plots.training(lines, "loss", "loss, including L2")
        page.figure("training_loss", loss, "Loss of training.")
        accuracy = plots.training(lines, "accuracy", "accuracy (training images)")
        page.figure("training_accuracy", accuracy, "Accuracy of training, with dropped paths.")


def tracked(page: Page, directory: RunDirectory) -> None:
    """Plots the divergences of tracked architectures over the training (figure 7)."""
    path = directory.path / "tracked.jsonl"
    lines = read_json_lines(path, {"step": int, "divergence": dict})
    names = list(lines[-1]["divergence"]) if lines else []
    lines = [line for line in lines if list(line["divergence"]) == names]
    try:
        values = {n: [float(line["divergence"][n]) for line in lines] for n in names}
        accuracies = {n: lines[-1].get("candidate_accuracy", {}).get(n) for n in names}
        accuracies = {n: a and float(a) for n, a in accuracies.items()}
    except (TypeError, ValueError, AttributeError):
        values = {}
    if not values:
        return
    page.head("Divergence over training", "")
    drawing = plots.tracked([line["step"] for line in lines], values, accuracies)
    page.figure("tracked", drawing, "Divergence over training (the paper's figure 7).")
    rows = [
        [str(i + 1), name, "-" if accuracies[name] is None else f"{accuracies[name]:.4f}"]
        for i, name in enumerate(names)
    ]
    page.table("tracked", ["number", "architecture", "candidate accuracy"], rows, "")


def exported(page: Page, export: Export | None) -> None:
    """Compares the formats of an export, as `export` measured them."""
    if export is None or export.formats is None:
        return
    table = export.formats
    number = f", version {export.number} of the export" if export.number else ""
    about = f"The model {table['net']} in each format{number}. {table['images']}"
    page.head("Exported formats", about)
    rows = [
        [row["format"], f"{row['bytes']:,}", f"{row['accuracy']:.4f}",
         f"{row['largest_difference']:.1e}", f"{row['same_classes']:.4f}", f"{row['one_ms']:.3f}",
         f"{row['batch_ms']:.3f}", row["runtime"]]
        for row in table["formats"]
    ]  # fmt: skip
    titles = ["format", "bytes", "accuracy", "largest difference in probability", "same class",
              "ms for 1 image", "ms for 32 images", "runtime"]  # fmt: skip
    compared = "Differences and classes are compared with the model in TensorFlow."
    page.table("formats", titles, rows, f"{compared} {table['how']}")


def commands(page: Page, directory: RunDirectory) -> None:
    """Lists the commands of the run, with commits, versions and devices."""
    page.head("Commands and versions", "")
    path = directory.path / "provenance.jsonl"
    form = {"time": str, "command": [str], "packages": dict, "python": str, "devices": [str],
            "commit": (str, None)}  # fmt: skip
    rows = []
    for start in read_json_lines(path, form):
        program, *arguments = start["command"] or [""]
        module = program.replace("\\", "/").split("/")[-1].removesuffix(".py")
        packages = ", ".join(f"{name} {version}" for name, version in start["packages"].items())
        rows.append(
            [start["time"], command(module, *arguments),
             str(start["commit"]), f"Python {start['python']}, {packages}",
             ", ".join(start["devices"])]
        )  # fmt: skip
    if rows:
        page.table("commands", ["started", "command", "commit", "versions", "devices"], rows, "")
