"""The client's own half: what it sends, what it refuses. Its talk with the server is in test_server.py."""

import os
import pickle
import subprocess
import sys
import threading
from concurrent import futures

import grpc
import numpy as np
import pytest

from keras_cnns import wire
from keras_cnns.errors import InputError
from keras_cnns.serving import Client, ServingError
from keras_cnns.serving.client import _inputs


def python(code):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def test_the_client_imports_neither_tensorflow_nor_keras():
    done = python("""
import sys
from keras_cnns.serving import Client, ServingError
with Client("127.0.0.1:1", timeout=20) as client:
    try:
        client.predict("net", b"jpeg")
    except ServingError as error:
        assert error.code == "UNAVAILABLE", error
    else:
        raise AssertionError("an answer?")
heavy = [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "keras", "tensorflow_serving")]
assert not heavy, heavy
""")
    assert done.returncode == 0, done.stderr


def test_without_grpc_the_import_names_the_extra():
    done = python("import sys; sys.modules['grpc'] = None; import keras_cnns.serving")
    assert 'pip install "keras_cnns[serving]"' in done.stderr.splitlines()[-1]


def test_bytes_stand_for_the_jpeg_signature():
    assert _inputs(b"one") == ({"jpeg": [b"one"]}, "jpeg")
    assert _inputs((b"one", b"two")) == ({"jpeg": (b"one", b"two")}, "jpeg")


@pytest.mark.parametrize("dtype", ["uint8", "float64", "float32", "int64"])
def test_pixels_stand_for_the_default_signature_as_float32(dtype):
    inputs, signature = _inputs(np.full((2, 4, 3), 200, dtype))
    assert signature == "serving_default" and list(inputs) == ["image"]
    assert inputs["image"].shape == (1, 2, 4, 3) and inputs["image"].dtype == np.float32
    batch, _ = _inputs([np.ones((2, 4, 3), dtype)] * 5)
    assert batch["image"].shape == (5, 2, 4, 3)


def test_a_dict_passes_as_it_is():
    data = {"x": np.ones(2, "int64")}
    assert _inputs(data)[0] is data


@pytest.mark.parametrize("data", [
    "image.jpg", [], None, np.ones((4, 4)), np.ones((4, 4, 2)), np.ones((1, 1, 4, 4, 3)),
    np.ones((4, 4, 3), bool), [np.ones((2, 4, 3)), np.ones((4, 4, 3))], [b"one", np.ones((4, 4, 3))]])
def test_anything_else_is_refused_before_it_is_sent(data):
    with pytest.raises(InputError, match="Accepted: encoded image bytes or a list of them, pixels") as caught:
        _inputs(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", 8500, None])
def test_an_address_without_a_port_is_refused(host):
    with pytest.raises(InputError, match="Accepted: 'host:port'"):
        Client(host)


def test_a_server_that_is_not_there_is_one_line_with_advice():
    with Client("127.0.0.1:1", timeout=20) as client, pytest.raises(ServingError) as caught:
        client.status("net")
    assert caught.value.code == "UNAVAILABLE"
    message = str(caught.value)
    assert message.startswith("127.0.0.1:1, model 'net': UNAVAILABLE: ") and "keras-cnns serve" in message
    assert "\n" not in message


def test_an_error_keeps_its_code_between_processes():
    error = pickle.loads(pickle.dumps(ServingError("not there", "NOT_FOUND")))
    assert (str(error), error.code) == ("not there", "NOT_FOUND")


@pytest.fixture
def fake():
    """A server that is not ours: `answers` maps a method to a function from request bytes to reply bytes."""
    class Handler(grpc.GenericRpcHandler):
        answers = {}

        def service(self, details):
            answer = self.answers.get(details.method)
            return answer and grpc.unary_unary_rpc_method_handler(answer)

    handler = Handler()
    pool = futures.ThreadPoolExecutor(2)
    server = grpc.server(pool, handlers=[handler])
    handler.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler
    server.stop(None).wait()
    pool.shutdown()


def test_typed_fields_in_a_reply_are_read(fake):
    """TensorFlow Serving answers with float_val and the like, not with tensor_content."""
    def predict(data, context):
        request = wire.PredictRequest.FromString(data)
        assert request.model_spec.signature_name == "mine" and request.model_spec.version.value == 4
        assert list(request.output_filter) == ["scores"]
        reply = wire.PredictResponse()
        reply.outputs["scores"].dtype = 1
        reply.outputs["scores"].tensor_shape.dim.add(size=1)
        reply.outputs["scores"].tensor_shape.dim.add(size=3)
        reply.outputs["scores"].float_val.extend([0.5, 0.25])
        return reply.SerializeToString()

    fake.answers["/tensorflow.serving.PredictionService/Predict"] = predict
    with Client(f"127.0.0.1:{fake.port}") as client:
        answer = client.predict("net", b"jpeg", version=4, signature="mine", outputs=["scores"])
    assert answer["scores"].tolist() == [[0.5, 0.25, 0.25]]


def test_a_reply_larger_than_grpcs_default_limit_passes(fake):
    reply = wire.PredictResponse()
    reply.outputs["masks"].CopyFrom(wire.to_tensor(np.ones((2, 1024, 1024), "float32")))
    fake.answers["/tensorflow.serving.PredictionService/Predict"] = lambda *_: reply.SerializeToString()
    with Client(f"127.0.0.1:{fake.port}") as client:
        assert client.predict("net", b"jpeg")["masks"].sum() == 2 * 1024 * 1024


def test_an_answer_that_does_not_come_in_time_is_one_line_with_advice(fake):
    release = threading.Event()
    fake.answers["/tensorflow.serving.PredictionService/Predict"] = lambda *_: release.wait(20) and b""
    with Client(f"127.0.0.1:{fake.port}", timeout=0.3) as client, pytest.raises(ServingError) as caught:
        client.predict("net", b"jpeg")
    release.set()
    assert caught.value.code == "DEADLINE_EXCEEDED" and "longer timeout" in str(caught.value)


def test_status_lists_the_newest_version_first_with_its_error(fake):
    reply = wire.GetModelStatusResponse()
    reply.model_version_status.add(version=1, state=30)
    entry = reply.model_version_status.add(version=2, state=50)
    entry.status.error_code, entry.status.error_message = 5, "no file"
    fake.answers["/tensorflow.serving.ModelService/GetModelStatus"] = lambda *_: reply.SerializeToString()
    with Client(f"127.0.0.1:{fake.port}") as client:
        assert client.status("net") == [
            {"version": 2, "state": "END", "code": 5, "message": "no file"},
            {"version": 1, "state": "AVAILABLE", "code": 0, "message": ""}]
