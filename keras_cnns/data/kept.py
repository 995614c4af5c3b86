"""Arrays that were kept in files, of which any may be damaged or another program's: then they are made anew."""

import tokenize
import zipfile
import zlib

import numpy as np

DAMAGE = (OSError, ValueError, KeyError, EOFError, TypeError, RuntimeError, MemoryError, SyntaxError, zlib.error,
          tokenize.TokenError, zipfile.BadZipFile)  # what NumPy says of it


def arrays(path, keys):
    """The arrays of an .npz file by their names; None if it is not there, damaged, or lacks one."""
    try:
        with np.load(path) as contents:
            return {key: contents[key] for key in keys}
    except DAMAGE:
        return None


def rows(path, dtype):
    """The rows of an .npy file, which stay on disk; None if it is not there, damaged, or has others."""
    try:
        found = np.load(path, mmap_mode="r")
    except DAMAGE:
        return None
    return found if isinstance(found, np.ndarray) and found.dtype == dtype else None
