"""A gRPC client for TensorFlow Serving and for `keras-cnns serve`, without TensorFlow."""

import numpy as np

from keras_cnns import wire
from keras_cnns.errors import InputError

try:
    import grpc
except ImportError as error:
    raise ImportError('Client needs grpcio: pip install "keras_cnns[serving]"') from error

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),  # no limit; gRPC's own of 4 MiB is a few masks
    ("grpc.enable_http_proxy", 0),  # a model server is in the house; proxies are for the world outside
]
_ACCEPTED = ("encoded image bytes or a list of them, pixels [H, W, C] or [B, H, W, C] with C 3 or 1, or a dict "
             "name -> array")


class ServingError(RuntimeError):
    """The server refused or did not answer. `code` is gRPC's name for why, such as "NOT_FOUND"."""

    def __init__(self, message, code="UNKNOWN"):  # the message alone makes one again, as pickle does
        super().__init__(message)
        self.code = code


class Client:
    """Talks to one model server; may be shared between threads.

    Args:
      host: "host:port" of the server's gRPC door, for TensorFlow Serving usually port 8500.
      timeout: seconds to wait for an answer; None waits for ever.
    """

    def __init__(self, host, timeout=60.0):
        if not isinstance(host, str) or ":" not in host:
            raise InputError(f"No server address {host!r}. Accepted: 'host:port', such as 'localhost:8500'.")
        self.host, self.timeout = host, timeout
        self._channel = grpc.insecure_channel(host, options=_OPTIONS)

    def predict(self, model, data, version=None, signature=None, outputs=None):
        """Runs a served model. Returns a dict, output name -> array `[B, ...]`; one image gives B = 1.

        Args:
          model: its name on the server.
          data: the bytes of a JPEG or PNG file, or a list of such (signature "jpeg", input "jpeg" `[B]`);
            pixels 0 to 255, `[H, W, C]` or `[B, H, W, C]`, RGB or grey as the model takes it, uint8 or float
            (signature "serving_default", input "image", sent as float32); or a dict, input name -> array, sent as
            it is.
          version: a version number; without it the newest that is live.
          signature: another signature than the one `data` stands for.
          outputs: names of the outputs wanted; without it all of them.

        Raises:
          InputError: `data` is none of these. ServingError: the server refused or did not answer.
        """
        inputs, default_signature = _inputs(data)
        request = wire.PredictRequest(output_filter=outputs or ())
        _fill(request.model_spec, model, version)
        request.model_spec.signature_name = signature or default_signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(wire.to_tensor(value))
        reply = self._call("PredictionService/Predict", request, wire.PredictResponse)
        return {name: wire.to_array(tensor) for name, tensor in reply.outputs.items()}

    def status(self, model, version=None):
        """The versions the server knows: a list, newest first, of dicts version, state, code, message.

        `state` is START, LOADING, AVAILABLE, UNLOADING or END; `code`, a gRPC number (0: all is well), and
        `message` say what failed.
        """
        request = wire.GetModelStatusRequest()
        _fill(request.model_spec, model, version)
        reply = self._call("ModelService/GetModelStatus", request, wire.GetModelStatusResponse)
        found = [{"version": entry.version, "state": wire.STATES.get(entry.state, str(entry.state)),
                  "code": entry.status.error_code, "message": entry.status.error_message}
                 for entry in reply.model_version_status]
        return sorted(found, key=lambda entry: -entry["version"])

    def metadata(self, model, version=None):
        """The signatures: name -> {"inputs": {name: (dtype, shape)}, "outputs": the same}.

        `dtype` is a name such as "float32", `shape` a tuple with None for any size, or None for any rank.
        """
        request = wire.GetModelMetadataRequest(metadata_field=["signature_def"])
        _fill(request.model_spec, model, version)
        reply = self._call("PredictionService/GetModelMetadata", request, wire.GetModelMetadataResponse)
        signatures = wire.SignatureDefMap.FromString(reply.metadata["signature_def"].value).signature_def
        return {name: {"inputs": _describe(signature.inputs), "outputs": _describe(signature.outputs)}
                for name, signature in signatures.items() if signature.outputs and not name.startswith("__")}

    def close(self):
        """Closes the connection; the client is of no use after it."""
        self._channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _call(self, method, request, reply):
        call = self._channel.unary_unary(
            f"/tensorflow.serving.{method}", request_serializer=type(request).SerializeToString,
            response_deserializer=reply.FromString)
        try:
            return call(request, timeout=self.timeout)
        except grpc.RpcError as error:
            code, details = error.code().name, " ".join((error.details() or "").split())
        advice = {
            "UNAVAILABLE": " Is a server running there? Check host and port, or start one: "
                           "keras-cnns serve saved_models/",
            "DEADLINE_EXCEEDED": f" None within {self.timeout} s: send less at once or set a longer timeout.",
        }.get(code, "")
        raise ServingError(f"{self.host}, model '{request.model_spec.name}': {code}: {details}{advice}", code)


def _inputs(data):
    """What `data` stands for: a dict, input name -> value, and the signature that takes it."""
    if isinstance(data, dict):
        return data, "serving_default"
    if isinstance(data, bytes):
        return {"jpeg": [data]}, "jpeg"
    if isinstance(data, (list, tuple)) and data and all(isinstance(item, bytes) for item in data):
        return {"jpeg": data}, "jpeg"
    try:
        image = np.asarray(data)
    except ValueError:  # a list of arrays of different sizes
        raise InputError(f"The images are not all of one size. Accepted: {_ACCEPTED}.") from None
    if image.dtype.kind not in "uif" or image.ndim not in (3, 4) or image.shape[-1] not in (1, 3):
        raise InputError(f"No image: {type(data).__name__} of shape {list(image.shape)}, dtype {image.dtype}."
                         f" Accepted: {_ACCEPTED}. To send a file, give open(path, 'rb').read().")
    return {"image": image.astype(np.float32).reshape((-1, *image.shape[-3:]))}, "serving_default"


def _fill(spec, model, version):
    spec.name = model
    if version is not None:
        spec.version.value = version


def _describe(tensors):
    return {name: (wire.DTYPES[info.dtype][0] if info.dtype in wire.DTYPES else f"type {info.dtype}",
                   None if info.tensor_shape.unknown_rank
                   else tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim))
            for name, info in tensors.items()}
