"""Loading tables: publishers' files with a checksum, the user's own, and how rows are split."""

from farfield.data.new_rows import NewRows, encode_new
from farfield.data.prepare import Prepared, prepare
from farfield.data.sources import (
    ABALONE,
    PROTEIN,
    Source,
    load_abalone,
    load_diabetes,
    load_protein,
    locate,
)
from farfield.data.split import Domains, split_by_group, split_by_threshold, train_test_rows
from farfield.data.table import digest, read_table

__all__ = [
    "ABALONE",
    "PROTEIN",
    "Domains",
    "NewRows",
    "Prepared",
    "Source",
    "digest",
    "encode_new",
    "load_abalone",
    "load_diabetes",
    "load_protein",
    "locate",
    "prepare",
    "read_table",
    "split_by_group",
    "split_by_threshold",
    "train_test_rows",
]
