"""Files that hold images or labels in a form that is not read here, and the line that makes one that is."""

from pathlib import Path

_SAVE = 'np.savez("x.npz", train_images=x, train_labels=y)'
_ARRAYS = {
    "h5": f'Make one: `f = h5py.File("{{0}}"); x, y = f["x"][:], f["y"][:].ravel(); {_SAVE}`',
    "mat": 'Make one: `m = scipy.io.loadmat("{0}"); x, y = m["X"].transpose(3, 0, 1, 2), m["y"].ravel() % 10; '
    f"{_SAVE}`, or name the data set `svhn`",
    "npy": 'Make one: `np.savez("x.npz", train_images=np.load("x_train.npy"), train_labels=np.load("y_train.npy"))`',
    "pt": f'Make one: `x, y = (t.numpy() for t in torch.load("{{0}}", weights_only=True)); {_SAVE}`',
    "pkl": f'Make one, if the file is your own: `x, y = pickle.load(open("{{0}}", "rb")); {_SAVE}`',
    "csv": 'Make one: `t = pd.read_csv("{0}"); y = t.pop("label"); x = t.to_numpy("uint8").reshape(-1, 28, 28); '
    f"{_SAVE}`",
    "parquet": "Write `huggingface: {{folder: ...}}`, which reads parquet files",
    "tar": "Write `webdataset: {{train: ...}}`, which reads shards; class folders are unpacked by `tar xf {0}`",
    "zip": "Unpack it, `unzip {0}`, and name its folder in `image_folder`",
    "bin": "Write `stl10` or `cifar10`, which read the published files",
}
_ARRAYS |= {"hdf5": _ARRAYS["h5"], "pth": _ARRAYS["pt"], "pickle": _ARRAYS["pkl"], "gz": _ARRAYS["tar"]}
_TABLES = {
    "xlsx": '`pd.read_excel("{0}").to_csv("{1}.csv", index=False)`',
    "parquet": '`pd.read_parquet("{0}").to_csv("{1}.csv", index=False)`',
    "jsonl": '`pd.read_json("{0}", lines=True).to_csv("{1}.csv", index=False)`',
    "json": '`pd.read_json("{0}").to_csv("{1}.csv", index=False)`, with a row for each image',
}
_TABLES["mat"] = (
    '`m = scipy.io.loadmat("{0}", squeeze_me=True); pd.DataFrame({{"file": m["files"], "label": m["labels"]}})'
    '.to_csv("{1}.csv", index=False)`, by the names that `m.keys()` tells'
)
_TABLES |= {"xls": _TABLES["xlsx"]}
_NO_PICTURES = (
    "xml",
    "json",
    "jsonl",
    "txt",
    "csv",
    "tsv",
    "npy",
    "npz",
    "mat",
    "md",
    "html",
    "mp4",
    "avi",
    "zip",
    "tar",
)
_PICTURES = ("heic", "heif", "avif", "svg", "jp2", "dng", "cr2", "nef", "psd", "tga", "dcm", "ico", "jxl", "exr")


def array_remedy(path: Path) -> str:
    """How to make an `.npz` of a file; "" for one that may be one."""
    if path.name.startswith(("data_batch", "test_batch")) or path.name in ("train", "test"):
        return "Write `cifar10` or `cifar100`, which read the published files"
    return _ARRAYS.get(path.suffix[1:].lower(), "").format(path.name)


def table_remedy(path: Path) -> str:
    """How to make a CSV of a table; "" for one that may be text."""
    return _TABLES.get(path.suffix[1:].lower(), "").format(path.name, path.stem)


def image_remedy(name: str) -> str:
    """What to do about a file that is no image which can be read."""
    stem, _, ending = name.rpartition("/")[2].rpartition(".")
    if ending.lower() in ("tif", "tiff"):
        return "Set `channels` to the number of its bands, if there are many; else mend or remove it"
    if ending.lower() in _PICTURES:
        return f"Convert it, for instance `magick {stem}.{ending} {stem}.png`"
    if ending.lower() in _NO_PICTURES:
        return f"Move such files out, for instance `find . -name '*.{ending}' -exec mv -t ~ {{}} +`"
    return "Mend or remove it"
