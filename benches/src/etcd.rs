//! etcd, to compare with: real clusters of Debian's package, and its gRPC API by stubs of our own.

pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod cluster;

/// The generated part of the API.
#[allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications, clippy::needless_pass_by_value)]
pub(crate) mod api {
    tonic::include_proto!("etcdserverpb");
}

/// Its name in results and errors.
pub(crate) const SYSTEM: &str = "etcd";
