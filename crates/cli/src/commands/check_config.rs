//! `haltline node check-config`: everything that a configuration names, looked at without starting anything.

use std::path::Path;

use haltline_node::{NodeConfig, doctor};

use super::{findings::Findings, init::failure};
use crate::{exit::Exit, failure::Failure, output::Screen};

/// Looks. A configuration that can't be understood is a failure of usage, as it is for `haltline node`.
pub(super) fn run(file: Option<&Path>, config: &NodeConfig, screen: Screen) -> Result<Exit, Failure> {
    Findings(doctor::check_config(file, config)).show(screen)
}

/// The configuration of this file, or why it can't be understood.
pub(super) fn load(file: Option<&Path>) -> Result<NodeConfig, Failure> {
    NodeConfig::load(file).map_err(|error| failure(&error.into()))
}
