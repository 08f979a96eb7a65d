"""The record of decisions: the ledger, the spec snapshot, and the notifications made from them."""
