//! Haltline's interfaces as protocol buffers, and their conversions to the types of `haltline-core`.
//!
//! Generated code lives in [`v1`] (the public API) and [`raft::v1`] (between nodes). Everything that comes from outside
//! passes through [`convert`], which checks it and says which field was wrong, what came and what would be right.

pub mod convert;
pub mod refusal;
pub mod token_names;

/// The public API, `haltline.v1`.
#[allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications, clippy::needless_pass_by_value)]
pub mod v1 {
    tonic::include_proto!("haltline.v1");
}

/// Between nodes.
pub mod raft {
    /// `haltline.raft.v1`.
    #[allow(
        missing_docs,
        clippy::all,
        unreachable_pub,
        unused_qualifications,
        clippy::needless_pass_by_value
    )]
    pub mod v1 {
        tonic::include_proto!("haltline.raft.v1");
    }
}

/// Descriptors of all services, for reflection.
pub const FILE_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
