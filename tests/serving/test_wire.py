"""The wire messages against the official ones."""

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pool
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2, prediction_log_pb2, status_pb2)

from keras_cnns import wire

OFFICIAL = {
    "TensorShapeProto": tensor_shape_pb2.TensorShapeProto, "Dim": tensor_shape_pb2.TensorShapeProto.Dim,
    "TensorProto": tensor_pb2.TensorProto, "TensorInfo": meta_graph_pb2.TensorInfo,
    "SignatureDef": meta_graph_pb2.SignatureDef, "ModelSpec": model_pb2.ModelSpec,
    "PredictRequest": predict_pb2.PredictRequest, "PredictResponse": predict_pb2.PredictResponse,
    "GetModelMetadataRequest": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelMetadataResponse": get_model_metadata_pb2.GetModelMetadataResponse,
    "SignatureDefMap": get_model_metadata_pb2.SignatureDefMap,
    "GetModelStatusRequest": get_model_status_pb2.GetModelStatusRequest,
    "GetModelStatusResponse": get_model_status_pb2.GetModelStatusResponse,
    "ModelVersionStatus": get_model_status_pb2.ModelVersionStatus, "StatusProto": status_pb2.StatusProto,
    "PredictLog": prediction_log_pb2.PredictLog, "PredictionLog": prediction_log_pb2.PredictionLog,
}
ARRAYS = {
    **{name: np.array([[0, 1, 2], [3, 100, 127]], name) for name in (
        "float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
        "uint64")},
    "bool": np.array([[True, False], [False, False]]),
    "bfloat16": np.array([[1.5, -2.0]], ml_dtypes.bfloat16),
    "string": np.array([b"a", b"ends in zero\0", b""], object),
}


def both_ways(ours, theirs):
    """`ours` parses what `theirs` writes and writes the same bytes, and the other way round."""
    data = theirs.SerializeToString(deterministic=True)
    assert type(ours).FromString(data).SerializeToString(deterministic=True) == data
    data = ours.SerializeToString(deterministic=True)
    assert type(theirs).FromString(data).SerializeToString(deterministic=True) == data


@pytest.mark.parametrize("name", sorted(OFFICIAL))
def test_every_field_has_the_official_number_type_and_label(name):
    def facts(field):
        kind = field.type if field.enum_type is None else field.TYPE_INT32  # the same on the wire
        message = field.message_type and field.message_type.name
        oneof = field.containing_oneof and field.containing_oneof.name
        in_map = message and field.message_type.GetOptions().map_entry and [
            facts(part) for part in field.message_type.fields]
        return field.number, kind, field.is_repeated, message, oneof, in_map

    theirs = OFFICIAL[name].DESCRIPTOR.fields_by_name
    ours = wire._CLASSES[name].DESCRIPTOR
    if name not in ("Dim", "TensorShapeProto"):  # those two only lose the nesting
        assert ours.full_name == OFFICIAL[name].DESCRIPTOR.full_name
    for field in ours.fields:
        assert facts(field) == facts(theirs[field.name]), field.name


def test_every_message_is_compared_with_its_official_twin():
    assert set(wire._CLASSES) == set(OFFICIAL)


def test_data_types_and_states_have_the_official_numbers():
    for number, (name, _, _) in wire.DTYPES.items():
        assert tf.as_dtype(number).name == name
    states = get_model_status_pb2.ModelVersionStatus.State
    assert wire.STATES == {number: name for name, number in states.items()}


def test_the_messages_stay_out_of_the_shared_pool():
    assert wire.TensorProto.DESCRIPTOR.file.pool is not descriptor_pool.Default()
    assert tensor_pb2.TensorProto.DESCRIPTOR.file.pool is descriptor_pool.Default()


@pytest.mark.parametrize("name", ARRAYS)
def test_a_tensor_goes_there_and_back_unchanged(name):
    array = ARRAYS[name]
    tensor = wire.to_tensor(array)
    official = tensor_pb2.TensorProto.FromString(tensor.SerializeToString())
    assert tf.as_dtype(official.dtype).name == name
    np.testing.assert_array_equal(tf.make_ndarray(official), array)
    both_ways(tensor, tf.make_tensor_proto(array))
    back = wire.to_array(tensor)
    np.testing.assert_array_equal(back, array)
    assert back.dtype == ("float32" if name == "bfloat16" else array.dtype)
    assert back.flags.writeable


@pytest.mark.parametrize("name", ARRAYS)
def test_typed_fields_are_read_and_the_last_value_is_repeated(name):
    values = ARRAYS[name].reshape(-1)
    number = tf.as_dtype("string" if name == "string" else name).as_datatype_enum
    official = tensor_pb2.TensorProto(dtype=number)
    official.tensor_shape.dim.add(size=len(values) + 2)
    field = getattr(official, wire.DTYPES[number][2])
    field.extend((values.view("uint16") if name in ("float16", "bfloat16") else values).tolist())
    expected = np.array([*values, values[-1], values[-1]], values.dtype)
    ours = wire.TensorProto.FromString(official.SerializeToString())
    np.testing.assert_array_equal(wire.to_array(ours), expected)
    np.testing.assert_array_equal(tf.make_ndarray(official), expected)
    both_ways(ours, official)


def test_no_values_at_all_are_zeros():
    for number, zero in ((1, 0.0), (7, b"")):
        tensor = wire.TensorProto(dtype=number)
        assert wire.to_array(tensor) == zero  # a scalar
        tensor.tensor_shape.dim.add(size=2)
        assert wire.to_array(tensor).tolist() == [zero, zero]
        tensor.tensor_shape.dim.add(size=0)
        assert wire.to_array(tensor).shape == (2, 0)


def test_numbers_travel_as_content_and_bytes_as_strings():
    tensor = wire.to_tensor(np.ones((2, 2), "float32"))
    assert len(tensor.tensor_content) == 16 and not tensor.float_val
    tensor = wire.to_tensor([b"x", b"longer\0"])
    assert list(tensor.string_val) == [b"x", b"longer\0"] and tensor.tensor_shape.dim[0].size == 2
    assert wire.to_array(wire.to_tensor(b"alone\0")).item() == b"alone\0"


def test_byte_order_and_strides_do_not_matter():
    array = np.arange(6, dtype=">f4").reshape(2, 3).T
    np.testing.assert_array_equal(wire.to_array(wire.to_tensor(array)), array)


@pytest.mark.parametrize("value", [np.ones(2, "complex64"), ["text"], [None], np.zeros(1, "datetime64[D]")])
def test_an_unsupported_array_is_one_clear_error(value):
    with pytest.raises(ValueError, match=r"cannot be sent\. Accepted: float32, .*string"):
        wire.to_tensor(value)


@pytest.mark.parametrize("fields, reason", [
    ({"dtype": 8}, "data type 8 cannot be read"),
    ({"dtype": 1, "tensor_shape": {"unknown_rank": True}}, "unknown shape"),
    ({"dtype": 1, "tensor_shape": {"dim": [{"size": -1}]}}, "unknown shape"),
    ({"dtype": 1, "tensor_shape": {"dim": [{"size": 2}]}, "tensor_content": b"12345"}, "8 bytes, 5 were"),
    ({"dtype": 3, "tensor_shape": {"dim": [{"size": 1}]}, "int_val": [1, 2]}, "1 values, 2 were given"),
])
def test_an_unreadable_tensor_is_one_clear_error(fields, reason):
    with pytest.raises(ValueError, match=reason):
        wire.to_array(wire.TensorProto(**fields))


def test_requests_replies_and_logs_go_both_ways():
    def request(module_request):
        message = module_request(output_filter=["a", "b"])
        message.model_spec.name, message.model_spec.signature_name = "net", "jpeg"
        message.model_spec.version.value = 3
        message.inputs["x"].dtype = 1
        message.inputs["y"].string_val.append(b"\xff\0")
        return message

    def reply(module_reply):
        message = module_reply()
        message.model_spec.version_label = "stable"
        message.outputs["p"].float_val.extend([1.0, 2.0])
        return message

    both_ways(request(wire.PredictRequest), request(predict_pb2.PredictRequest))
    both_ways(reply(wire.PredictResponse), reply(predict_pb2.PredictResponse))
    ours, theirs = wire.PredictionLog(), prediction_log_pb2.PredictionLog()
    ours.predict_log.request.CopyFrom(request(wire.PredictRequest))
    theirs.predict_log.request.CopyFrom(request(predict_pb2.PredictRequest))
    both_ways(ours, theirs)
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)

    ours, theirs = wire.GetModelStatusResponse(), get_model_status_pb2.GetModelStatusResponse()
    for message in (ours, theirs):
        entry = message.model_version_status.add(version=2, state=50)
        entry.status.error_code, entry.status.error_message = 5, "gone"
    both_ways(ours, theirs)

    signatures = get_model_metadata_pb2.SignatureDefMap()
    signatures.signature_def["s"].inputs["x"].dtype = 1
    signatures.signature_def["s"].inputs["x"].tensor_shape.dim.add(size=-1)
    signatures.signature_def["s"].defaults["x"].float_val.append(1)
    theirs = get_model_metadata_pb2.GetModelMetadataResponse(model_spec={"name": "net"})
    theirs.metadata["signature_def"].Pack(signatures)
    ours = wire.GetModelMetadataResponse.FromString(theirs.SerializeToString())
    both_ways(ours, theirs)
    unpacked = wire.SignatureDefMap()
    assert ours.metadata["signature_def"].Unpack(unpacked)
    both_ways(unpacked, signatures)


def test_a_version_choice_replaces_the_other():
    spec = wire.ModelSpec(version_label="stable")
    spec.version.value = 1
    assert spec.WhichOneof("version_choice") == "version" and not spec.version_label


def test_unknown_fields_survive():
    official = predict_pb2.PredictRequest(client_id=b"me")
    assert wire.PredictRequest.FromString(official.SerializeToString()).SerializeToString() \
        == official.SerializeToString()
