"""Packaging of oneshot_tf. TensorFlow comes with one of the extras: cpu, gpu or tpu."""

import pathlib
import re

from setuptools import find_packages, setup

# All kinds of TensorFlow provide the same module under different names, so that a hard
# requirement on one would be installed over another.
TENSORFLOW = {
    "cpu": ["tensorflow-cpu>=2.20,<2.22; sys_platform != 'darwin'",
            "tensorflow>=2.20,<2.22; sys_platform == 'darwin'"],
    "gpu": ["tensorflow[and-cuda]>=2.20,<2.22"],
    # Newer libtpu lacks what tensorflow-tpu 2.20 calls when it is imported.
    "tpu": ["tensorflow-tpu==2.20.0", "libtpu>=0.0.14,<0.0.30"],
}  # fmt: skip

# The formats of `export` that need more than TensorFlow, which has the converter for its Lite.
EXPORT = {
    "onnx": ["tf2onnx>=1.17", "onnxruntime>=1.23"],
    "lite": ["ai-edge-litert>=2.3"],
    "openvino": ["openvino>=2025.4"],
}

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "oneshot_tf" / "__init__.py").read_text())[1]

setup(
    name="oneshot_tf",
    version=VERSION,
    description="One-shot neural architecture search in TensorFlow and Keras 3",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=[*find_packages(include=["oneshot_tf", "oneshot_tf.*"]), "oneshot_tf.flags"],
    package_dir={"oneshot_tf.flags": "flags"},
    package_data={"oneshot_tf": ["py.typed"], "oneshot_tf.flags": ["*.flags"]},
    install_requires=[
        "absl-py>=2.1",
        # Without this, older pips search for minutes: later ones need a dependency that 3.10 lacks.
        "etils<1.14; python_version < '3.11'",
        "grpcio>=1.60",  # by which keras-tuner's processes speak; its errors are caught
        "importlib_resources>=5",  # tensorflow-datasets imports it without declaring it
        "keras>=3.10,<4",
        "keras-tuner>=1.4.7,<2",
        "matplotlib>=3.8",
        "numpy>=1.26,<3",
        "pillow>=10.1",  # decodes BMP, GIF, WebP and TIFF
        "psutil>=5.9",
        "requests>=2.28",
        "scikit-learn>=1.4",
        "scipy>=1.15",
        "tensorboard>=2.18,<3",  # without it TensorFlow writes no summaries
        "tensorflow-datasets>=4.9.7,<5",
    ],
    extras_require={
        **TENSORFLOW,
        **EXPORT,
        "export": EXPORT["onnx"] + EXPORT["lite"],
        # The TPU's compiler, for a machine without TPU.
        "plan": ["jax>=0.7; python_version >= '3.11'", "libtpu>=0.0.23; sys_platform == 'linux'"],
        "test": [
            *EXPORT["onnx"],
            *EXPORT["lite"],
            "hypothesis>=6.100",
            "mkdocs-material>=9.5",
            "mkdocstrings-python>=1.10",
            "mypy>=1.10",
            "pytest>=8",
            "pytest-xdist>=3.7",
            "ruff>=0.9",
            "types-psutil>=5.9",
            "types-requests>=2.31",
        ],
    },
)
