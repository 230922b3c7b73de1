//! The data directory: there or to be made, this node's and nobody else's, closed to others, on a disk that keeps things.

use std::path::Path;

use haltline_pki::NodeIdentity;
use haltline_storage::{DataDir, Identity, RealDisk, StorageError};
use rustix::fs::{Access, access};

use super::{Finding, files};
use crate::config::NodeConfig;

/// Looks at the data directory.
pub(super) fn check(
    config: &NodeConfig,
    identity: Option<&NodeIdentity>,
    running: Option<u32>,
    findings: &mut Vec<Finding>,
) {
    let directory = &config.data_dir;
    let shown = directory.display().to_string();
    let fail = |told: String, remedy: &str| Finding::fail("data-directory", &shown, told).remedy(remedy);
    if !directory.exists() {
        findings.push(to_be_made(directory));
        return;
    }
    if !directory.is_dir() {
        findings.push(fail("is no directory".into(), "`data_dir` names a directory, which the node makes"));
        return;
    }
    if let Err(error) = access(directory, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        let told = format!("can't be read and written by this user: {error}");
        findings.push(fail(told, "run this as the user that the node runs as, or give it the directory"));
        return;
    }
    if let Some(mode) = files::mode(directory).filter(|mode| mode & 0o077 != 0) {
        let told = format!("mode {mode:04o} lets others in, and all commands stand there in plain");
        findings.push(Finding::warn("data-directory", &shown, told).remedy(format!("chmod 700 {shown}")));
    }
    let state = match running {
        Some(pid) => format!("; held by process {pid}"),
        None => String::new(),
    };
    findings.push(match whose(directory, identity) {
        Ok(Some(whose)) => Finding::ok(
            "data-directory",
            &shown,
            format!("holds the data of node {} of cluster {}{state}", whose.node, whose.cluster),
        ),
        Ok(None) => Finding::ok("data-directory", &shown, "empty; the node begins here"),
        Err(error) => refused(&shown, &error),
    });
}

/// The error, without the name that stands beside it. Most say themselves what would be right.
fn refused(shown: &str, error: &StorageError) -> Finding {
    let told = error.to_string();
    let told = told.strip_prefix(&format!("{shown} ")).unwrap_or(&told);
    let finding = Finding::fail("data-directory", shown, told);
    match error {
        StorageError::ForeignCluster { .. } | StorageError::ForeignNode { .. } => {
            finding.remedy("`data_dir` must name this node's own directory, or an empty one")
        }
        _ => finding,
    }
}

/// Whose data there is, if it may be this node's.
fn whose(directory: &Path, identity: Option<&NodeIdentity>) -> Result<Option<Identity>, StorageError> {
    let Some(got) = DataDir::inspect(&RealDisk, directory)? else { return Ok(None) };
    let Some(expected) = identity else { return Ok(Some(got)) };
    let (cluster, node) = (expected.bundle().cluster(), expected.id());
    if got.cluster != cluster {
        return Err(StorageError::ForeignCluster {
            dir: directory.to_owned(),
            expected: cluster,
            got: got.cluster,
        });
    }
    if got.node != node {
        return Err(StorageError::ForeignNode { dir: directory.to_owned(), expected: node, got: got.node });
    }
    Ok(Some(got))
}

/// Whether the nearest directory above that exists lets this user make it.
fn to_be_made(directory: &Path) -> Finding {
    let shown = directory.display().to_string();
    let above = directory.ancestors().skip(1).find(|above| above.exists());
    // The ancestor of a relative path of one part is the working directory.
    let above = above.filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let refused = |reason: String| {
        Finding::fail("data-directory", &shown, format!("can't be made below {}: {reason}", above.display()))
            .remedy("make it for the user that the node runs as, or choose another `data_dir`")
    };
    if !above.is_dir() {
        return refused("it is no directory".into());
    }
    match access(above, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Finding::ok("data-directory", &shown, "isn't there yet; the node makes it"),
        Err(error) => refused(error.to_string()),
    }
}
