"""The embedded server, by our client and by the official stub, on a SavedModel of two signatures."""

import os
import subprocess
import sys
import threading
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2, get_model_status_pb2, model_service_pb2_grpc, predict_pb2,
    prediction_service_pb2_grpc)

from keras_cnns import wire
from keras_cnns.errors import InputError
from keras_cnns.serving import Client, ServingError
from keras_cnns.serving.server import Server


class Net(tf.Module):
    """Scales mean colours; has the doors of a served network: pixels or bytes in, named outputs out."""

    def __init__(self, scale):
        super().__init__()
        self.scale = tf.Variable(float(scale))
        self.calls = tf.Variable(0, dtype=tf.int64)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), name="image")])
    def pixels(self, image):
        self.calls.assign_add(1)
        mean = self.scale * tf.reduce_mean(image, (1, 2))
        return {"mean": mean, "best": tf.argmax(mean, -1, tf.int32), "calls": self.calls.read_value()}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="jpeg")])
    def jpeg(self, jpeg):
        def one(data):
            image = tf.io.decode_image(data, channels=3, expand_animations=False)
            return tf.reduce_mean(tf.cast(image, tf.float32), (0, 1))

        mean = self.scale * tf.map_fn(one, jpeg, fn_output_signature=tf.TensorSpec((3,)))
        return {"mean": mean, "size": tf.strings.length(jpeg)}

    @tf.function(input_signature=[tf.TensorSpec((2,), name="x"), tf.TensorSpec((), tf.bool, name="y")])
    def pair(self, x, y):
        return {"z": tf.where(y, x, -x)}


def save(folder, scale):
    net = Net(scale)
    signatures = {"serving_default": net.pixels, "jpeg": net.jpeg, "pair": net.pair}
    tf.saved_model.save(net, str(folder), signatures=signatures)


def png(shade, size=5):
    return tf.io.encode_png(np.full((size, size + 1, 3), shade, np.uint8)).numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    save(root / "net" / "9", scale=1)
    save(root / "net" / "12", scale=2)
    (root / "net" / "99.tmp").mkdir()
    (root / "net" / "latest").mkdir()
    (root / "empty").mkdir()
    (root / "broken" / "3").mkdir(parents=True)
    (root / "broken" / "3" / "saved_model.pb").write_bytes(b"\xffno model")
    (root / "hollow" / "1").mkdir(parents=True)
    (root / "notes.txt").write_text("no model")
    return root


@pytest.fixture(scope="module")
def server(folder):
    with Server(folder, port=0) as server:
        yield server


@pytest.fixture
def client(server):
    with Client(f"127.0.0.1:{server.port}") as client:
        yield client


@pytest.fixture
def stub(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def refusal(call, *arguments, **keywords):
    with pytest.raises(ServingError) as caught:
        call(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return caught.value.code, str(caught.value)


def test_the_newest_version_of_every_model_is_live_and_failures_are_told(server):
    assert server.models == {"net": 12}
    assert set(server.failures) == {"broken", "hollow"}
    assert all(reason and "\n" not in reason for reason in server.failures.values())


def test_pixels_and_bytes_give_the_same_answer_as_the_model(client):
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    expected = 2 * image.reshape(-1, 3).mean(0, dtype="float64")
    pixels = client.predict("net", image)
    assert pixels["mean"].shape == (1, 3) and pixels["mean"].dtype == np.float32
    np.testing.assert_allclose(pixels["mean"][0], expected, rtol=1e-5)
    assert pixels["best"].dtype == np.int32 and pixels["best"][0] == expected.argmax()
    encoded = client.predict("net", tf.io.encode_png(image).numpy())
    np.testing.assert_allclose(encoded["mean"][0], expected, rtol=1e-5)


def test_a_batch_of_images_of_different_sizes_keeps_its_order(client):
    answer = client.predict("net", [png(shade, size) for shade, size in ((10, 3), (20, 30), (30, 7))])
    np.testing.assert_allclose(answer["mean"][:, 0], [20, 40, 60])


def test_a_batch_larger_than_grpcs_default_limit_passes(client):
    images = np.full((2, 1024, 1024, 3), 5, np.float32)  # 24 MiB
    np.testing.assert_allclose(client.predict("net", images)["mean"], np.full((2, 3), 10.0), rtol=1e-4)


def test_named_inputs_pass_to_any_signature(client):
    x = np.array([1, 2], "float32")
    assert client.predict("net", {"x": x, "y": np.array(False)}, signature="pair")["z"].tolist() == [-1, -2]


def test_only_the_outputs_asked_for_come_back(client):
    assert set(client.predict("net", png(1), outputs=["size"])) == {"size"}
    code, message = refusal(client.predict, "net", png(1), outputs=["sizes"])
    assert code == "INVALID_ARGUMENT" and message.endswith(
        "output tensor alias not found in signature: sizes Outputs expected to be in the set {mean,size}.")
    code, message = refusal(client.predict, "net", png(1), outputs=["size", "size"])
    assert (code, "duplicate output tensor alias: size" in message) == ("INVALID_ARGUMENT", True)


def test_status_tells_what_is_available_and_what_failed(client):
    assert client.status("net") == [{"version": 12, "state": "AVAILABLE", "code": 0, "message": ""}]
    (broken,) = client.status("broken")
    assert (broken["version"], broken["state"]) == (3, "END") and broken["code"] and broken["message"]
    assert client.status("net", version=12)[0]["state"] == "AVAILABLE"


def test_metadata_gives_names_types_and_shapes(client):
    metadata = client.metadata("net")
    assert set(metadata) == {"serving_default", "jpeg", "pair"}
    assert metadata["serving_default"]["inputs"] == {"image": ("float32", (None, None, None, 3))}
    assert metadata["jpeg"] == {"inputs": {"jpeg": ("string", (None,))},
                                "outputs": {"mean": ("float32", (None, 3)), "size": ("int32", (None,))}}
    assert metadata["pair"]["inputs"] == {"x": ("float32", (2,)), "y": ("bool", ())}


def test_a_pinned_version_must_be_live(client):
    assert set(client.predict("net", png(1), version=12)) == {"mean", "size"}
    code, message = refusal(client.predict, "net", png(1), version=9)
    assert code == "NOT_FOUND"
    assert message == (
        f"{client.host}, model 'net': NOT_FOUND: Servable not found for request: Specific(net, 9)")
    code, message = refusal(client.status, "net", version=9)
    assert (code, "Could not find version 9 of model net" in message) == ("NOT_FOUND", True)
    assert refusal(client.metadata, "net", version=9)[0] == "NOT_FOUND"


@pytest.mark.parametrize("model", ["other", "broken", "empty", "notes.txt"])
def test_a_model_that_is_not_live_is_not_found(client, model):
    code, message = refusal(client.predict, model, png(1))
    assert (code, f"Servable not found for request: Latest({model})" in message) == ("NOT_FOUND", True)
    assert refusal(client.metadata, model)[0] == "NOT_FOUND"


def test_the_status_of_an_unknown_model_is_not_found(client):
    code, message = refusal(client.status, "other")
    assert (code, "Could not find any versions of model other" in message) == ("NOT_FOUND", True)


def test_a_wrong_signature_is_a_failed_precondition(client):
    code, message = refusal(client.predict, "net", png(1), signature="from_jpeg")
    assert (code, 'Serving signature key "from_jpeg" not found.' in message) == ("FAILED_PRECONDITION", True)


@pytest.mark.parametrize("inputs, reason", [
    ({"picture": np.ones((1, 2, 2, 3), "float32")}, "Signature input alias: image(feed name: "),
    ({"image": np.ones((1, 2, 2, 3), "float32"), "more": np.ones(1)},
     "input size does not match signature: 2!=1 len({image,more}) != len({image}). "
     "Sent extra: {more}. Missing but required: {}."),
    ({}, "input size does not match signature: 0!=1 len({}) != len({image}). "
         "Sent extra: {}. Missing but required: {image}."),
    ({"image": [b"bytes"]}, "Expects arg[0] to be float but string is provided (input image)"),
    ({"image": np.ones((1, 2, 2, 3), "uint8")}, "Expects arg[0] to be float but uint8 is provided (input i"),
    ({"image": np.ones((2, 2, 3), "float32")},
     "input image has shape (2, 2, 3), the signature takes (None, None, None, 3)"),
    ({"image": np.ones((1, 2, 2, 4), "float32")}, "input image has shape (1, 2, 2, 4)"),
])
def test_inputs_that_are_not_the_signatures_are_invalid_and_named(client, inputs, reason):
    code, message = refusal(client.predict, "net", inputs)
    assert code == "INVALID_ARGUMENT" and reason in message


def test_a_bad_image_fails_only_its_own_request(client):
    code, message = refusal(client.predict, "net", b"no image at all")
    assert code == "INVALID_ARGUMENT"
    assert "image" in message and "{{node" not in message and "[Op:" not in message and "batch" not in message
    code, _ = refusal(client.predict, "net", tf.io.encode_jpeg(np.zeros((40, 40, 3), np.uint8)).numpy()[:30])
    assert code == "INVALID_ARGUMENT"
    assert refusal(client.predict, "net", b"")[0] == "INVALID_ARGUMENT"
    np.testing.assert_allclose(client.predict("net", png(3))["mean"], [[6, 6, 6]])


def test_a_bad_image_in_a_batch_is_named_by_its_index(client):
    code, message = refusal(client.predict, "net", [png(1), b"bad", png(2), b"worse", png(3)])
    assert code == "INVALID_ARGUMENT" and "jpeg[1], jpeg[3] of a batch of 5: " in message
    assert len(client.predict("net", [png(1), png(2)])["mean"]) == 2


def test_a_long_list_of_bad_images_still_fits_the_status(client):
    code, message = refusal(client.predict, "net", [b"bad"] * 300)
    assert code == "INVALID_ARGUMENT" and "jpeg[0], jpeg[1]" in message and len(message) < 1200


def test_many_clients_at_once_each_get_their_own_answer(server):
    def ask(shade):
        with Client(f"127.0.0.1:{server.port}") as client:
            if shade % 5 == 0:
                return refusal(client.predict, "net", b"bad")[0]
            return [float(client.predict("net", png(shade))["mean"][0, 0]) for _ in range(5)]

    with futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(24)))
    assert answers == [[2.0 * shade] * 5 if shade % 5 else "INVALID_ARGUMENT" for shade in range(24)]


def test_one_client_may_be_shared_between_threads(client):
    with futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda shade: client.predict("net", png(shade))["mean"][0, 0], range(40)))
    assert answers == [2.0 * shade for shade in range(40)]


def test_the_official_stub_gets_official_answers(server, stub):
    request = predict_pb2.PredictRequest(model_spec={"name": "net", "signature_name": "jpeg"})
    request.inputs["jpeg"].CopyFrom(tf.make_tensor_proto([png(4), png(5)]))
    reply = stub.Predict(request)
    assert (reply.model_spec.name, reply.model_spec.version.value, reply.model_spec.signature_name) == (
        "net", 12, "jpeg")
    np.testing.assert_allclose(tf.make_ndarray(reply.outputs["mean"])[:, 0], [8, 10])

    request = predict_pb2.PredictRequest(model_spec={"name": "net"})
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(1.0, shape=(1, 2, 2, 3)))  # one float_val for all
    reply = stub.Predict(request)
    assert reply.model_spec.signature_name == "serving_default"
    np.testing.assert_allclose(tf.make_ndarray(reply.outputs["mean"]), [[2, 2, 2]])

    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec={"name": "net"}, metadata_field=["signature_def"])
    signatures = get_model_metadata_pb2.SignatureDefMap()
    reply = stub.GetModelMetadata(request)
    assert reply.model_spec.version.value == 12 and reply.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["jpeg"].method_name == "tensorflow/serving/predict"

    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(
            get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "net"}))
    assert status.model_version_status[0].state == get_model_status_pb2.ModelVersionStatus.AVAILABLE


def test_requests_the_client_never_sends_are_refused_in_tensorflow_servings_words(stub):
    image = tf.make_tensor_proto(1.0, shape=(1, 2, 2, 3))
    odd_shape = predict_pb2.PredictRequest(model_spec={"name": "net"})
    odd_shape.inputs["image"].dtype = 1
    odd_shape.inputs["image"].tensor_shape.dim.add(size=-7)
    odd_type = predict_pb2.PredictRequest(model_spec={"name": "net"})
    odd_type.inputs["image"].dtype = 999
    metadata = get_model_metadata_pb2.GetModelMetadataRequest
    for call, request, reason in [
            (stub.Predict, predict_pb2.PredictRequest(inputs={"image": image}), "Missing ModelSpec"),
            (stub.Predict, predict_pb2.PredictRequest(model_spec={"signature_name": "jpeg"}),
             "ModelSpec has no name specified."),
            (stub.Predict, predict_pb2.PredictRequest(model_spec={"name": "net", "version_label": "stable"}),
             "Unrecognized servable version label: stable"),
            (stub.Predict, odd_shape, "tensor parsing error: image: "),
            (stub.Predict, odd_type, "Expects arg[0] to be float but an unknown type is provided"),
            (stub.GetModelMetadata, metadata(model_spec={"name": "net"}),
             "GetModelMetadataRequest must specify at least one metadata_field"),
            (stub.GetModelMetadata, metadata(model_spec={"name": "net"}, metadata_field=["graph"]),
             "Metadata field graph is not supported")]:
        with pytest.raises(grpc.RpcError) as caught:
            call(request)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details().startswith(reason)


def write_warmup(version, *records):
    (version / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(version / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for record in records:
            writer.write(record.SerializeToString())


def warmup(**inputs):
    log = wire.PredictionLog()
    log.predict_log.request.model_spec.name = "net"
    for name, value in inputs.items():
        log.predict_log.request.inputs[name].CopyFrom(wire.to_tensor(value))
    return log


def test_warmup_requests_are_replayed_before_going_live(tmp_path):
    save(tmp_path / "net" / "1", scale=1)
    image = np.zeros((1, 2, 2, 3), "float32")
    write_warmup(tmp_path / "net" / "1", warmup(image=image), wire.PredictionLog(), warmup(image=image))
    with Server(tmp_path, port=0) as server, Client(f"127.0.0.1:{server.port}") as client:
        assert client.predict("net", image)["calls"] == 3


def test_a_failing_warmup_request_keeps_the_model_from_going_live(tmp_path):
    save(tmp_path / "net" / "1", scale=1)
    write_warmup(tmp_path / "net" / "1", warmup(picture=np.zeros(3, "float32")))
    with pytest.raises(InputError, match="net: .*Signature input alias: image"):
        Server(tmp_path, port=0).start()


@pytest.mark.parametrize("given, reason", [
    ("missing", "No folder .*missing"),
    ("bare", "No model in .*Export one into it: "),
    ("models/net", "No model in .*Give its parent, "),
    ("models", r"No model in .* loads \(net: .*Export it again"),
])
def test_a_folder_without_a_model_is_one_line(tmp_path, given, reason):
    (tmp_path / "bare").mkdir()
    (tmp_path / "models" / "net" / "1").mkdir(parents=True)
    threads = threading.active_count()
    with pytest.raises(InputError, match=reason) as caught:
        Server(tmp_path / given, port=0).start()
    assert "\n" not in str(caught.value)
    assert threading.active_count() <= threads + 2


def test_a_taken_port_is_one_line(server, folder):
    with pytest.raises(InputError, match=f"port {server.port}: it is taken"):
        Server(folder, port=server.port).start()


def test_a_stopped_server_frees_its_port_and_ends_wait(folder):
    server = Server(folder, port=0).start()
    waiting = threading.Thread(target=server.wait)
    waiting.start()
    server.stop()
    waiting.join(10)
    assert not waiting.is_alive()
    with Server(folder, port=server.port) as again, Client(f"127.0.0.1:{again.port}") as client:
        assert client.status("net")[0]["state"] == "AVAILABLE"


def test_stopping_what_never_started_does_nothing(folder):
    Server(folder).stop()


def test_without_the_serving_protos_the_import_names_the_extra():
    code = "import sys; sys.modules['tensorflow_serving'] = None; import keras_cnns.serving.server"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert 'pip install "keras_cnns[serving]"' in done.stderr.splitlines()[-1]
