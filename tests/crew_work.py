"""What processes of a crew do in tests; imports little, since they start with it."""

import json
import os
import time

from vjepa_mlflow.runtime.channel import Channel
from vjepa_mlflow.runtime.crew_member import serve_jobs


def work(channel: Channel) -> None:
    """Works for so many seconds as it is told, and says which process it is; or ends, if that is less than none."""
    with serve_jobs(channel) as jobs:
        while message := jobs.recv(1000):
            seconds = json.loads(message)
            if seconds < 0:
                os._exit(1)
            begun = time.process_time()
            while time.process_time() < begun + seconds:
                pass
            jobs.send(json.dumps(os.getpid()).encode())
