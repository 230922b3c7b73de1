//! Whether others read what we write, and we what they write: with their own code, not ours on both sides.
//!
//! Other implementations are fetched when a test runs. Where that can't be done (no Python, no package index), such a test
//! says that it was left out, unless `HALTLINE_INTEROP=required` is set; fixed vectors that those implementations made are
//! checked everywhere.

mod access_tokens;
mod envoy;
mod http_callers;
mod rig;
