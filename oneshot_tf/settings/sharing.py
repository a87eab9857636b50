"""Settings of work that copies of a program share."""

import dataclasses

from oneshot_tf.settings.setting import Settings, setting
from oneshot_tf.system.claims import MOST_SECONDS
from oneshot_tf.system.errors import InputError


@dataclasses.dataclass(frozen=True)
class SharingSettings(Settings):
    """Shared work."""

    share_work: bool = setting(
        False,
        "Share the work with other copies of this command, on this machine or on others that see "
        "the same --run_dir. Copies may start and end at any time. The results are those of one "
        "process.",
        affects_results=False,
        common=True,
    )
    claim_seconds: float = setting(
        60.0,
        "With --share_work: other copies take over the work of this copy if it gives no sign of "
        "life for this time, in seconds.",
        least=2.0,
        most=MOST_SECONDS,
        affects_results=False,
    )

    def check_distribution(self, distribution: str) -> None:
        """Raises InputError if devices of several machines already do each piece of work.

        Args:
            distribution: The value of --distribution.
        """
        if self.share_work and distribution in ("multi_worker", "tpu"):
            raise InputError(
                f"--share_work needs --distribution=auto, cpu or mirrored, because each copy works "
                f"alone; got --distribution={distribution}. Leave out one of the two flags."
            )
