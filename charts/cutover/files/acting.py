"""What ``helm test`` runs: ask for the operator's metrics until a process says that it acts, for some seconds at most."""

import sys
import time
import urllib.request

url, seconds = sys.argv[1:]
said = ""
end = time.monotonic() + float(seconds)
while time.monotonic() < end:
    try:
        # Each request is a connection of its own, which may go to any of the replicas.
        with urllib.request.urlopen(url, timeout=5) as answer:
            said = answer.read().decode()
    except OSError as error:
        said = f"{url}: {error}"
    if "\ncutover_leader 1.0\n" in said:
        sys.exit()
    time.sleep(1)
leader = "\ncutover_leader 0.0\n" in said
sys.exit("no process acts: it waits for its lease or for the CRD of plans; see its log" if leader else said[:500])
