"""Tables, plots and the report, made from records alone."""
