"""Takes the space packets out of a recording of Suomi NPP. Argument: the file with the CADUs.

Written from the standards alone: 131.0-B (marker and pseudo-random sequence), 732.0-B (AOS frames, whose first header
pointers say where packets begin) and 133.0-B (packets). Prints the bytes of each packet in hexadecimal, one packet a line.
Leaves out idle packets and packets of which a part is missing.
"""

import sys

MARKER = bytes.fromhex("1acffc1d")
CADU_BYTES = 1024
# Without the marker and 128 check symbols of Reed-Solomon.
FRAME_BYTES = 892
FRAME_HEADER_BYTES, POINTER_BYTES, PACKET_HEADER_BYTES = 6, 2, 6
SPACECRAFT, IDLE_CHANNEL, IDLE_APID = 157, 63, 0x7FF
# First header pointers: no packet begins in the frame; the frame has nothing but fill.
NO_BEGIN, FILL = 0x7FF, 0x7FE


def pseudo_random(count):
    """The first bytes of the sequence of x^8 + x^7 + x^5 + x^3 + 1, which begins with all ones."""
    bits = [1] * 8
    while len(bits) < 8 * count:
        bits.append(bits[-8] ^ bits[-5] ^ bits[-3] ^ bits[-1])
    return bytes(int("".join(map(str, bits[at : at + 8])), 2) for at in range(0, 8 * count, 8))


def frames(recording):
    """The transfer frames, derandomised."""
    sequence = pseudo_random(FRAME_BYTES)
    for at in range(0, len(recording), CADU_BYTES):
        assert recording[at : at + 4] == MARKER, f"no marker at byte {at}"
        block = recording[at + 4 : at + 4 + FRAME_BYTES]
        yield bytes(byte ^ mask for byte, mask in zip(block, sequence))


def zones(all_frames):
    """For each frame with packets: its channel, whether frames are missing before it, and the bytes before and behind
    its first header pointer. The latter are None where no packet begins."""
    next_count = {}
    for frame in all_frames:
        version, spacecraft = frame[0] >> 6, (frame[0] & 0x3F) << 2 | frame[1] >> 6
        assert (version, spacecraft) == (1, SPACECRAFT), "an AOS frame of Suomi NPP"
        channel, count = frame[1] & 0x3F, int.from_bytes(frame[2:5], "big")
        pointer = int.from_bytes(frame[6:8], "big") & 0x7FF
        if channel == IDLE_CHANNEL:
            continue
        is_gap = next_count.get(channel) != count
        next_count[channel] = (count + 1) % 2**24
        zone = frame[FRAME_HEADER_BYTES + POINTER_BYTES :]
        if pointer == NO_BEGIN:
            yield channel, is_gap, zone, None
        elif pointer != FILL:
            yield channel, is_gap, zone[:pointer], zone[pointer:]


def length_of(packet):
    """The length that the header says; None where the header is not complete."""
    if len(packet) < PACKET_HEADER_BYTES:
        return None
    return PACKET_HEADER_BYTES + 1 + int.from_bytes(packet[4:6], "big")


def packets(all_zones):
    """The packets of all channels, idle ones included, in the order in which they end."""
    begun = {}
    for channel, is_gap, before, behind in all_zones:
        packet = None if is_gap else begun.get(channel)
        if packet is not None:
            packet += before
        if behind is not None:
            if packet:
                assert len(packet) == length_of(packet), "a packet ends where the next one begins"
                yield packet
            packet = behind
            while (length := length_of(packet)) is not None and length <= len(packet):
                yield packet[:length]
                packet = packet[length:]
        begun[channel] = packet


with open(sys.argv[1], "rb") as file:
    content = file.read()
for packet in packets(zones(frames(content))):
    if int.from_bytes(packet[:2], "big") & 0x7FF != IDLE_APID:
        print(packet.hex())
