"""Which part this process has, where several tune together by KerasTuner's variables."""

import os
import re
import socket

from oneshot_tf.system.errors import InputError

VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")


def tuner_worker() -> str:
    """What KerasTuner calls this process; empty if it works alone.

    Raises:
        InputError: KerasTuner's variables do not go together, or the port is not free.
    """
    values = {name: os.environ.get(name, "") for name in VARIABLES}
    given = [name for name in VARIABLES if values[name]]
    if not given:
        return ""
    if len(given) < len(VARIABLES):
        raise InputError(
            f"{' and '.join(given)} set without "
            f"{' and '.join(name for name in VARIABLES if name not in given)}; for several "
            "processes set all three, for one none."
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
                f"KERASTUNER_ORACLE_IP={address}, KERASTUNER_ORACLE_PORT={port}: the chief cannot "
                f"listen there ({error.strerror or error})."
            ) from None
    else:
        print(f"Worker {worker} asks the chief at {address}:{port} for trials ...", flush=True)
    return worker
