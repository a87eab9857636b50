"""Sections on the answers of one net: accuracy by class, confusions and the worst mistakes."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from oneshot_tf.analysis.page import Page
from oneshot_tf.analysis.style import escaped
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.predictions import Predictions
from oneshot_tf.settings import LocationSettings
from oneshot_tf.system.errors import InputError

MOST_CLASSES = 20  # more do not fit on a screen
_WORST = 10


def by_class(page: Page, predictions: Predictions, names: Sequence[str]) -> None:
    """Shows the accuracy of each class beside the confusion matrix.

    Of more than 20 classes, it shows the ten best, the ten worst, and the most frequent
    confusions.
    """
    matrix = predictions.confusion(len(names))
    total, right = matrix.sum(axis=1), matrix.diagonal()
    shares = right / np.maximum(total, 1)
    order = [k for k in np.argsort(shares, kind="stable") if total[k]]
    few = len(names) <= MOST_CLASSES
    ends = dict.fromkeys([*order[:10], *order[-10:]])
    shown = [k for k in range(len(names)) if total[k]] if few else list(ends)
    bars = "".join(
        f"<tr><td>{escaped(names[k])}</td>"
        f"<td class='share'><i style='width:{100 * shares[k]:.1f}%'></i></td>"
        f"<td>{shares[k]:.1%}</td><td class='dim'>{right[k]:,} of {total[k]:,}</td></tr>"
        for k in shown
    )
    which = "" if few else f" (of {len(names):,} classes, the ten lowest and the ten highest)"
    left = f"<section><h3>Accuracy by class{which}</h3><table class='bars'>{bars}</table></section>"
    page.html(f"<div class='figures'>{left}{_confusion(matrix, names)}</div>")
    rows = [[names[k], f"{shares[k]:.6f}", str(right[k]), str(total[k])] for k in range(len(names))]
    page.file_of_table("classes", ["class", "accuracy", "right", "images"], rows)
    if few:
        rows = [[name, *map(str, matrix[k])] for k, name in enumerate(names)]
        page.file_of_table("confusion", ["true class", *names], rows)


def _confusion(matrix: np.ndarray, names: Sequence[str]) -> str:
    """Returns the confusion matrix as a table, or the most frequent confusions."""
    if len(names) > MOST_CLASSES:
        return _confusions(matrix, names)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    up = " class='up'" if max(map(len, names)) > 3 else ""  # long names stand upright
    head = "".join(f"<th><span{up}>{escaped(name)}</span></th>" for name in names)
    lines = []
    for k, name in enumerate(names):
        cells = "".join(_count(count, shares[k, j], k == j) for j, count in enumerate(matrix[k]))
        lines.append(f"<tr><th>{escaped(name)}</th>{cells}</tr>")
    return (
        "<section><h3>Confusion matrix</h3><div class='wide'><table class='confusion'>"
        f"<tr><th></th>{head}</tr>{''.join(lines)}</table></div>"
        "<p class='dim'>A row has the images of a class, a column what they were taken for.</p>"
        "</section>"
    )


def _count(count: int, share: float, right: bool) -> str:
    kind = f"{'right' if right else 'wrong'}{' strong' if share > 0.5 else ''}"
    return f"<td class='{kind}' style='--share:{100 * share:.0f}%'>{count or ''}</td>"


def _confusions(matrix: np.ndarray, names: Sequence[str]) -> str:
    wrong = matrix - np.diag(matrix.diagonal())
    pairs = np.argsort(-wrong, axis=None, kind="stable")[:20]
    rows = "".join(
        f"<tr><td>{escaped(names[k])}</td><td class='text'>{escaped(names[j])}</td>"
        f"<td>{wrong[k, j]:,} of {matrix[k].sum():,}</td></tr>"
        for k, j in (divmod(int(pair), len(names)) for pair in pairs) if wrong[k, j]
    )  # fmt: skip
    return (
        "<section><h3>The most frequent confusions</h3><div class='wide'><table><tr>"
        f"<th>class</th><th>taken for</th><th>images</th></tr>{rows}</table></div></section>"
    )


def worst(
    page: Page,
    predictions: Predictions,
    directory: RunDirectory,
    evaluated_on: str,
    location: LocationSettings,
) -> None:
    """Shows the mistakes of highest probability, with their images.

    If the images cannot be loaded, it says why, and shows the mistakes without them.
    """
    names, chosen = directory.facts()["class_names"], predictions.worst(_WORST)
    if not len(chosen):
        page.text(f"All {len(predictions.labels):,} images were classified correctly.")
        return
    why, pictures = "", [""] * len(chosen)
    try:
        images = _images(predictions, directory, evaluated_on, location, chosen)
        pictures = [_picture(image) for image in images]
    except InputError as error:
        why = f"<p class='missing'>The images cannot be shown. {escaped(error)}</p>"
    cards = []
    for index, picture in zip(chosen, pictures):
        true, taken = (names[each[index]] for each in (predictions.labels, predictions.predicted))
        image = f"<img alt='{escaped(true)}' src='{picture}'>" if picture else ""
        cards.append(
            f"<li>{image}<p>taken for <b>{escaped(taken)}</b> "
            f"({predictions.probability[index]:.0%})<br><span class='dim'>is {escaped(true)} "
            f"({predictions.of_label[index]:.0%})</span></p></li>"
        )
    page.html(
        f"<h3>The worst mistakes: wrong answers of the highest probability</h3>{why}"
        f"<ul class='mistakes'>{''.join(cards)}</ul>"
    )


def _images(
    predictions: Predictions,
    directory: RunDirectory,
    evaluated_on: str,
    location: LocationSettings,
    chosen: np.ndarray,
) -> np.ndarray:
    """Returns uint8 `[n, H, W, 3]`, the images of some indices."""
    test = evaluated_on == "test"
    dataset = directory.load_data(location, test=test)
    split = (dataset.load_test() if test else dataset.validation).take(chosen).in_memory()
    if not np.array_equal(split.labels, predictions.labels[chosen]):
        raise InputError(f"The labels of {dataset.name} are not those that retrain saw.")
    return split.images


def _picture(image: Any) -> str:
    """Returns an image as a data URI."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
