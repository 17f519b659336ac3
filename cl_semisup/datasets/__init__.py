"""Data sets, one a file. To add one, write a frozen dataclass whose fields are its settings, with these members:

    views: ClassVar[dict[str, Any]]    the default view settings for its images; a suite may change them
    facts(data_dir) -> Facts           sizes, without loading the images
    prepare(data_dir, download)        check that the data exist, and download them if `download`
    load(data_dir) -> Images           all images and labels as arrays

Features are `Images` of float32 (M, F, 1, 1), and their views take features. `default_views(data_dir)`, if there is
such a method, takes the place of `views` where these depend on the files.

Missing or damaged data raise DataError. What is random depends on the settings alone (`cl_semisup.seeds`). A data set
that torchvision has can inherit `_sources.Published`; `_sources.read_archive` reads an `.npz`.
"""
