"""Reads packets with the TCP client of OpenC3 COSMOS. Arguments: port, number of packets, protocol and its parameters.

Prints the bytes of each packet in hexadecimal, one packet a line. With PREIDENTIFIED, target and packet name, whether it
is stored and the microseconds of its time stand before them.
"""

import sys

from openc3.interfaces.tcpip_client_interface import TcpipClientInterface

port, count, protocol, *parameters = sys.argv[1:]
interface = TcpipClientInterface("127.0.0.1", "None", port, "10.0", "20.0", protocol, *parameters)
interface.connect()
for _ in range(int(count)):
    packet = interface.read()
    if packet is None:
        sys.exit("no packet came within 20 s")
    names = ""
    if protocol == "PREIDENTIFIED":
        micros = round(packet.received_time.timestamp() * 1_000_000)
        names = f"{packet.target_name} {packet.packet_name} {packet.stored} {micros} "
    print(names + bytes(packet.buffer).hex())
interface.disconnect()
