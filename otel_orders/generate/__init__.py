"""What a lifecycle decides elsewhere: one file for each kind of output.  Pure: from a lifecycle to text, no files."""
