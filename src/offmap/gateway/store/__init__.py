"""The gateway's memory: an audit log that cannot be changed unnoticed, a review queue, labels. SQLite or PostgreSQL."""

from offmap.gateway.store.capture import CAPTURES, Capture
from offmap.gateway.store.chain import Checkpoint, Entry, Purge, entries, find
from offmap.gateway.store.export import Manifest, export, read_checkpoint, verify_export, write_checkpoint
from offmap.gateway.store.labels import Labelled, labelled, write_labels
from offmap.gateway.store.log import AuditLog
from offmap.gateway.store.opening import RefusedError, Store, StoreError, open_store
from offmap.gateway.store.retention import purge
from offmap.gateway.store.review import LeaseError, counts, decide, enqueue, expire, lease, release, result
from offmap.gateway.store.tickets import Counts, Item, Lease, Review, ReviewRules, Ticket
from offmap.gateway.store.verifying import Verified, verify

__all__ = [
    "CAPTURES",
    "AuditLog",
    "Capture",
    "Checkpoint",
    "Counts",
    "Entry",
    "Item",
    "Labelled",
    "Lease",
    "LeaseError",
    "Manifest",
    "Purge",
    "RefusedError",
    "Review",
    "ReviewRules",
    "Store",
    "StoreError",
    "Ticket",
    "Verified",
    "counts",
    "decide",
    "enqueue",
    "entries",
    "expire",
    "export",
    "find",
    "labelled",
    "lease",
    "open_store",
    "purge",
    "read_checkpoint",
    "release",
    "result",
    "verify",
    "verify_export",
    "write_checkpoint",
    "write_labels",
]
