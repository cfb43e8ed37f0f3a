"""What is left of a run: recipes in pictures and result files, and HTML reports."""
