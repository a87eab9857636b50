"""The requests with which TensorFlow Serving warms up an export are those that it can read."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import oneshot_tf as ost
from oneshot_tf.serving.folder import check_target
from oneshot_tf.serving.graph import check_graph
from oneshot_tf.serving.warmup import FILE, FOLDER, request

ARRAY = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
GIVEN = [("serving_default", "images", ARRAY), ("bytes", "encoded", [b"\xff\xd8jpeg"])]
# The same messages, made with tensorflow-serving-api 2.21.0: a prediction_log_pb2.PredictionLog
# with predict_log.request.model_spec.signature_name, and in predict_log.request.inputs[name] the
# tf.make_tensor_proto of the array (of np.array(..., object) for bytes). Then
# SerializeToString(deterministic=True).hex().
FROZEN = [
    "32430a410a111a0f73657276696e675f64656661756c74122c0a06696d616765731222080412101202080112020802"
    "1202080212020803220c000102030405060708090a0b",
    "32280a260a071a056279746573121b0a07656e636f646564121008071204120208014206ffd86a706567",
]


@pytest.mark.parametrize("given, frozen", zip(GIVEN, FROZEN), ids=["array", "file"])
def test_a_request_is_the_message_of_the_api_package(given, frozen):
    assert request(*given).hex() == frozen


@pytest.mark.parametrize("given", GIVEN, ids=["array", "file"])
def test_the_installed_api_package_reads_the_same_message(given):
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    signature, name, value = given
    right = logs.PredictionLog()
    right.predict_log.request.model_spec.signature_name = signature
    right.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    assert logs.PredictionLog.FromString(request(*given)) == right


def reader():
    """A class that reads the fields that TensorFlow Serving needs, from a description of them."""
    file = descriptor_pb2.FileDescriptorProto(
        name="warmup.proto", package="t", syntax="proto3",
        dependency=["tensorflow/core/framework/tensor.proto"],
    )  # fmt: skip
    fields = {
        "ModelSpec": [("signature_name", 3, None)],
        "Entry": [("key", 1, None), ("value", 2, ".tensorflow.TensorProto")],
        "PredictRequest": [("model_spec", 1, ".t.ModelSpec"), ("inputs", 2, ".t.Entry")],
        "PredictLog": [("request", 1, ".t.PredictRequest")],
        "PredictionLog": [("predict_log", 6, ".t.PredictLog")],
    }
    for name, members in fields.items():
        message = file.message_type.add(name=name)
        for member, number, kind in members:
            field = message.field.add(name=member, number=number, label=1, type=9)
            if kind is not None:
                field.type, field.type_name = 11, kind
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.PredictionLog"))


@pytest.fixture(scope="module")
def exported(digits, tmp_path_factory):
    cell = ost.Architecture.from_text("prev1:sep3x3")
    net = ost.Standalone(ost.bender2018(num_blocks=1), cell, ost.Stack(1, 4))
    folder = tmp_path_factory.mktemp("warm") / "export"
    return ost.write_saved_model(net, digits, folder, input_size=(9, 20))


def test_the_signatures_answer_every_request(exported):
    """Reading checks the checksums of the records."""
    signatures, kind = tf.saved_model.load(str(exported)).signatures, reader()
    found = []
    for record in tf.data.TFRecordDataset(str(exported / FOLDER / FILE)).as_numpy_iterator():
        message = kind.FromString(record)
        message.DiscardUnknownFields()
        assert message.SerializeToString() == record  # no other field
        call = message.predict_log.request
        signature = call.model_spec.signature_name
        value = tf.constant(tf.make_ndarray(call.inputs.value))
        answer = signatures[signature](**{call.inputs.key: value})
        assert len(answer["probabilities"]) == len(value)
        found.append((signature, call.inputs.key, value.shape.as_list()))
    assert found == [
        ("serving_default", "images", [1, 8, 8, 3]),
        ("serving_default", "images", [32, 8, 8, 3]),
        ("bytes", "encoded", [1]),
        ("fixed", "images", [1, 9, 20, 3]),
    ]


def test_a_damaged_record_is_noticed(exported, tmp_path):
    """So the test above would notice a wrong checksum."""
    content = bytearray((exported / FOLDER / FILE).read_bytes())
    content[20] ^= 1
    (tmp_path / "records").write_bytes(content)
    with pytest.raises(tf.errors.DataLossError):
        list(tf.data.TFRecordDataset(str(tmp_path / "records")))


def test_large_images_make_a_smaller_batch(tmp_path):
    from oneshot_tf.serving.warmup import write_warmup

    write_warmup(tmp_path, 1024, None)
    records = list(tf.data.TFRecordDataset(str(tmp_path / FOLDER / FILE)).as_numpy_iterator())
    assert [len(record) // (3 * 1024**2) for record in records] == [1, 5, 0, 1]


def test_an_export_with_requests_is_let_through_and_replaced(exported):
    check_graph(exported)
    assert check_target(exported) == exported
    (exported / FOLDER / "mine").write_text("")
    with pytest.raises(ost.InputError, match="holds 'assets.extra/mine', which no export writes"):
        check_target(exported)
    (exported / FOLDER / "mine").unlink()
