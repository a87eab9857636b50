"""Compiles a graph for a device that this machine does not need to have.

This file is also a program: `python compiled_graphs.py MODULE TOPOLOGY` prints one line of JSON.
MODULE is a serialized HloModuleProto. TOPOLOGY is "cpu" or that of a TPU, for example v5e:2x4.
`plan` starts the program as a separate process, because it needs JAX and libtpu, and these cannot
share a process with TensorFlow.
"""

import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import Any


def compile_elsewhere(module: bytes, topology: str, seconds: float) -> dict:
    """Compiles a module in a separate process and returns the compiler's counts.

    Args:
        module: A serialized HloModuleProto.
        topology: "cpu" or the topology of a TPU.
        seconds: The longest time to wait, in seconds.

    Returns:
        `hbm_bytes` and its `parts`, `flops`, `bytes_accessed` (by XLA's count, on-chip memory
        included), `memory_bytes` (`memory_traffic`; None for a CPU) and `seconds`. If it fails,
        only `error`.
    """
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",  # there is no TPU to query
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_STDERR_LOG_LEVEL": "3",
        "TPU_MIN_LOG_LEVEL": "3",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch) / "module.pb"
        path.write_bytes(module)
        command = [sys.executable, str(pathlib.Path(__file__).resolve()), str(path), topology]
        try:
            done = subprocess.run(
                command, env=environment, cwd=scratch, capture_output=True, text=True,
                timeout=seconds,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"error": f"the compiler ran longer than {seconds:.0f} s and was stopped"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        reason = done.stderr.strip().splitlines()[-1:] or ["it printed no reason"]
        return {"error": f"the compiler failed with exit code {done.returncode}: {reason[0]}"}
    return json.loads(lines[-1])


_WIDTHS = {
    "pred": 1,
    "bf16": 2,
    "f16": 2,
    **{f"{k}{8 * n}": n for k in "suf" for n in (1, 2, 4, 8)},
}
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?")
_INSTRUCTION = re.compile(
    r"^\s*(?:ROOT )?%([\w.-]+) = (\(.*?\)(?= [a-z])|\S+) ([a-z-]+)\((.*)$", re.MULTILINE
)
_FREE = (
    "parameter",
    "get-tuple-element",
    "tuple",
    "bitcast",
    "constant",
    "copy-done",
    "slice-done",
)


def memory_traffic(text: str) -> int:
    """Returns the bytes that a compiled module reads from and writes to a TPU's main memory.

    Arrays on the chip (memory spaces other than the first, for example `S(1)`) count only when they
    are copied in or out. XLA's own count of bytes includes all of them. The size of an array
    includes the padding of its tiles.

    Args:
        text: The optimized module, as XLA prints it. Only its entry computation counts.
    """
    types, total = {}, 0
    entry = text[text.rindex("\nENTRY ") :]
    for name, kind, operation, rest in _INSTRUCTION.findall(entry):
        types[name] = kind
        if operation in _FREE:
            continue
        operands = [
            array
            for operand in re.findall(r"%([\w.-]+)", rest.split("), ")[0])
            for array in _arrays(types.get(operand, ""))
        ]
        if operation in ("copy-start", "slice-start"):  # (target, source, …), ((source), target, …)
            size, written = _arrays(kind)[0 if operation == "copy-start" else 1]
            total += size * (written + operands[0][1])
        else:
            total += sum(size for size, outside in operands + _arrays(kind) if outside)
    return total


def _arrays(kind: str):
    """Returns for each array of a type its bytes, and whether it is in main memory."""
    found = []
    for element, axes, layout in _ARRAY.findall(kind):
        sizes = [int(size) for size in axes.split(",") if size]
        order = [int(axis) for axis in layout.split(":")[0].split(",") if axis]  # fastest first
        tile = re.search(r"T\(([\d,]+)\)", layout)
        if tile:
            for unit, axis in zip(reversed(tile[1].split(",")), order):
                sizes[axis] = -(-sizes[axis] // int(unit)) * int(unit)
        found.append((_WIDTHS.get(element, 0) * math.prod(sizes), "S(" not in layout))
    return found


def _devices(topology: str):
    import jax

    if topology == "cpu":
        return jax.devices("cpu")[:1]
    from jax.experimental import topologies

    return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices


def _compile(path: pathlib.Path, topology: str) -> dict:
    """Compiles a module for one device of the topology and returns the compiler's counts."""
    import time

    import numpy as np
    from jax._src.interpreters import mlir
    from jax._src.lib import _jax, xla_client
    from jax._src.lib.mlir import ir

    devices = _devices(topology)
    computation = getattr(_jax, "XlaComputation", None) or xla_client.XlaComputation
    text = _jax.mlir.xla_computation_to_mlir_module(computation(pathlib.Path(path).read_bytes()))
    options = xla_client.CompileOptions()
    options.num_replicas = options.num_partitions = 1
    options.device_assignment = xla_client.DeviceAssignment.create(
        np.array([[devices[0].id]], np.int32)
    )
    with mlir.make_ir_context():
        module = ir.Module.parse(text)
        copies = []

        def visit(operation: Any):
            if operation.name == "mhlo.copy":
                copies.append(operation)
            return ir.WalkResult.ADVANCE

        module.operation.walk(visit)
        for copy in copies:  # copies of variables' new values: StableHLO has no such operation
            copy.results[0].replace_all_uses_with(copy.operands[0])
            copy.erase()
        started = time.monotonic()
        client, device = devices[0].client, _jax.DeviceList(tuple(devices[:1]))
        # For a device of this machine, compiling without loading is not possible.
        make = client.compile_and_load if topology == "cpu" else client.compile
        compiled = make(module, device, options)
    memory, cost = compiled.get_compiled_memory_stats(), compiled.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    parts = {
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "code": memory.generated_code_size_in_bytes,
    }
    return {
        "parts": parts,
        "hbm_bytes": sum(parts.values()),
        "flops": cost.get("flops"),
        "bytes_accessed": cost.get("bytes accessed"),
        "memory_bytes": None if topology == "cpu" else memory_traffic(_text(compiled)),
        "seconds": round(time.monotonic() - started, 1),
    }


def _text(compiled: Any):
    """Returns the optimized module as text, with the memory spaces of its arrays."""
    return compiled.hlo_modules()[0].to_string()


if __name__ == "__main__":
    try:
        answer = _compile(pathlib.Path(sys.argv[1]), sys.argv[2])
    except Exception as error:  # any error is an answer
        answer = {"error": f"{type(error).__name__}: {str(error)[:3000]}"}
    print(json.dumps(answer), flush=True)
