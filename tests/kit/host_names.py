"""Host names that tests of several layers share."""

from __future__ import annotations

#: Where a ServiceEntry would open a way from the public host into the cluster, a machine or a cloud's own network.
INTERNAL_NAMES = [
    *("127.0.0.1", "169.254.169.254", "10.96.0.1", "1.2.3.4", "0.0.0.0", "app.127", "2130706433.0x7f"),
    *(
        "app.localhost",
        "localhost.localdomain",
        "printer.local",
        "metadata.google.internal",
        "ip-10-0-0-1.ec2.internal",
    ),
    *("pay.team-b.svc", "pay.team-b.svc.cluster.local", "pay.team-b.svc.prod.example.com", "svc.example.com"),
    *("vault.corp", "nas.lan", "router.home", "home.arpa", "1.0.0.10.in-addr.arpa", "wiki.intranet", "db.private"),
]
