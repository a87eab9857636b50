"""Planning: which graphs are compiled, and the arithmetic on what comes back."""

import importlib.util
import subprocess
import sys

import pytest

import oneshot_tf as ost
from oneshot_tf import plan, settings
from oneshot_tf.cost import compiled_graphs as compiler_program
from oneshot_tf.devices.accelerators import accelerators, assumed
from oneshot_tf.strategies import PathDropoutSettings

GIB = 2**30


def groups(topology="v5e:2x2", **changes):
    kinds = {"data": {"dataset": "digits"},
             "model": {"num_cells": 1, "filters": 4, "num_blocks": 1},
             "train": {"batch_size": 128, "ghost_batch_size": 16, "augmentation": "crop"},
             "one_shot": {}, "strategy": {}, "device": {}}  # fmt: skip
    classes = (settings.DataSettings, settings.ModelSettings, settings.TrainSettings,
               settings.OneShotSettings, PathDropoutSettings, settings.DeviceSettings)  # fmt: skip
    made = [kind(**{**kinds[n], **changes.get(n, {})}) for n, kind in zip(kinds, classes)]
    return [plan.PlanSettings(topology=topology), *made]


@pytest.fixture
def compiler(monkeypatch):
    """Answers in the compiler's place: 3 GiB for each 16 images of a step, 1 for an evaluation."""
    modules = []

    def answer(module, topology, seconds):
        modules.append((module, topology))
        return {
            "hbm_bytes": answer.sizes.pop(0) * GIB,
            "parts": {"temporaries": GIB},
            "flops": 197e9,
            "bytes_accessed": 50e9,  # mostly on the chip
            "memory_bytes": 8.19e9,
            "seconds": 1.0,
        }

    monkeypatch.setattr(plan, "compile_elsewhere", answer)
    monkeypatch.setattr(plan.importlib.util, "find_spec", lambda name: name)
    answer.sizes, answer.modules = [3, 1], modules
    return answer


def test_a_floor_follows_from_what_the_compiler_says(compiler, capsys):
    plan.main(*groups())
    out = capsys.readouterr().out
    # 8.19 GB at 819 GB/s: 10 ms; the arithmetic would take 1 ms. 32 images each.
    assert "v5e:2x2: 4 device(s), 32 images per device and step." in out
    assert "at least 10.0 ms per step, so at most 3,200 images/s per device" in out
    assert "50.00 GB read and written, 8.19 GB in main memory" in out
    assert "fits: 3,072 of 16,384 MiB" in out
    # What was handed over is a module of XLA's, and not that of a CPU.
    assert all(len(module) > 10_000 and name == "v5e:2x2" for module, name in compiler.modules)


def test_the_largest_batch_that_fits_is_found(compiler, capsys):
    compiler.sizes = [17, 9, 1]
    plan.main(*groups())
    out = capsys.readouterr().out
    assert "does not fit: 17,408 of 16,384 MiB" in out
    assert "2 micro-batch(es) of 16 images" in out and "at least 20.0 ms" in out
    assert len(compiler.modules) == 3


def test_what_the_compiler_refuses_for_size_is_tried_smaller(compiler, monkeypatch, capsys):
    """And another of its errors is printed, on one line, and not tried again."""
    errors = [
        "JaxRuntimeError: RESOURCE_EXHAUSTED: E1000: Ran out of memory (56.19G) exceeds available",
        "JaxRuntimeError: RESOURCE_EXHAUSTED: E1001:\nScoped allocation",
        "JaxRuntimeError: INTERNAL: no such thing\nas that",
    ]
    answers = [{"error": error} for error in errors] + [compiler(b"", "", 0)]
    monkeypatch.setattr(plan, "compile_elsewhere", lambda *_: answers.pop(0))
    plan.main(*groups("v5e:1x1", train={"batch_size": 128, "device_batch_size": 128}))
    out = capsys.readouterr().out
    assert "1 micro-batch(es) of 128 images:\n    does not fit: JaxRuntimeError" in out
    assert "2 micro-batch(es) of 64 images:\n    does not fit" in out
    assert "4 micro-batch(es) of 32 images:\n    does not compile" in out and "thing as that" in out
    assert not answers


def test_several_machines_share_graphs_and_a_table(compiler, capsys):
    """48 images a device in ghost batches of 16: after 48 come 16, as 32 does not divide them."""
    compiler.sizes = [17, 1, 1, 17, 17, 1]
    plan.main(*groups("v5e:2x2,v3:1x2", train={"batch_size": 192}))
    out = capsys.readouterr().out
    table = [line.split() for line in out[out.index("topology") :].splitlines()[1:]]
    assert [(line[0], line[-5], line[-4], line[-1]) for line in table] == [
        ("v5e:2x2", "48", "17,408", "10.0"),
        ("v5e:2x2", "16", "1,024", "30.0"),  # three micro-batches
        ("v5e:2x2", "16", "1,024", "10.0"),  # an evaluation
        ("v3:1x2", "48", "17,408", "18.2"),
        ("v3:1x2", "16", "17,408", "54.6"),
        ("v3:1x2", "16", "1,024", "18.2"),
    ]
    steps = [module for module, _ in compiler.modules]
    assert steps[0] is steps[3] and steps[1] is steps[4] and steps[2] is steps[5]


def test_for_a_gpu_there_is_memory_and_no_floor(compiler, monkeypatch, capsys):
    """What comes back then is XLA's count for a CPU."""
    answer = {**compiler(b"", "cpu", 0), "memory_bytes": None}
    monkeypatch.setattr(plan, "compile_elsewhere", lambda *_: answer)
    plan.main(*groups("gpu:h200x4"))
    out = capsys.readouterr().out
    assert "gpu:h200x4: 4 device(s), 32 images per device and step." in out
    assert "fits: 3,072 of 134,468 MiB" in out and "at least 1" not in out


@pytest.mark.parametrize(
    "topology, changes, part",
    [
        ("v9:2x2", {}, "must be a TPU with its chips"),
        ("v5e", {}, "must be a TPU with its chips"),
        ("v5e:0x4", {}, "must be a TPU with its chips"),
        ("gpu:v5e", {}, "must be a TPU with its chips"),
        ("v5e:3x1", {}, "multiple of 48 for the 3 devices"),
        ("cpu", {"data": {"dataset": "folder:x"}}, "--num_classes"),
    ],
)
def test_mistakes(compiler, topology, changes, part):
    with pytest.raises(ost.InputError, match=part):
        plan.main(*groups(topology, **changes))


def test_without_the_compiler(monkeypatch):
    monkeypatch.setattr(plan.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ost.InputError, match=r"oneshot_tf\[plan\]"):
        plan.main(*groups())


def test_assumptions_end():
    before = accelerators()
    with assumed({"TPU"}):
        assert accelerators() == {"TPU"}
    assert accelerators() == before


def test_traffic_counts_what_leaves_and_enters_the_chip():
    """By hand, on lines as the TPU's compiler prints them; S(1) is the memory on the chip."""
    text = """HloModule m
%fused (p: f32[4]) -> f32[4] {
  ROOT %inside = f32[1000,128]{1,0:T(8,128)} add(%a, %b)
}

ENTRY %main (a: f32[60,130], b: bf16[8,128]) -> f32[60,130] {
  %a = f32[60,130]{1,0:T(8,128)} parameter(0)
  %b = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(1)
  %copy-start = (f32[60,130]{1,0:T(8,128)S(1)}, f32[60,130]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%a), cross_program_prefetch_index=0
  %copy-done = f32[60,130]{1,0:T(8,128)S(1)} copy-done(%copy-start)
  %slice-start = ((f32[60,130]{1,0:T(8,128)}), f32[8,130]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%a), slice={[0:8], [0:130]}
  %slice-done = f32[8,130]{1,0:T(8,128)S(1)} slice-done(%slice-start)
  %on_chip = f32[60,130]{1,0:T(8,128)S(1)} fusion(%copy-done, %slice-done), kind=kLoop, calls=%fused
  ROOT %sum = f32[60,130]{1,0:T(8,128)} fusion(%on_chip, /*index=1*/%b), kind=kLoop, calls=%fused
}
"""  # noqa: E501
    whole, part, b = 64 * 256 * 4, 8 * 256 * 4, 8 * 128 * 2  # in tiles of 8 x 128
    assert compiler_program.memory_traffic(text) == whole + part + (b + whole)


@pytest.mark.slow
@pytest.mark.skipif(
    not (importlib.util.find_spec("jax") and importlib.util.find_spec("libtpu")),
    reason="needs the extra 'plan'",
)
def test_the_real_compiler():
    flags = ["--flagfile=quickstart.flags", "--num_cells=1", "--topology=v5e:1x1,cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "oneshot_tf.plan", *flags], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("    fits:") == 4
