"""Runs of auto that take a few steps."""

from unittest import mock

from oneshot_tf import auto, settings
from oneshot_tf.planning import budgets
from oneshot_tf.planning.asked import AutoSettings
from oneshot_tf.planning.plan import Plan
from oneshot_tf.settings import LimitSettings, ModelSettings

TINY = budgets.Passes(0.3, 6, 0.3, 0.6, 1, 2, 2)
NETS = ["searched_1", "random_1", "random_2", "plain_cnn", "mobile_net",
        "plain_cnn_mirrored"]  # fmt: skip


def start(out="run", limits=None, data="digits", passes=TINY, sharing=None, **values):
    """Runs auto with a budget of a few steps."""
    asked = AutoSettings(
        **{"data": str(data), "out": str(out), "budget": "quick", "format": "saved_model", **values}
    )
    small = property(lambda plan: ModelSettings(num_blocks=1, num_cells=2, filters=2))
    with mock.patch.dict(budgets.NAMED, quick=passes), mock.patch.object(Plan, "model", small):
        auto.main(
            asked, settings.LocationSettings(), limits or LimitSettings(),
            settings.DistributionSettings(), sharing,
        )  # fmt: skip
