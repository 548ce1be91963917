"""The table of messages against another implementation of the protocol, field by field and on the wire."""

from __future__ import annotations

import importlib

import pytest

from crossfade.errors import MissingExtraError
from crossfade.serving.protocol import messages
from crossfade.serving.protocol.messages import DATA_TYPES, SCHEMA, SERVICE, message_class
from crossfade.settings import HttpSettings
from crossfade.web.grpc_service import GrpcService

theirs = pytest.importorskip("tritonclient.grpc.service_pb2")
config = pytest.importorskip("tritonclient.grpc.model_config_pb2")


def their_message(name):
    found = theirs.DESCRIPTOR.message_types_by_name.get(name) or config.DESCRIPTOR.message_types_by_name.get(name)
    if found is not None:
        return found
    nested = [
        inner
        for outer in theirs.DESCRIPTOR.message_types_by_name.values()
        for inner in outer.nested_types
        if inner.name == name
    ]
    return nested[0]


def shape(field):
    entry = field.message_type
    is_map = entry is not None and entry.GetOptions().map_entry
    return {
        "number": field.number,
        "type": field.type,
        "repeated": field.is_repeated,
        "map": [(inner.name, inner.number, inner.type) for inner in entry.fields] if is_map else None,
        "kind": None if entry is None or is_map else entry.name,
        "oneof": field.containing_oneof is not None,
    }


@pytest.mark.parametrize("name", SCHEMA)
def test_every_field_is_what_the_protocol_says(name):
    their_fields = their_message(name).fields_by_name
    for field in message_class(name).DESCRIPTOR.fields:
        assert shape(field) == shape(their_fields[field.name])


def test_data_types_have_their_numbers():
    their_types = config.DESCRIPTOR.enum_types_by_name["DataType"].values_by_name
    assert {name: their_types[f"TYPE_{name}"].number for name in DATA_TYPES} == {
        name: number for number, name in enumerate(DATA_TYPES)
    }


def test_methods_have_their_names_and_messages():
    service = theirs.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert service.full_name == SERVICE
    for name in GrpcService(None, HttpSettings()).methods():
        method = service.methods_by_name[name]
        assert (method.input_type.name, method.output_type.name) == (f"{name}Request", f"{name}Response")


def test_a_request_of_theirs_is_read_and_an_answer_of_ours_is_read_by_them():
    request = theirs.ModelInferRequest(model_name="lr", model_version="1.0.0", id="7", raw_input_contents=[b"\0" * 8])
    request.inputs.add(name="x", datatype="FP64", shape=[1, 1]).parameters["p"].int64_param = 3
    request.parameters["flag"].bool_param = True
    ours = message_class("ModelInferRequest").FromString(request.SerializeToString())
    assert (ours.model_name, ours.id, list(ours.inputs[0].shape)) == ("lr", "7", [1, 1])
    assert ours.inputs[0].parameters["p"].int64_param == 3
    assert ours.parameters["flag"].WhichOneof("choice") == "bool_param"
    assert theirs.ModelInferRequest.FromString(ours.SerializeToString()) == request


def test_fields_that_are_left_out_are_passed_over():
    statistics = theirs.ModelStatistics(name="lr")
    statistics.memory_usage.add(type="CPU", byte_size=7)
    assert message_class("ModelStatistics").FromString(statistics.SerializeToString()).name == "lr"


def test_without_protobuf_it_says_what_to_install(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(messages, "import_module", absent)
    with pytest.raises(MissingExtraError) as caught:
        messages._pool.__wrapped__()
    assert caught.value.hint == "pip install 'crossfade[grpc]'"


def test_names_live_in_a_pool_of_their_own():
    from google.protobuf import descriptor_pool

    default = descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest")
    assert default is theirs.ModelInferRequest.DESCRIPTOR
    assert message_class("ModelInferRequest").DESCRIPTOR is not default
    importlib.reload(messages)  # a second set of classes is no conflict either
    assert messages.message_class("ModelInferRequest")().inputs is not None
