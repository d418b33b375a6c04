"""The report as one HTML page that can be passed on: it needs nothing but itself."""

from fedsim.report.document.pictures import picture
from fedsim.report.document.render import render

__all__ = ["picture", "render"]
