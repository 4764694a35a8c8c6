"""What people look at after a run: tables, records, the summary, pictures."""
