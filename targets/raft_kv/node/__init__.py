"""The program of one raft_kv node: standard library only, and nothing of the harness."""
