"""Downloads that resume, check what they got, keep to a server's pace, and note what became of every file."""
