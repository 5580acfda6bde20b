"""What several runs show together: records, tables of paired differences, and comparisons that are fair three ways."""

from .measures import ACCURACY, NATS, TO_TRUTH, Measure, measures_of
from .protocol import PLAN, WAYS, Study, gradient_norm, read_failures, run_study
from .records import append_record, keep_records, read_records
from .results import StudyResults, read_study
from .tables import (
    Line,
    compare_records,
    describe_method,
    format_lines,
    plus_minus,
    summarize,
    tidy,
    weights_of,
)

push = gradient_norm  # its older name

__all__ = [
    "ACCURACY",
    "NATS",
    "PLAN",
    "TO_TRUTH",
    "WAYS",
    "Line",
    "Measure",
    "Study",
    "StudyResults",
    "append_record",
    "compare_records",
    "describe_method",
    "format_lines",
    "gradient_norm",
    "keep_records",
    "measures_of",
    "plus_minus",
    "read_failures",
    "read_records",
    "read_study",
    "run_study",
    "summarize",
    "tidy",
    "weights_of",
]
