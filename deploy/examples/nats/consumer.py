"""Takes the frames of a telemetry aggregator out of a stream of NATS JetStream, each once: docs/scale.md.

    pip install nats-py
    python consumer.py nats://127.0.0.1:4222 TELEMETRY frames.txt

Writes a line for each frame: sequence of the message in the stream, log, lane, offset, source and payload in hexadecimal. The file
is also the position. It ends when the server has forgotten it; let a service manager start it again.
"""

import asyncio
import os
import struct
import sys

import nats
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

HEADER = struct.Struct(">BBBBIQQQqqBBH")  # DELIVER, docs/protocol.md


def frames_of(message):
    """The offset, source and payload of each frame in a message."""
    headers, body = message.headers, message.data
    if "Telemetry-Frames" not in headers:
        yield int(headers["Telemetry-Offset"]), headers["Telemetry-Source"], body
        return
    while body:
        (length,) = struct.unpack_from(">I", body)
        deliver, body = body[4 : 4 + length], body[4 + length :]
        _, _, payload_at, _, source, offset, *_ = HEADER.unpack_from(deliver)
        yield offset, str(source), deliver[payload_at:]


async def main(server, stream, path):
    seen = {}  # the last offset of each lane of each log
    sequence = 1
    with open(path, "a+b") as out:
        out.seek(0)
        known = out.read()
        out.truncate(known.rfind(b"\n") + 1)  # a line that a crash cut off comes again
        for line in known[: known.rfind(b"\n") + 1].decode().splitlines():
            sequence, log, lane, offset, *_ = line.split()
            seen[log, lane] = int(offset)
        bus = await nats.connect(server)
        policies = {"deliver_policy": DeliverPolicy.BY_START_SEQUENCE, "ack_policy": AckPolicy.NONE}
        begin = ConsumerConfig(opt_start_seq=int(sequence), **policies)
        reader = await bus.jetstream().pull_subscribe("", stream=stream, config=begin)
        while True:
            try:
                messages = await reader.fetch(256, timeout=5)
            except nats.errors.TimeoutError:
                continue
            for message in messages:
                key = message.headers["Telemetry-Log"], message.headers["Telemetry-Lane"]
                for offset, source, payload in frames_of(message):
                    if offset > seen.get(key, -1):
                        seen[key] = offset
                        at = message.metadata.sequence.stream
                        out.write(f"{at} {' '.join(key)} {offset} {source} {payload.hex()}\n".encode())
            out.flush()
            os.fsync(out.fileno())


asyncio.run(main(*sys.argv[1:]))
