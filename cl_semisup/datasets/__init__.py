"""One data set a file: `facts(data_dir)` without loading, `prepare(data_dir, download)`, `load(data_dir)`.

`views` holds the data set's own view settings, which a suite may change.
"""
