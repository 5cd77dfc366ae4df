"""One page about a run, to be opened in a browser."""

from pointpeft.measure.report.page import write_report, write_run_report
from pointpeft.measure.report.run_page import ReportRun, read_run

__all__ = ["ReportRun", "read_run", "write_report", "write_run_report"]
