"""Sends 100 space packets to the link `clipper`: APID 100, the time as CUC since J2000, and a number of 4 bytes."""

import socket
import struct
import time

# The epoch J2000 in unix time, and the leap seconds since then.
J2000, LEAP_SECONDS = 946727935.816, 5

link = socket.create_connection(("127.0.0.1", 7490))
for count in range(100):
    elapsed = time.time() - J2000 + LEAP_SECONDS
    seconds, fraction = int(elapsed), int(elapsed % 1 * 65536)
    content = struct.pack(">IHI", seconds, fraction, count)
    link.sendall(struct.pack(">HHH", 0x0800 | 100, 0xC000 | count, len(content) - 1) + content)
