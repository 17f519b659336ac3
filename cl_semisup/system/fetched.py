"""What lies in a file that was not fetched as it should be: a web page, a pointer of Git LFS, half of an archive."""

import re
from typing import IO

from cl_semisup.system import files

HEAD_BYTES = 300  # the mark of a tar archive is at 257
WEB_PAGE = re.compile(rb"\s*<(!doctype|html|head)", re.IGNORECASE)


def instead(file: IO[bytes]) -> tuple[str, str]:
    """(what it is, what to do about it), or ("", "") for anything else. The file is put back to its start."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    cut = head.startswith(b"PK\3\4") and not files.is_zip(file)
    file.seek(0)
    if not head:
        return "an empty file", "Fetch it again, or remove it"
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS", "Run `git lfs pull` where it was cloned"
    if WEB_PAGE.match(head):
        return "a web page", "Fetch the file itself, not the page that offers it"
    if cut:
        return "the beginning of a file", "Fetch it again"
    if head.startswith(b"\x1f\x8b"):
        return "a file packed by gzip", "Unpack it with gunzip"
    return "", ""
