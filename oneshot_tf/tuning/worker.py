"""Finds the role of this process if several tune together, from KerasTuner's variables."""

import os
import re
import socket

from oneshot_tf.system.errors import InputError

VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")


def tuner_worker() -> str:
    """Returns KerasTuner's name for this process; empty if it tunes alone.

    Raises:
        InputError: Some of KerasTuner's variables are missing, or the port is not free.
    """
    values = {name: os.environ.get(name, "") for name in VARIABLES}
    given = [name for name in VARIABLES if values[name]]
    if not given:
        return ""
    if len(given) < len(VARIABLES):
        raise InputError(
            f"{' and '.join(given)} must not be set without "
            f"{' and '.join(name for name in VARIABLES if name not in given)}. Set all three to "
            "tune with several processes, or none to tune with one."
        )
    worker, address, port = values.values()
    if not re.fullmatch(r"\d{1,5}", port) or not 0 < int(port) < 2**16:
        raise InputError(f"KERASTUNER_ORACLE_PORT must be a number from 1 to 65535; got {port}.")
    if "chief" in worker:
        try:
            with socket.create_server((address, int(port))):
                pass
        except OSError as error:
            raise InputError(
                f"The chief cannot listen at KERASTUNER_ORACLE_IP={address}, "
                f"KERASTUNER_ORACLE_PORT={port} ({error.strerror or error})."
            ) from None
    else:
        print(f"Worker {worker} asks the chief at {address}:{port} for trials ...", flush=True)
    return worker
