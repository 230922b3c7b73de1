//! The part of `cargo metadata` that the checks read.

use std::path::Path;

use serde::Deserialize;

use crate::{error::XtaskError, steps};

/// The output of `cargo metadata --format-version 1 --no-deps`.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    /// The workspace's own packages.
    pub(crate) packages: Vec<Package>,
}

/// One package.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One dependency as a manifest declares it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Nothing for a normal dependency, else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

impl Metadata {
    /// The workspace's own packages and what they declare; needs no network.
    pub(crate) fn of_workspace(root: &Path) -> Result<Metadata, XtaskError> {
        let list = ["metadata", "--format-version", "1", "--no-deps", "--offline"];
        let printed = steps::output(&mut steps::cargo(root, &list))?;
        Ok(serde_json::from_slice(&printed)?)
    }
}
