"""Progress bars, and lines that do not run into them."""

import os
import threading
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


class Bar(tqdm):
    """A bar that starts nothing: tqdm's own has a thread that never ends, and a lock that processes share.

    Whoever is killed while it holds such a lock would stop the others.
    """

    monitor_interval = 0
    _lock = threading.RLock()

    @classmethod
    def shown(cls, items: Iterable[Any] | None = None, **named: Any) -> "Bar":
        """A bar with a rate; silent where the output is no terminal. It looks at the clock at every item."""
        return cls(items, miniters=1, disable=None, dynamic_ncols=True, **named)


os.register_at_fork(after_in_child=lambda: Bar.set_lock(threading.RLock()))
