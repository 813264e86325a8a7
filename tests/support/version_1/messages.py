"""The messages of protocol version 1, from the protos as they were then, beside today's in a pool of their own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

HERE = Path(__file__).parent
SERVICE = "/covey.v1.ActorService/"


def _messages() -> dict[str, Any]:
    """Message classes by name, without their package."""
    files = sorted(path.relative_to(HERE).as_posix() for path in HERE.glob("covey/v1/*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "descriptors"
        if protoc.main(["protoc", f"-I{HERE}", f"--descriptor_set_out={out}", *files]) != 0:
            raise RuntimeError("protoc failed; its message is above")
        described = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in sorted(described.file, key=lambda f: len(f.dependency)):  # those that import nothing come first
        pool.Add(file)
    classes = message_factory.GetMessageClassesForFiles(files, pool)
    return {name.rpartition(".")[2]: found for name, found in classes.items()}


MESSAGES = _messages()
