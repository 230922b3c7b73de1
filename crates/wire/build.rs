//! Compiles the protocol buffers under `proto/` without a protoc on the machine.

use std::{error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from("../../proto");
    let files = [
        "haltline/v1/types.proto",
        "haltline/v1/services.proto",
        "haltline/v1/edge.proto",
        "haltline/raft/v1/raft.proto",
    ];
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(files, [&root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    // Ordered maps: one message, one encoding.
    tonic_prost_build::configure()
        .btree_map(".haltline.v1")
        .bytes(".haltline.raft")
        .bytes(".haltline.v1.Frame")
        .bytes(".haltline.v1.ViewChunk")
        .compile_fds(descriptors)?;
    Ok(())
}
