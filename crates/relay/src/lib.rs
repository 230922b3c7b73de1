//! A relay: the hub of `haltline-hub` with another hub above it (design 02, Relays compose).
