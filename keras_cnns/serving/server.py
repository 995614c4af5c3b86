"""The embedded twin of TensorFlow Serving: its gRPC services over `tf.saved_model.load`, in this process.

PredictionService's Predict and GetModelMetadata and ModelService's GetModelStatus, with TensorFlow Serving's
status codes and, where they are known, its words. Two differences help the caller: an input of a wrong shape
is refused before the graph runs, and a batch with bad bytes in it is told which. Default values of signatures
and version labels are not supported.
"""

import functools
import logging
import re
from concurrent import futures
from pathlib import Path

import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from keras_cnns import wire
from keras_cnns.errors import InputError

try:
    import grpc
    from tensorflow_serving.apis import (
        get_model_metadata_pb2, get_model_status_pb2, model_service_pb2_grpc, predict_pb2, prediction_log_pb2,
        prediction_service_pb2_grpc)
except ImportError as error:
    raise ImportError('Server needs tensorflow-serving-api: pip install "keras_cnns[serving]"') from error

_LOG = logging.getLogger(__name__)
_THREADS = 16  # requests at work at once; more wait in line
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_DTYPES = {number: name.removeprefix("DT_").lower() for name, number in types_pb2.DataType.items()}


class Server:
    """Serves `folder/<model>/<version number>/`, the newest version of every model, over gRPC.

    Names that are no whole numbers are ignored, so a version can be written beside the others and renamed
    when it is complete. A context manager; or call `start()` and `stop()`.

    Attributes:
      port: where it listens; after `start()` the real one if 0, any free port, was asked for.
      models: name -> version, of what is live. failures: name -> why, in a line, of what did not load.
    """

    def __init__(self, folder, host="127.0.0.1", port=8500):
        self.folder, self.host, self.port = Path(folder), host, port
        self.models, self.failures = {}, {}
        self._grpc = None

    def start(self):
        """Loads the models, goes live, and returns the server.

        Raises InputError if the folder is missing or holds no model, if none loads, or if the port is taken.
        """
        newest = _newest_versions(self.folder)
        self._pool = futures.ThreadPoolExecutor(_THREADS)
        self._grpc = grpc.server(self._pool, options=[
            ("grpc.max_receive_message_length", -1),  # as TensorFlow Serving: no limit
            ("grpc.so_reuseport", 0)])  # or a second server would silently share the port
        try:
            self.port = self._bind()
            service = _Service(newest)
            self.models = {name: model.version for name, model in service.models.items()}
            self.failures = {name: status.status.error_message for name, status in service.statuses.items()
                             if name not in service.models}
            if not self.models:
                reasons = "; ".join(f"{name}: {reason}" for name, reason in self.failures.items())
                raise InputError(f"No model in {self.folder} loads ({reasons}). "
                                 "Export it again: keras-cnns export.")
        except BaseException:
            self.stop()
            raise
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(service, self._grpc)
        self._grpc.start()
        return self

    def stop(self, grace=5.0):
        """Refuses new requests, gives those at work `grace` seconds, and frees the port."""
        if self._grpc is not None:
            self._grpc.stop(grace).wait()
            self._pool.shutdown(wait=False)

    def wait(self):
        """Blocks until another thread calls `stop()` or the process is interrupted."""
        self._grpc.wait_for_termination()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def _bind(self):
        host = f"[{self.host}]" if ":" in self.host else self.host
        try:
            return self._grpc.add_insecure_port(f"{host}:{self.port}")
        except RuntimeError:
            raise InputError(f"Cannot listen on {self.host}, port {self.port}: it is taken or not allowed. "
                             "Stop the other server or give another port (0 picks a free one).") from None


def _newest_versions(folder):
    """The folder of each model's newest version, by the model's name."""
    accepted = f"Accepted: a folder of models, {folder}/<model>/<version number>/saved_model.pb"
    if not folder.is_dir():
        raise InputError(f"No folder {folder}. {accepted}. Export a model into it first: keras-cnns export.")
    newest = {}
    for model in sorted(path for path in folder.iterdir() if path.is_dir()):
        versions = [path for path in model.iterdir() if _is_version(path)]
        if versions:
            newest[model.name] = max(versions, key=lambda path: int(path.name))
    if not newest:
        a_model = any(_is_version(path) for path in folder.iterdir())
        advice = f"Give its parent, {folder.parent}" if a_model else "Export one into it: keras-cnns export"
        raise InputError(f"No model in {folder}. {accepted}. {advice}.")
    return newest


def _is_version(path):
    return path.is_dir() and bool(re.fullmatch("[0-9]{1,18}", path.name))  # 18 digits fit an int64


class _Refusal(Exception):
    """A request that gets a status instead of an answer."""

    def __init__(self, message, code=grpc.StatusCode.INVALID_ARGUMENT):
        super().__init__(message)
        self.message, self.code, self.error_code = message, code, code.value[0]


def _answers(method):
    """Makes a gRPC handler of a method `(self, request) -> reply` that may raise `_Refusal`."""
    @functools.wraps(method)
    def handler(self, request, context):
        try:
            if not request.HasField("model_spec"):
                raise _Refusal("Missing ModelSpec")
            return method(self, request)
        except _Refusal as refusal:
            context.abort(refusal.code, refusal.message[:1024])  # it travels in a header of limited size
    return handler


class _Service(prediction_service_pb2_grpc.PredictionServiceServicer,
               model_service_pb2_grpc.ModelServiceServicer):
    """TensorFlow Serving's two services over the models in the given folders, name -> folder."""

    def __init__(self, folders):
        self.models, self.statuses = {}, {}  # name -> _Model, name -> ModelVersionStatus
        for name, folder in folders.items():
            status = get_model_status_pb2.ModelVersionStatus(version=int(folder.name), state="AVAILABLE")
            self.statuses[name] = status
            try:
                self.models[name] = _Model(folder)
            except Exception as error:  # whatever is wrong with one model, the others go live
                status.state = status.END
                status.status.error_code = getattr(error, "error_code", tf.errors.UNKNOWN)
                message = getattr(error, "message", str(error)) or type(error).__name__
                status.status.error_message = " ".join(message.split())[:1024]
                _LOG.warning("%s is not served: %s", folder, status.status.error_message)

    @_answers
    def Predict(self, request):
        model = self._find(request.model_spec)
        signature, outputs = model.predict(request)
        reply = predict_pb2.PredictResponse(model_spec=_spec(request, model))
        reply.model_spec.signature_name = signature
        for name, value in outputs.items():
            reply.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return reply

    @_answers
    def GetModelMetadata(self, request):
        if not request.metadata_field:
            raise _Refusal("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise _Refusal(f"Metadata field {field} is not supported")
        model = self._find(request.model_spec)
        reply = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=_spec(request, model))
        reply.metadata["signature_def"].Pack(model.signatures)
        return reply

    @_answers
    def GetModelStatus(self, request):
        spec, status = request.model_spec, self.statuses.get(request.model_spec.name)
        if spec.HasField("version") and (status is None or status.version != spec.version.value):
            message = f"Could not find version {spec.version.value} of model {spec.name}"
            raise _Refusal(message, grpc.StatusCode.NOT_FOUND)
        if status is None:
            raise _Refusal(f"Could not find any versions of model {spec.name}", grpc.StatusCode.NOT_FOUND)
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=[status])

    def _find(self, spec):
        if not spec.name:
            raise _Refusal("ModelSpec has no name specified.")
        if spec.HasField("version_label"):
            raise _Refusal(f"Unrecognized servable version label: {spec.version_label}")
        model, wanted = self.models.get(spec.name), f"Latest({spec.name})"
        if spec.HasField("version"):
            wanted = f"Specific({spec.name}, {spec.version.value})"
        if model is None or (spec.HasField("version") and model.version != spec.version.value):
            raise _Refusal(f"Servable not found for request: {wanted}", grpc.StatusCode.NOT_FOUND)
        return model


def _spec(request, model):
    return {"name": request.model_spec.name, "version": {"value": model.version}}


class _Model:
    """One version of a model, loaded and warmed up. `signatures` is its `SignatureDefMap`."""

    def __init__(self, folder):
        self.version = int(folder.name)
        self._loaded = tf.saved_model.load(str(folder))  # kept: its functions only borrow the variables
        graph, = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs
        self.signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in graph.signature_def.items():
            self.signatures.signature_def[name].CopyFrom(signature)
        warmup = folder / "assets.extra" / "tf_serving_warmup_requests"
        for record in tf.data.TFRecordDataset(str(warmup)) if warmup.is_file() else ():
            log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
            if log.HasField("predict_log"):
                self.predict(log.predict_log.request)

    def predict(self, request):
        """Answers a `PredictRequest`: the signature's name and a dict, output name -> tensor."""
        name = request.model_spec.signature_name or "serving_default"
        if name not in self._loaded.signatures:
            message = f'Serving signature key "{name}" not found.'
            raise _Refusal(message, grpc.StatusCode.FAILED_PRECONDITION)
        signature, function = self.signatures.signature_def[name], self._loaded.signatures[name]
        feeds = _feeds(signature.inputs, request.inputs)
        wanted = list(request.output_filter) or sorted(signature.outputs)
        for i, alias in enumerate(wanted):
            if alias not in signature.outputs:
                raise _Refusal(f"output tensor alias not found in signature: {alias} Outputs expected to be "
                               f"in the set {_names(signature.outputs)}.")
            if alias in wanted[:i]:
                raise _Refusal(f"duplicate output tensor alias: {alias}")
        try:
            outputs = function(**feeds)
        except tf.errors.OpError as error:
            bad_data = isinstance(error, tf.errors.InvalidArgumentError)
            culprits = _bad_rows(function, signature, feeds) if bad_data else ""
            raise _Refusal(culprits + _reason(error), _CODES[error.error_code]) from None
        return name, {alias: outputs[alias] for alias in wanted}


def _feeds(expected, given):
    """A request's inputs as tensors, name -> tensor, checked against the signature's, name -> TensorInfo."""
    if len(given) != len(expected):
        raise _Refusal(
            f"input size does not match signature: {len(given)}!={len(expected)} len({_names(given)}) != "
            f"len({_names(expected)}). Sent extra: {_names(set(given) - set(expected))}. "
            f"Missing but required: {_names(set(expected) - set(given))}.")
    feeds = {}
    for i, (alias, info) in enumerate(sorted(expected.items())):
        if alias not in given:
            raise _Refusal(f"Signature input alias: {alias}(feed name: {info.name}) not found in request and "
                           "no default value provided. Inputs expected to be in the request "
                           f"{_names(given)}, or default input alias set: ")
        tensor, shape = given[alias], tf.TensorShape(info.tensor_shape)
        if tensor.dtype != info.dtype:
            raise _Refusal(f"Expects arg[{i}] to be {_DTYPES[info.dtype]} but "
                           f"{_DTYPES.get(tensor.dtype, 'an unknown type')} is provided (input {alias})")
        try:
            value = wire.to_array(tensor)
        except (ValueError, MemoryError) as error:
            raise _Refusal(f"tensor parsing error: {alias}: {error}") from None
        if not shape.is_compatible_with(value.shape):
            raise _Refusal(f"input {alias} has shape {value.shape}, the signature takes {shape}")
        feeds[alias] = tf.constant(value, tf.as_dtype(info.dtype))
    return feeds


def _names(names):
    return "{" + ",".join(sorted(names)) + "}"


def _reason(error):
    """TensorFlow's message on one line, without the graph around it."""
    noise = ("Graph execution error", "Detected at node", "<stack traces", "  File ", "\t")
    lines = [line for line in error.message.splitlines() if not line.startswith(noise)]
    return re.sub(r" *\[Op:.*", "", " ".join(" ".join(lines).split())) or type(error).__name__


def _bad_rows(function, signature, feeds):
    """Names the rows of a failed batch of strings that fail by themselves: a message's beginning, or "".

    Only here are rows run one by one: a good batch pays nothing.
    """
    strings = [alias for alias, value in feeds.items() if value.dtype == tf.string]
    sizes = {value.shape[0] if value.shape.rank else 0 for value in feeds.values()}
    shapes = [info.tensor_shape.dim for info in signature.inputs.values()]
    fixed = any(dim and dim[0].size >= 0 for dim in shapes)
    if not strings or fixed or len(sizes) > 1 or max(sizes) < 2:
        return ""
    bad = []
    for row in range(max(sizes)):
        try:
            function(**{alias: value[row:row + 1] for alias, value in feeds.items()})
        except tf.errors.OpError:
            bad.append(f"{strings[0]}[{row}]")
    return f"{', '.join(bad)} of a batch of {max(sizes)}: " if bad else ""
