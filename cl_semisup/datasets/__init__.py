"""Data sets, one a file. To add one, write a frozen dataclass whose fields are its settings, with these members:

    views: ClassVar[dict[str, Any]]    the default view settings for its images; a suite may change them
    facts(data_dir) -> Facts           sizes, without loading the images
    prepare(data_dir, download)        check that the data exist, and download them if `download`
    data_files(data_dir) -> paths      the files that it reads; records are stale when their content changes
    load(data_dir) -> Images           all images and labels as arrays

Features are `Images` of float32 (M, F, 1, 1), and their views take features. `default_views(data_dir)`, if there is
such a method, takes the place of `views` where these depend on the files.

Missing or damaged data raise DataError. What is random depends on the settings alone (`cl_semisup.seeds`). A data set
that is computed can inherit `Generated`, and one that torchvision has `_sources.Published`; `_sources.read_archive`
reads an `.npz`. All data sets keep the contract in `cl_semisup.contract.datasets`.
"""

from pathlib import Path

from cl_semisup.data.images import Facts, Images


class Generated:
    """A data set that is computed from its settings: nothing to prepare, no files; its facts are those of its images.

    A subclass has `views` and `load`; it writes `facts` too if the images take long to compute.
    """

    def load(self, data_dir: Path) -> Images:
        raise NotImplementedError(f"{type(self).__name__}.load(data_dir) -> Images")

    def facts(self, data_dir: Path) -> Facts:
        return self.load(data_dir).facts()

    def prepare(self, data_dir: Path, download: bool) -> None:
        """Nothing to prepare."""

    def data_files(self, data_dir: Path) -> tuple[Path, ...]:
        return ()
