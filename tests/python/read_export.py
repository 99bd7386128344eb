"""Reads an export with Polars and prints it as JSON lines: the schema first, then each row, payloads in hexadecimal."""

import json
import sys

import polars as pl

frames = pl.read_parquet(f"{sys.argv[1]}/**/*.parquet", hive_partitioning=True)
print(json.dumps({name: str(kind) for name, kind in frames.schema.items()}))
frames = frames.with_columns(
    pl.col("ert").dt.epoch("ns"),
    pl.col("received").dt.epoch("ns"),
    pl.col("date").cast(pl.String),
    pl.col("payload").bin.encode("hex"),
)
for row in frames.sort("offset").iter_rows(named=True):
    print(json.dumps(row))
