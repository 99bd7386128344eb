"""Reads an export from a bucket with pyarrow. Arguments: endpoint, access key, secret key, bucket and prefix.

Prints one line for each frame: its offset, and the CRC-32 of its payload.
"""

import sys
import zlib

import pyarrow.dataset as ds
from pyarrow.fs import FileSelector, S3FileSystem

endpoint, access_key, secret_key, path = sys.argv[1:]
store = S3FileSystem(
    access_key=access_key,
    secret_key=secret_key,
    endpoint_override=endpoint,
    scheme="http",
    region="us-east-1",
)
infos = store.get_file_info(FileSelector(path, recursive=True))
files = [info.path for info in infos if info.path.endswith(".parquet")]
frames = ds.dataset(files, filesystem=store, format="parquet").to_table(columns=["offset", "payload"])
for offset, payload in zip(frames["offset"], frames["payload"]):
    print(offset.as_py(), zlib.crc32(payload.as_py()))
