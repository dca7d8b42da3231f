"""How features are computed: as of then (offline) and now (online)."""
