"""What was asked for? Settings as frozen dataclasses, each defined once."""

from oneshot_tf.settings.final import FinalSettings
from oneshot_tf.settings.groups import (
    DataSettings,
    DeviceSettings,
    DistributionSettings,
    LocationSettings,
    OneShotSettings,
    RunSettings,
    TrainSettings,
)
from oneshot_tf.settings.limits import LimitSettings
from oneshot_tf.settings.model import ModelSettings
from oneshot_tf.settings.retrain import RetrainSettings
from oneshot_tf.settings.setting import Settings, StrategySettings, setting
from oneshot_tf.settings.sharing import SharingSettings

__all__ = [
    "DataSettings",
    "DeviceSettings",
    "DistributionSettings",
    "FinalSettings",
    "LimitSettings",
    "LocationSettings",
    "ModelSettings",
    "OneShotSettings",
    "RetrainSettings",
    "RunSettings",
    "Settings",
    "SharingSettings",
    "StrategySettings",
    "TrainSettings",
    "setting",
]
