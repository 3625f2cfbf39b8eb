"""The projections of an event, one a file: spans, metrics, event records.  A new output is one new file here."""
