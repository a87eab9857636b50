"""The first screen of the report: what was found, what it costs, how to serve it."""

import math
import re
import shlex
from collections.abc import Sequence
from typing import Any

from oneshot_tf.analysis import candidate_sections, mistakes, run_sections
from oneshot_tf.analysis.page import Page
from oneshot_tf.analysis.served import Export, cost_words, read_export, served_net
from oneshot_tf.analysis.style import escaped
from oneshot_tf.runs.baselines import is_baseline
from oneshot_tf.runs.candidates import Candidate, measured, order_key
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.predictions import how_to_make_predictions, read_predictions
from oneshot_tf.runs.search_record import measure
from oneshot_tf.settings import LocationSettings
from oneshot_tf.system.printable import command


def first_screen(
    page: Page,
    directory: RunDirectory,
    candidates: Sequence[Candidate],
    location: LocationSettings,
) -> list[str]:
    """Writes the first screen and returns its sentences.

    It has three sentences, the accuracy of each class, the confusion matrix, the worst mistakes,
    the fronts and the table of formats. All but the sentences depend on what the run has.

    Args:
        page: The page to write to.
        directory: The run.
        candidates: The candidates of the search.
        location: Where the images are now.

    Raises:
        InputError: A file is damaged or belongs to another run.
    """
    export = read_export(directory)
    served = served_net(directory, export)
    words, how, commands = _words(directory, candidates, export, served)
    lead = "".join(f"<p>{escaped(text)}</p>" for text in [*words, how])
    shown = "".join(f"<pre><code>{escaped(text)}</code></pre>" for text in commands)
    page.html(f"<div class='lead'>{lead}{shown}</div>")
    if served is not None:
        _answers(page, directory, served, location)
    chosen = "" if served is None else str(served[1]["architecture"])
    candidate_sections.fronts(page, directory, candidates, chosen)
    run_sections.exported(page, export)
    page.conclusions()
    return [*words, "\n  ".join([how, *commands])]


def sentences(directory: RunDirectory, candidates: Sequence[Candidate]) -> list[str]:
    """Returns the sentences of the first screen, without the rest of the report.

    Args:
        directory: The run.
        candidates: The candidates of the search.

    Raises:
        InputError: A file is damaged or belongs to another run.
    """
    export = read_export(directory)
    words, how, commands = _words(directory, candidates, export, served_net(directory, export))
    return [*words, "\n  ".join([how, *commands])]


def _words(
    directory: RunDirectory, candidates: Sequence[Candidate], export: Export | None, served: Any
) -> tuple[list[str], str, list[str]]:
    """Returns what was found and what it costs, how to serve it, and the commands for it."""
    words = [_found(directory, candidates, served), *_costs(directory, candidates, served, export)]
    return words, *_serve(directory, export, served is not None, bool(candidates))


def _found(directory: RunDirectory, candidates: Sequence[Candidate], served: Any) -> str:
    scored = measured(candidates)
    if served is not None:
        result, net, place = served
        index, count = net["folder"].index(place), result["num_images"]
        accuracy = net["accuracies"][index]
        error = math.sqrt(accuracy * (1 - accuracy) / count)
        balanced = net.get("balanced_accuracies", [])[index : index + 1]
        more = "".join(f"; balanced accuracy {value:.2%}" for value in balanced)
        return (
            f"{_origin(candidates, net)} {net['architecture']}. It classifies {accuracy:.2%} of "
            f"{count:,} {result['evaluated_on']} images correctly (standard error {error:.2%}"
            f"{more}; {place})."
        )
    if scored:
        best = min(scored, key=order_key)
        return (
            f"The best of {len(candidates):,} candidates is {best.architecture}, with a "
            f"{measure(directory)} of {best.candidate_accuracy:.4f}; it was not trained alone yet."
        )
    return "No architecture has been chosen yet."


def _origin(candidates: Sequence[Candidate], net: dict[str, Any]) -> str:
    """Returns the first words of the sentence about a net: where it comes from."""
    if is_baseline(net):
        return "The net is the baseline"
    known = {str(candidate.architecture) for candidate in candidates}
    if net["architecture"] in known:
        return f"The net is one of {len(candidates):,} candidates of the search,"
    return "The net is"


def _costs(
    directory: RunDirectory, candidates: Sequence[Candidate], served: Any, export: Export | None
) -> list[str]:
    if served is not None:
        return [cost_words(directory, served[1], export)]
    scored = measured(candidates)
    if not scored:
        return []
    best = min(scored, key=order_key)
    return [
        f"At the one-shot model's size, it has {best.parameters:,} parameters and "
        f"{best.multiply_adds:,} multiply-adds; nothing was measured of its export."
    ]


def _serve(
    directory: RunDirectory, export: Export | None, trained: bool, searched: bool
) -> tuple[str, list[str]]:
    """Returns how to serve the net, or what to do next, and the commands for it."""
    run = f"--run_dir={directory.path}"
    if export is None:
        steps = {"export": trained, "retrain": searched, "search": True}
        program = next(name for name, possible in steps.items() if possible)
        why = {"export": "Export it to serve it:", "retrain": "Train it alone, then export it:",
               "search": "Search for one:"}[program]  # fmt: skip
        return why, [command(program, run)]
    root = export.folder.parent if export.number else export.folder
    classify = command("predict", f"--saved_model={root}", "photo.jpg")
    if not export.number:
        return "Classify images with it:", [classify]
    name = re.sub(r"[^A-Za-z0-9_-]", "_", directory.path.resolve().name) or "model"
    volume = shlex.quote(f"{root.resolve()}:/models/{name}")
    serve = f"docker run -p 8501:8501 -v {volume} -e MODEL_NAME={name} tensorflow/serving"
    return "Classify images with it, or serve it with TensorFlow Serving:", [classify, serve]


def _answers(page: Page, directory: RunDirectory, served: Any, location: LocationSettings) -> None:
    """Writes what is known of the answers of the net for single images and classes."""
    result, net, place = served
    predictions = read_predictions(directory, result, place)
    page.head(
        "Where it is right and wrong",
        f"The answers of {place} for {result['num_images']:,} {result['evaluated_on']} images, as "
        "retrain scored them, once.",
    )
    if predictions is None:
        page.missing(
            "An earlier version trained these nets, and kept no answers. The same command resumes: "
            "it trains nothing again, and scores the nets.",
            how_to_make_predictions(directory, result),
        )
        return
    names = directory.facts()["class_names"]
    mistakes.by_class(page, predictions, names)
    mistakes.worst(page, predictions, directory, result["evaluated_on"], location)
