"""What several runs say together: records, tables of paired differences, and comparisons that are fair three ways."""

from .protocol import WAYS, Study, push, run_study
from .records import append_record, read_records
from .tables import Row, describe_method, format_table, summarize

__all__ = [
    "WAYS",
    "Row",
    "Study",
    "append_record",
    "describe_method",
    "format_table",
    "push",
    "read_records",
    "run_study",
    "summarize",
]
