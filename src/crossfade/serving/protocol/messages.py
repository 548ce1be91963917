"""The messages of the Open Inference Protocol over gRPC, as protocol buffer classes built when they are first used.

They are built from the table here and not by `protoc`: generated modules demand one range of protobuf releases, and
register their names for the whole process, where a program that also imports another client of the protocol could
not load them. These live in a pool of their own. Fields that Crossfade neither reads nor writes are left out; the
wire format passes over them.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/open_inference_grpc.proto;
for statistics, configuration and repository, the extensions that `statistics` and `configuration` name.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from crossfade.errors import MissingExtraError

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_NAMED = "string name = 1; string version = 2"
_TENSOR = "string name = 1; string datatype = 2; repeated int64 shape = 3"
_CONTENTS = "map InferParameter parameters = 4; InferTensorContents contents = 5"
_ASPECTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")
_COMPUTED = "compute_input = 2; StatisticDuration compute_infer = 3; StatisticDuration compute_output = 4"

SCHEMA: dict[str, str] = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "bool live = 1",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "bool ready = 1",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "string name = 1; string version = 2; repeated string extensions = 3",
    "ModelReadyRequest": _NAMED,
    "ModelReadyResponse": "bool ready = 1",
    "TensorMetadata": _TENSOR,
    "ModelMetadataRequest": _NAMED,
    "ModelMetadataResponse": (
        "string name = 1; repeated string versions = 2; string platform = 3; "
        "repeated TensorMetadata inputs = 4; repeated TensorMetadata outputs = 5"
    ),
    "InferParameter": (
        "oneof bool bool_param = 1; oneof int64 int64_param = 2; oneof string string_param = 3; "
        "oneof double double_param = 4; oneof uint64 uint64_param = 5"
    ),
    "InferTensorContents": (
        "repeated bool bool_contents = 1; repeated int32 int_contents = 2; repeated int64 int64_contents = 3; "
        "repeated uint32 uint_contents = 4; repeated uint64 uint64_contents = 5; repeated float fp32_contents = 6; "
        "repeated double fp64_contents = 7; repeated bytes bytes_contents = 8"
    ),
    "InferInputTensor": f"{_TENSOR}; {_CONTENTS}",
    "InferRequestedOutputTensor": "string name = 1; map InferParameter parameters = 2",
    "InferOutputTensor": f"{_TENSOR}; {_CONTENTS}",
    "ModelInferRequest": (
        "string model_name = 1; string model_version = 2; string id = 3; map InferParameter parameters = 4; "
        "repeated InferInputTensor inputs = 5; repeated InferRequestedOutputTensor outputs = 6; "
        "repeated bytes raw_input_contents = 7"
    ),
    "ModelInferResponse": (
        "string model_name = 1; string model_version = 2; string id = 3; map InferParameter parameters = 4; "
        "repeated InferOutputTensor outputs = 5; repeated bytes raw_output_contents = 6"
    ),
    "StatisticDuration": "uint64 count = 1; uint64 ns = 2",
    "InferStatistics": "; ".join(f"StatisticDuration {name} = {number}" for number, name in enumerate(_ASPECTS, 1)),
    "InferBatchStatistics": f"uint64 batch_size = 1; StatisticDuration {_COMPUTED}",
    "ModelStatistics": (
        "string name = 1; string version = 2; uint64 last_inference = 3; uint64 inference_count = 4; "
        "uint64 execution_count = 5; InferStatistics inference_stats = 6; repeated InferBatchStatistics batch_stats = 7"
    ),
    "ModelStatisticsRequest": _NAMED,
    "ModelStatisticsResponse": "repeated ModelStatistics model_stats = 1",
    "ModelTensorReshape": "repeated int64 shape = 1",
    "ModelInput": ("string name = 1; DataType data_type = 2; repeated int64 dims = 4; ModelTensorReshape reshape = 5"),
    "ModelOutput": ("string name = 1; DataType data_type = 2; repeated int64 dims = 3; ModelTensorReshape reshape = 5"),
    "ModelDynamicBatching": "uint64 max_queue_delay_microseconds = 2",
    "ModelConfig": (
        "string name = 1; string platform = 2; string backend = 17; int32 max_batch_size = 4; "
        "repeated ModelInput input = 5; repeated ModelOutput output = 6; "
        "oneof ModelDynamicBatching dynamic_batching = 11"
    ),
    "ModelConfigRequest": _NAMED,
    "ModelConfigResponse": "ModelConfig config = 1",
    "ModelIndex": "string name = 1; string version = 2; string state = 3; string reason = 4",
    "RepositoryIndexRequest": "string repository_name = 1; bool ready = 2",
    "RepositoryIndexResponse": "repeated ModelIndex models = 1",
    "RepositoryModelLoadRequest": "string repository_name = 1; string model_name = 2",
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": "string repository_name = 1; string model_name = 2",
    "RepositoryModelUnloadResponse": "",
}
"""Message -> its fields, each `[repeated | oneof | map] TYPE NAME = NUMBER`; a map has strings as keys."""

DATA_TYPES = (
    *("INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "STRING"),
)
"""The values of the enum `DataType`, from 0, each without its prefix `TYPE_`."""


@cache
def message_class(name: str) -> Any:
    r"""Return the class of a message of the protocol.

    Raises:
        MissingExtraError: protobuf is not installed.

    Example:
        >>> message_class("ServerLiveResponse")(live=True).SerializeToString()
        b'\x08\x01'
    """
    descriptor = _pool().FindMessageTypeByName(f"{PACKAGE}.{name}")
    return import_module("google.protobuf.message_factory").GetMessageClass(descriptor)


@cache
def _pool() -> Any:
    try:
        descriptors = import_module("google.protobuf.descriptor_pb2")
        pools = import_module("google.protobuf.descriptor_pool")
    except ImportError as error:
        raise MissingExtraError(feature="gRPC", package="protobuf", extra="grpc") from error
    file = descriptors.FileDescriptorProto(name="crossfade/inference.proto", package=PACKAGE, syntax="proto3")
    data_type = file.enum_type.add(name="DataType")
    for number, name in enumerate(DATA_TYPES):
        data_type.value.add(name=f"TYPE_{name}", number=number)
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for field in filter(None, fields.split("; ")):
            _add_field(message, field)
    pool = pools.DescriptorPool()
    pool.Add(file)
    return pool


def _add_field(message: Any, text: str) -> None:
    *label, kind, name, _, number = text.split(" ")
    field = message.field.add(name=name, number=int(number))
    field.label = field.LABEL_REPEATED if label in (["repeated"], ["map"]) else field.LABEL_OPTIONAL
    if label == ["oneof"]:
        if not message.oneof_decl:
            message.oneof_decl.add(name="choice")
        field.oneof_index = 0
    if label == ["map"]:
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        _add_field(entry, "string key = 1")
        _add_field(entry, f"{kind} value = 2")
        kind = f"{message.name}.{entry.name}"
    if not kind[0].isupper():
        field.type = getattr(field, f"TYPE_{kind.upper()}")
        return
    field.type = field.TYPE_ENUM if kind == "DataType" else field.TYPE_MESSAGE
    field.type_name = f".{PACKAGE}.{kind}"
