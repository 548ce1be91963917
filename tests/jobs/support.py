"""What the tests of batch jobs share."""

from __future__ import annotations

from msgspec.structs import replace

from crossfade.core.identity import new_id
from crossfade.jobs.records import JobRequest

ROWS = b"x\n1\n2\n3\n"


def put(registry, data=ROWS):
    return registry.backend.blobs.put([data], limit_bytes=len(data) + 1).digest


def request_for(registry, data=ROWS, **changes):
    wanted = JobRequest(id=new_id(), ref="churn", input_digest=put(registry, data), format="csv")
    return replace(wanted, **changes)


def submitted(store, registry, data=ROWS, **changes):
    return store.submit(request_for(registry, data, **changes))[0]


def commit(claims, registry, claim, first_row=0, rows=1, failed=0, data=b"part"):
    digest = put(registry, data + b"%d" % first_row)
    claims.commit_part(claim, digest, first_row=first_row, rows=rows, failed=failed, bytes_done=3, milliseconds=500)
    return digest
