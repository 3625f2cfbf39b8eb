"""What the ledger's store takes: status events in batches, of random orders among many open ones.

The store with its open orders is made once and kept in the temporary folder; ``ORDERS=200000`` says how many there are,
``SIZE=full`` means a million.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from itertools import batched
from pathlib import Path
