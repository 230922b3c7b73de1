//! `haltline doctor`: what is wrong, or will be, with this machine's node or with the whole cluster.
//!
//! From an operator's machine each node is asked for its own view and to look at its own machine; what only shows when
//! their answers are laid side by side is judged here, by functions of the answers alone.

mod answers;
mod clocks;
mod people;
mod quorum;
mod serving;

use haltline_node::{doctor, doctor::Finding};
use tokio::sync::watch;

use super::{Session, check_config, findings::Findings};
use crate::{
    args::{Global, doctor::DoctorArgs},
    exit::Exit,
    failure::Failure,
    output::{Screen, progress::Progress},
};

/// Looks at this machine, or at the cluster.
pub(super) async fn run(args: &DoctorArgs, global: &Global, screen: Screen) -> Result<Exit, Failure> {
    let findings = match &args.config {
        Some(file) => machine(file.clone()).await?,
        None => cluster(&Session::open(global, screen)?).await?,
    };
    Findings(findings).show(screen)
}

/// This machine, for the node of a configuration.
async fn machine(file: std::path::PathBuf) -> Result<Vec<Finding>, Failure> {
    let config = check_config::load(Some(&file))?;
    let (tell, mut told) = watch::channel("looking".to_owned());
    let look = tokio::task::spawn_blocking(move || {
        let mut findings = doctor::check_config(Some(&file), &config);
        let neighbours = doctor::neighbours(&config);
        let machine = doctor::check_machine(&config, doctor::running(&config), &neighbours, |what| {
            // Nobody listens any more once the wait was broken off.
            let _ = tell.send(what.to_owned());
        });
        findings.extend(machine);
        findings
    });
    let found = with_progress(look, || told.borrow_and_update().clone()).await;
    found.map_err(|error| Failure::local(format!("looking at this machine broke off: {error}")))
}

/// The cluster, as its nodes and their answers side by side show it.
async fn cluster(session: &Session) -> Result<Vec<Finding>, Failure> {
    let client = &session.client;
    let mut findings = vec![people::own_certificate(client)];
    let answers = with_progress(answers::gather(client), || "asking every node about itself".into()).await?;
    findings.extend(quorum::check(&answers));
    findings.extend(serving::check(&answers));
    findings.extend(clocks::check(&answers));
    if answers.cluster.is_some() {
        let asking = people::check(client, &answers);
        findings.extend(with_progress(asking, || "asking for edges, kills and approvals".into()).await);
    }
    findings.extend(answers.nodes.into_iter().flat_map(answers::NodeAnswer::into_machine));
    Ok(findings)
}

/// Waits, and says for what once it has taken more than a second.
async fn with_progress<T>(work: impl Future<Output = T>, mut what: impl FnMut() -> String) -> T {
    const LOOK: std::time::Duration = std::time::Duration::from_millis(250);
    let mut progress = Progress::begin();
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(LOOK) => progress.tell(&what()),
        }
    }
}
