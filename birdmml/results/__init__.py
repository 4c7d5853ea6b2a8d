"""What was measured: outcomes item by item, figures made of them, comparison, tables and pictures."""
