"""Turns results of audits into one page that opens offline."""
