"""Write a file that only its owner may read, such as a key. It appears whole or not at all, and no link is followed."""

import os
import tempfile
from pathlib import Path


def write_private_file(path: Path, content: bytes, *, replace: bool = False) -> None:
    """Write a new file with mode 600. Blocking.

    Args:
        replace: put it in the place of what has that name; a link is replaced itself.

    Raises:
        FileExistsError: there is something of that name, and it must not be replaced.
        OSError: the file cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as drafts:
        draft = Path(drafts, path.name)
        draft.touch(mode=0o600)
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            draft.replace(path)
        else:
            os.link(draft, path)
