"""Before anything imports TensorFlow: its notes about the machine are not for the reader of a test report."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
