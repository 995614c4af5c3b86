"""TensorFlow Serving's messages without TensorFlow.

The part of `tensorflow_serving.apis` and of TensorFlow's own messages that a client or an exporter needs,
equal to them on the wire; fields not listed here survive parsing and writing. The classes live in a
descriptor pool of their own, so they never meet the registrations of tensorflow or tensorflow-serving-api in
the same process. Enumerations are int32 here, which is the same on the wire.
"""

import math

import numpy as np
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

# package -> message -> (field, number, type, label)
# label: none, "repeated", "map" (from strings), or the name of the oneof the field belongs to
_MESSAGES = {
    "tensorflow": {
        "Dim": [("size", 1, "int64"), ("name", 2, "string")],  # TensorShapeProto.Dim; nesting leaves no trace
        "TensorShapeProto": [("dim", 2, "Dim", "repeated"), ("unknown_rank", 3, "bool")],
        "TensorProto": [
            ("dtype", 1, "int32"), ("tensor_shape", 2, "TensorShapeProto"), ("version_number", 3, "int32"),
            ("tensor_content", 4, "bytes"), ("float_val", 5, "float", "repeated"),
            ("double_val", 6, "double", "repeated"), ("int_val", 7, "int32", "repeated"),
            ("string_val", 8, "bytes", "repeated"), ("int64_val", 10, "int64", "repeated"),
            ("bool_val", 11, "bool", "repeated"), ("half_val", 13, "int32", "repeated"),
            ("uint32_val", 16, "uint32", "repeated"), ("uint64_val", 17, "uint64", "repeated")],
        "TensorInfo": [
            ("name", 1, "string", "encoding"), ("dtype", 2, "int32"),
            ("tensor_shape", 3, "TensorShapeProto")],
        "SignatureDef": [
            ("inputs", 1, "TensorInfo", "map"), ("outputs", 2, "TensorInfo", "map"),
            ("method_name", 3, "string"), ("defaults", 4, "TensorProto", "map")],
    },
    "tensorflow.serving": {
        "ModelSpec": [
            ("name", 1, "string"), ("version", 2, "Int64Value", "version_choice"),
            ("version_label", 4, "string", "version_choice"), ("signature_name", 3, "string")],
        "PredictRequest": [
            ("model_spec", 1, "ModelSpec"), ("inputs", 2, "TensorProto", "map"),
            ("output_filter", 3, "string", "repeated")],
        "PredictResponse": [("outputs", 1, "TensorProto", "map"), ("model_spec", 2, "ModelSpec")],
        "GetModelMetadataRequest": [
            ("model_spec", 1, "ModelSpec"), ("metadata_field", 2, "string", "repeated")],
        "GetModelMetadataResponse": [("model_spec", 1, "ModelSpec"), ("metadata", 2, "Any", "map")],
        "SignatureDefMap": [("signature_def", 1, "SignatureDef", "map")],
        "GetModelStatusRequest": [("model_spec", 1, "ModelSpec")],
        "GetModelStatusResponse": [("model_version_status", 1, "ModelVersionStatus", "repeated")],
        "ModelVersionStatus": [("version", 1, "int64"), ("state", 2, "int32"), ("status", 3, "StatusProto")],
        "StatusProto": [("error_code", 1, "int32"), ("error_message", 2, "string")],
        "PredictLog": [("request", 1, "PredictRequest"), ("response", 2, "PredictResponse")],
        "PredictionLog": [("predict_log", 6, "PredictLog", "log_type")],
    },
}


def _build():
    """The classes of `_MESSAGES`, name -> class."""
    package_of = {name: package for package, messages in _MESSAGES.items() for name in messages}
    package_of.update(Int64Value="google.protobuf", Any="google.protobuf")
    pool = descriptor_pool.DescriptorPool()
    files = [wrappers_pb2.DESCRIPTOR.name, any_pb2.DESCRIPTOR.name]
    for known in (wrappers_pb2, any_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)

    def add_field(message, name, number, kind, label=""):
        field = message.field.add(name=name, number=number, label=3 if label in ("repeated", "map") else 1)
        if label == "map":  # on the wire a map is a repeated message of key and value
            entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
            entry.options.map_entry = True
            add_field(entry, "key", 1, "string")
            add_field(entry, "value", 2, kind)
            kind = f"{message.name}.{entry.name}"
            package_of[kind] = package
        elif label and label != "repeated":
            if label not in [oneof.name for oneof in message.oneof_decl]:
                message.oneof_decl.add(name=label)
            field.oneof_index = len(message.oneof_decl) - 1
        if kind in package_of:
            field.type, field.type_name = field.TYPE_MESSAGE, f".{package_of[kind]}.{kind}"
        else:
            field.type = getattr(field, f"TYPE_{kind.upper()}")

    for package, messages in _MESSAGES.items():
        file = descriptor_pb2.FileDescriptorProto(
            name=f"keras_cnns/{package}.proto", package=package, syntax="proto3", dependency=files)
        for name, fields in messages.items():
            message = file.message_type.add(name=name)
            for field in fields:
                add_field(message, *field)
        pool.AddSerializedFile(file.SerializeToString())
        files.append(file.name)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
            for package, messages in _MESSAGES.items() for name in messages}


_CLASSES = _build()
TensorShapeProto = _CLASSES["TensorShapeProto"]
TensorProto = _CLASSES["TensorProto"]
TensorInfo = _CLASSES["TensorInfo"]
SignatureDef = _CLASSES["SignatureDef"]
ModelSpec = _CLASSES["ModelSpec"]
PredictRequest = _CLASSES["PredictRequest"]
PredictResponse = _CLASSES["PredictResponse"]
GetModelMetadataRequest = _CLASSES["GetModelMetadataRequest"]
GetModelMetadataResponse = _CLASSES["GetModelMetadataResponse"]
SignatureDefMap = _CLASSES["SignatureDefMap"]
GetModelStatusRequest = _CLASSES["GetModelStatusRequest"]
GetModelStatusResponse = _CLASSES["GetModelStatusResponse"]
ModelVersionStatus = _CLASSES["ModelVersionStatus"]
StatusProto = _CLASSES["StatusProto"]
PredictLog = _CLASSES["PredictLog"]
PredictionLog = _CLASSES["PredictionLog"]

STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}

# tensorflow.DataType -> name, NumPy type in tensor_content (little-endian), typed field
DTYPES = {
    1: ("float32", "<f4", "float_val"), 2: ("float64", "<f8", "double_val"), 3: ("int32", "<i4", "int_val"),
    4: ("uint8", "u1", "int_val"), 5: ("int16", "<i2", "int_val"), 6: ("int8", "i1", "int_val"),
    7: ("string", "O", "string_val"), 9: ("int64", "<i8", "int64_val"), 10: ("bool", "?", "bool_val"),
    14: ("bfloat16", "<u2", "half_val"), 17: ("uint16", "<u2", "int_val"), 19: ("float16", "<f2", "half_val"),
    22: ("uint32", "<u4", "uint32_val"), 23: ("uint64", "<u8", "uint64_val"),
}
_NUMBERS = {name: number for number, (name, _, _) in DTYPES.items()}
_FIELD_TYPES = {"float_val": "f4", "double_val": "f8", "int_val": "i4", "int64_val": "i8", "bool_val": "?",
                "half_val": "i4", "uint32_val": "u4", "uint64_val": "u8"}


def to_tensor(value):
    """A number, an array, `bytes` or a list of `bytes` as a `TensorProto` of the same shape.

    Numbers travel as `tensor_content`, bytes as `string_val`. An array of ml_dtypes' bfloat16 is accepted
    too. Raises ValueError for any other dtype.
    """
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    array = np.asarray(value, dtype=object if isinstance(first, bytes) else None)
    if array.dtype.kind == "S":  # NumPy's own strings pad to the longest and drop trailing zero bytes
        array = np.array(value, dtype=object)
    strings = array.dtype == object and all(isinstance(item, bytes) for item in array.flat)
    number = _NUMBERS["string"] if strings else _NUMBERS.get(array.dtype.name)
    if number is None:
        raise ValueError(f"A tensor of dtype {array.dtype} cannot be sent. Accepted: {_accepted()} "
                         "(strings as bytes). Convert it first.")
    tensor = TensorProto(dtype=number)
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    if strings:
        tensor.string_val.extend(array.flat)
    else:
        tensor.tensor_content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return tensor


def to_array(tensor):
    """A `TensorProto` (this one or TensorFlow's) as an array; strings become an object array of `bytes`.

    Reads `tensor_content` and the typed fields, where the last value stands for all that follow and none at
    all for zeros. bfloat16 is returned as float32, which holds it exactly. Raises ValueError for a dtype that
    is not in `DTYPES` and for values that do not fit the shape.
    """
    if tensor.dtype not in DTYPES:
        raise ValueError(f"A tensor of data type {tensor.dtype} cannot be read. Accepted: {_accepted()}.")
    name, stored, field = DTYPES[tensor.dtype]
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.tensor_shape.unknown_rank or min(shape, default=0) < 0:
        raise ValueError(f"A tensor of unknown shape {list(shape)} cannot be read: every size must be known.")
    size = math.prod(shape)
    if name == "string":
        values = np.array(list(tensor.string_val) or [b""], dtype=object)
    elif tensor.tensor_content:
        width = np.dtype(stored).itemsize
        if len(tensor.tensor_content) != size * width:
            raise ValueError(f"A {name} tensor of shape {list(shape)} takes {size * width} bytes, "
                             f"{len(tensor.tensor_content)} were given.")
        values = np.frombuffer(tensor.tensor_content, stored)
    else:
        values = np.fromiter(getattr(tensor, field) or [0], _FIELD_TYPES[field])
        values = values.astype("<u2").view(stored) if field == "half_val" else values.astype(stored)
    if len(values) > max(size, 1):
        raise ValueError(f"A {name} tensor of shape {list(shape)} takes {size} values, "
                         f"{len(values)} were given.")
    if len(values) != size:
        values = values[np.minimum(np.arange(size), len(values) - 1)]
    if name == "bfloat16":  # the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.reshape(shape).astype(values.dtype.newbyteorder("="))  # a copy: frombuffer's is read-only


def _accepted():
    return ", ".join(_NUMBERS)
