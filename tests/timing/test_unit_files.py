"""Units as files of a format: they compute the units, and their runtime times them."""

import numpy as np
import pytest
from candidate_runs import begin

import oneshot_tf as ost
from oneshot_tf.serving.formats import FORMATS
from oneshot_tf.serving.runtimes import RUNTIMES
from oneshot_tf.settings import LimitSettings
from oneshot_tf.timing import measuring
from oneshot_tf.timing.tables import Place
from oneshot_tf.timing.unit_files import write_units
from oneshot_tf.timing.units import units_of

SPACE = ost.bender2018(num_blocks=1)


@pytest.mark.slow
def test_a_file_adds_the_outputs_of_the_copies(tmp_path):
    net = ost.Standalone(SPACE, SPACE.all_on(), ost.Stack(1, 4), 10, seed=0)
    kinds = ("input", "sep3x3", "max3x3", "stem", "classifier")
    units = [unit for unit in units_of(net, 8) if unit.name.split()[0] in kinds]
    files = write_units(units, "tflite", 3, tmp_path)
    assert [file.name for file in files] == [unit.name for unit in units]
    rng = np.random.default_rng(0)
    for unit, file in zip(units, files):
        x = rng.normal(size=[2, *unit.shape[:2], 3 * unit.shape[2]]).astype(np.float32)
        parts = [unit.function(part).numpy() for part in np.split(x, 3, axis=-1)]
        one, three = (RUNTIMES[file.runtime](path, 1)[0] for path in file.paths)
        np.testing.assert_allclose(one(x[..., : unit.shape[2]]), parts[0], atol=1e-5)
        np.testing.assert_allclose(three(x), sum(parts), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tflite", "tflite_fp16", "tflite_int8", "onnx", "openvino"])
def test_units_are_timed_in_their_runtime(tmp_path, monkeypatch, name):
    for module in FORMATS[name].needs:
        pytest.importorskip(module)
    monkeypatch.setattr(measuring, "_OF_LATENCY", (4, 2))
    tiny = begin(tmp_path / "run", SPACE)
    place = Place(tiny, tiny.stack(), LimitSettings(latency_of=name, latency_batch=2))
    table = measuring.Workshop(place).table()
    units = table["unit_milliseconds"]
    assert len(table["nets"]) == 6 and min(units.values()) >= 0
    assert units["sep7x7 8x8x4"] > units["identity 8x8x4"]
    assert place.estimate(table).worst_error < 1.0
