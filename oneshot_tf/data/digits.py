"""The handwritten digits of scikit-learn, as they are and made harder. They need no download."""

import numpy as np

from oneshot_tf.data.dataset import Dataset, make_dataset, with_inventory
from oneshot_tf.data.images import resize
from oneshot_tf.data.in_memory import Split

NAMES = ("digits", "noisy_digits")
_SIDE = 12  # pixels of noisy digits
_COPIES = 3  # noisy digits made of each digit for training
_TURN, _SCALES, _SHIFT = 30.0, (0.8, 1.25), 2.0  # degrees, factors, pixels
_CONTRAST, _NOISE = 0.7, 0.08  # the least factor, and the standard deviation of white noise


def load(name: str, image_size: int | None, fit: str, num_validation: int) -> Dataset:
    """Loads the digits.

    Args:
        name: "digits": 1,797 images of 8x8 pixels, 1,497 to train and 300 to test. "noisy_digits":
            these digits, turned by up to 30 degrees, scaled, shifted, dimmed and with noise, on
            12x12 pixels. There are three of each of 1,197 digits to train, and one of each of 600
            others to test. They are the same at every call.
        image_size: Height and width to resize the images to. None or 0 keeps their size.
        fit: As in `load_data`.
        num_validation: Number of validation images.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(1).permutation(len(digits.images))
    split = _as_they_are if name == "digits" else _noisy
    full, test = (
        Split(resize(images, image_size or images.shape[1], fit).numpy(), labels)
        for images, labels in split(digits.images / 16.0, digits.target.astype(np.int32), order)
    )
    names = [str(digit) for digit in range(10)]
    found = make_dataset(name, full, lambda: test, names, num_validation, fit)
    return with_inventory(found, test.fingerprint, test)


def _as_they_are(images: np.ndarray, labels: np.ndarray, order: np.ndarray) -> list[tuple]:
    return [(_in_colour(images[part]), labels[part]) for part in (order[300:], order[:300])]


def _noisy(images: np.ndarray, labels: np.ndarray, order: np.ndarray) -> list[tuple]:
    parts = []
    for seed, (part, copies) in enumerate([(order[600:], _COPIES), (order[:600], 1)]):
        rng, part = np.random.default_rng(seed), np.repeat(part, copies)
        noisy = np.stack([_make_noisy(images[i], rng) for i in part])
        parts.append((_in_colour(noisy), labels[part]))
    return parts


def _make_noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns an image of 8x8 pixels from 0 to 1, moved onto 12x12 pixels, with noise."""
    from scipy import ndimage  # takes a while to import

    angle = np.deg2rad(rng.uniform(-_TURN, _TURN))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn / rng.uniform(*_SCALES)
    center = (_SIDE - 1) / 2 + rng.uniform(-_SHIFT, _SHIFT, 2)
    offset = (np.array(image.shape) - 1) / 2 - matrix @ center
    moved = ndimage.affine_transform(image, matrix, offset, (_SIDE, _SIDE), order=1)
    noise = rng.normal(0.0, _NOISE, moved.shape)
    return np.clip(moved * rng.uniform(_CONTRAST, 1.0) + noise, 0.0, 1.0)


def _in_colour(images: np.ndarray) -> np.ndarray:
    """Returns uint8 `[N, H, W, 3]` of `[N, H, W]` from 0 to 1."""
    return np.repeat(np.round(images * 255.0).astype(np.uint8)[..., None], 3, axis=-1)
