"""Records: what was run and what came out, as lines of JSON and files of weights."""
