"""What TensorBoard's tab HParams finds: retrained nets with settings and scores."""

import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from oneshot_tf.learning.summaries import Summaries, note_hparams
from oneshot_tf.settings import FinalSettings, RetrainSettings, TrainSettings


def read(folder):
    """The settings of a run, and its scores by tag."""
    events = EventAccumulator(str(folder), {"tensors": 0}).Reload()
    content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(content)
    values = {name: getattr(v, v.WhichOneof("kind")) for name, v in start.hparams.items()}
    tags = [tag for tag in events.Tags()["tensors"] if not tag.startswith("_hparams_")]
    scores = {tag: float(tf.make_ndarray(events.Tensors(tag)[-1].tensor_proto)) for tag in tags}
    return values, scores


def test_settings_and_scores_are_read_as_written(tmp_path):
    given = {"drop_rate": 0.25, "drop_schedule": "linear", "parts": 27, "flag": True}
    Summaries(tmp_path / "tensorboard").hparams(5, given, {"score": 0.5})
    assert read(tmp_path / "tensorboard") == (given, {"score": 0.5})


def test_every_training_of_a_net_is_a_run_and_a_candidate_is_none(tmp_path):
    nets = [
        {"architecture": "prev1:max3x3", "parameters": 100, "multiply_adds": 2000,
         "candidate_accuracy": 0.5, "folder": ["top/net_00/run_0", "top/net_00/run_1"],
         "accuracies": [0.75, 0.875]},
        {"architecture": "plain_cnn:4", "parameters": 90, "multiply_adds": 1000,
         "candidate_accuracy": None, "folder": ["top/net_01/run_0"], "accuracies": [0.25]},
    ]  # fmt: skip
    result = {
        "retrain": RetrainSettings(filters=8, num_cells=2).to_dict(),
        "train": TrainSettings(learning_rate=0.5).to_dict(), "final": FinalSettings().to_dict(),
        "nets": nets, "num_steps": 7, "evaluated_on": "test",
    }  # fmt: skip
    note_hparams(tmp_path / "retrain" / "top", result)
    found = sorted(p.parent.relative_to(tmp_path / "retrain") for p in tmp_path.rglob("events*"))
    runs = [place for net in nets for place in net["folder"]]
    assert [str(path) for path in found] == [f"{place}/tensorboard" for place in runs]
    values, scores = read(tmp_path / "retrain" / runs[1] / "tensorboard")
    assert scores == {"stand_alone_accuracy": 0.875, "candidate_accuracy": 0.5}
    known = {"architecture": "prev1:max3x3", "parameters": 100, "filters": 8, "num_cells": 2,
             "epochs": 300.0, "learning_rate": 0.5, "images": "test"}  # fmt: skip
    assert values.items() >= known.items()
    values, scores = read(tmp_path / "retrain" / runs[2] / "tensorboard")
    assert values["architecture"] == "plain_cnn:4" and scores == {"stand_alone_accuracy": 0.25}


def test_decisions_are_scalars_a_text_and_histograms(tmp_path):
    line = {
        "architecture": "prev1:max3x3", "entropy": 0.25, "parameters": 1234,
        "probabilities": {"inputs of block 0": [0.5, 0.25, 0.25]},
    }  # fmt: skip
    Summaries(tmp_path / "tensorboard").decisions(7, line)
    events = EventAccumulator(str(tmp_path / "tensorboard"), {"tensors": 0}).Reload()
    found = {tag: events.Tensors(tag)[0] for tag in events.Tags()["tensors"]}
    assert {each.step for each in found.values()} == {7}
    values = {tag: tf.make_ndarray(each.tensor_proto) for tag, each in found.items()}
    assert values["learnt/entropy"] == 0.25 and values["learnt/parameters"] == 1234
    assert values["learnt/architecture"] == b"prev1:max3x3"
    buckets = values["probabilities/inputs of block 0"]  # left end, right end, count
    assert buckets[:, 2].sum() == 3 and buckets[0, 0] == 0.25 and buckets[-1, 1] == 0.5
