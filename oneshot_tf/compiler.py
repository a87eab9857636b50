"""Compiles a graph for a device that this machine needn't have; a program of its own.

python compiler.py MODULE TOPOLOGY: MODULE is a serialized HloModuleProto, TOPOLOGY "cpu" or a
TPU's, such as v5e:2x4. Prints one line of JSON. It is started by `plan`, as a process of its
own: it needs JAX and libtpu, which can't be in a process that has TensorFlow.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile


def compile_elsewhere(module: bytes, topology: str, seconds: float) -> dict:
    """What the compiler says of a module, in a process of its own.

    Args:
        module: a serialized HloModuleProto.
        topology: "cpu" or a TPU's.
        seconds: to wait at most.

    Returns:
        hbm_bytes and its parts, flops, bytes_accessed, seconds; or error.
    """
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",  # there is no TPU to ask about
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
            return {"error": f"the compiler was stopped after {seconds:.0f} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        reason = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return {"error": f"the compiler ended with code {done.returncode}: {reason[0]}"}
    return json.loads(lines[-1])


def _devices(topology):
    import jax

    if topology == "cpu":
        return jax.devices("cpu")[:1]
    from jax.experimental import topologies

    return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices


def _compile(path, topology) -> dict:
    """Compiles for one device of the topology."""
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

        def visit(operation):
            if operation.name == "mhlo.copy":
                copies.append(operation)
            return ir.WalkResult.ADVANCE

        module.operation.walk(visit)
        for copy in copies:  # of a variable's new value: it has no form in StableHLO
            copy.results[0].replace_all_uses_with(copy.operands[0])
            copy.erase()
        started = time.monotonic()
        client, device = devices[0].client, _jax.DeviceList(tuple(devices[:1]))
        # A device that is here can only be compiled for together with loading.
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
        "seconds": round(time.monotonic() - started, 1),
    }


if __name__ == "__main__":
    try:
        answer = _compile(*sys.argv[1:])
    except Exception as error:  # whatever it is, it is the answer
        answer = {"error": f"{type(error).__name__}: {str(error)[:3000]}"}
    print(json.dumps(answer), flush=True)
