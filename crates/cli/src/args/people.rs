//! Arguments of `operator`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use haltline_core::{command::RoleBinding, ids::PersonId};

use super::{ListArgs, values};

/// Below `haltline operator`. In order, a new person runs `request`, an admin runs `add`, the person runs `accept`.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Make your own keys, and a request for an admin to enrol you with
    Request(RequestArgs),
    /// Enrol a person from their request, or a new one at once with --identity-out
    Add(AddArgs),
    /// Fetch the certificate of an enrolled person, as once an enrolment has been approved
    Certify(CertifyArgs),
    /// Take in the certificate that an admin gave you
    Accept(AcceptArgs),
    /// List people and their roles
    List(ListArgs),
    /// Change a person's roles: those given replace all there are
    Update(UpdateArgs),
    /// Remove a person, and with them all of their keys
    Remove {
        /// Their name
        name: PersonId,
    },
}

/// `haltline operator request`.
#[derive(Debug, Args)]
pub struct RequestArgs {
    /// Your name
    pub name: PersonId,
}

/// `haltline operator add`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("who").required(true).args(["name", "request"]))]
pub struct AddArgs {
    /// Name of the person, with --identity-out
    #[arg(requires = "identity_out")]
    pub name: Option<PersonId>,
    /// The person's request, which `haltline operator request` wrote on their machine
    #[arg(long, value_name = "FILE")]
    pub request: Option<PathBuf>,
    /// A role everywhere, or in a fleet and below; repeat it for more
    #[arg(long = "role", value_name = "ROLE[@PATH]", value_parser = values::role_binding, required = true)]
    pub roles: Vec<RoleBinding>,
    /// Where to write the certificate [default: NAME.certificate.json]
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    pub out: Option<PathBuf>,
    /// Make the person's keys here too, in this directory; for labs, since keys then travel
    #[arg(long, value_name = "DIR", requires = "name", conflicts_with = "request")]
    pub identity_out: Option<PathBuf>,
}

/// `haltline operator certify`.
#[derive(Debug, Args)]
pub struct CertifyArgs {
    /// The person's request
    #[arg(long, value_name = "FILE")]
    pub request: PathBuf,
    /// Where to write the certificate [default: NAME.certificate.json]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `haltline operator accept`.
#[derive(Debug, Args)]
pub struct AcceptArgs {
    /// The certificate file
    pub certificate: PathBuf,
}

/// `haltline operator update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// Their name
    pub name: PersonId,
    /// A role everywhere, or in a fleet and below; repeat it for more
    #[arg(long = "role", value_name = "ROLE[@PATH]", value_parser = values::role_binding, required = true)]
    pub roles: Vec<RoleBinding>,
}
