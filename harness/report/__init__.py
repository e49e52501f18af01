"""History and verdicts as a page that a person would rather look at than read.

`write_page` writes one run as one HTML file without network, `write_comparison` two of one test over one time
axis, `write_index` a session's index. They know only values (history, verdicts, logs as files), so that any
stored history can be shown again without a cluster.
"""

from harness.report.compare import write_comparison
from harness.report.index import Entry, write_index
from harness.report.page import Page, write_page

__all__ = ["Entry", "Page", "write_comparison", "write_index", "write_page"]
