//! The files that a configuration names: that they are there, belong together, and are closed to others.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use haltline_pki::{NodeIdentity, PkiError};

use super::Finding;
use crate::{config::NodeConfig, error::NodeError, founding::Founding};

/// Who may change the configuration decides what the node does.
pub(super) fn configuration(file: Option<&Path>) -> Finding {
    let Some(file) = file else {
        return Finding::ok("configuration", "the environment", "understood; no file was named");
    };
    let shown = file.display().to_string();
    match mode(file) {
        Some(mode) if mode & 0o022 != 0 => {
            Finding::warn("configuration", &shown, format!("mode {mode:04o} lets others change it"))
                .remedy(format!("chmod 640 {shown}"))
        }
        _ => Finding::ok("configuration", shown, "understood"),
    }
}

/// The permission bits of a file, if it can be looked at.
pub(super) fn mode(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|metadata| metadata.permissions().mode() & 0o7777)
}

/// The identity: keys closed to others, parts that belong together.
pub(super) fn identity(config: &NodeConfig, findings: &mut Vec<Finding>) -> Option<NodeIdentity> {
    let directory = &config.identity_dir;
    let shown = directory.display().to_string();
    let identity = match NodeIdentity::load(directory) {
        Ok(identity) => identity,
        Err(error) => {
            findings.push(refused_identity(directory, &error));
            return None;
        }
    };
    let told = format!("node {} of cluster {}", identity.id(), identity.bundle().cluster());
    findings.push(Finding::ok("identity", &shown, told));
    if let Some(mode) = mode(directory).filter(|mode| mode & 0o022 != 0) {
        let told = format!("mode {mode:04o} lets others put files there");
        findings.push(Finding::fail("identity", &shown, told).remedy(format!("chmod 700 {shown}")));
    }
    Some(identity)
}

fn refused_identity(directory: &Path, error: &PkiError) -> Finding {
    let shown = directory.display().to_string();
    let finding = Finding::fail("identity", &shown, error.to_string());
    let is_missing = matches!(error, PkiError::Io { source, .. }
        if source.kind() == std::io::ErrorKind::NotFound);
    match error {
        _ if is_missing && !directory.is_dir() => finding.remedy(
            "`identity_dir` names the directory that `haltline init` made beside this node's configuration",
        ),
        _ if is_missing => finding.remedy("restore the whole directory as `haltline init` made it"),
        PkiError::Io { .. } => finding.remedy("the user that the node runs as must be able to read it"),
        // These say themselves what would be right.
        _ => finding,
    }
}

/// The founding: readable, and with this very node in it.
pub(super) fn founding(
    config: &NodeConfig,
    identity: Option<&NodeIdentity>,
    findings: &mut Vec<Finding>,
) -> Option<Founding> {
    let file = &config.founding_file;
    let shown = file.display().to_string();
    let remedy =
        "it must be the founding.json that `haltline init` wrote for this cluster, the same on every node";
    let checked = Founding::load(file).and_then(|founding| {
        identity.map_or(Ok(()), |identity| crate::server::check_founding(identity, &founding, file))?;
        Ok(founding)
    });
    match checked {
        Ok(founding) => {
            let told = format!("{} founding nodes", founding.nodes.len());
            findings.push(Finding::ok("founding", shown, told));
            Some(founding)
        }
        Err(error) => {
            findings.push(Finding::fail("founding", shown, reason(&error)).remedy(remedy));
            None
        }
    }
}

/// An error without the file's name, which stands beside it.
fn reason(error: &NodeError) -> String {
    match error {
        NodeError::Founding { reason, .. } => reason.clone(),
        NodeError::Io { action, source, .. } => format!("can't {action} it: {source}"),
        other => other.to_string(),
    }
}
