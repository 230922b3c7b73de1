//! The verbs: each asks the cluster, and shows what came of it.

pub(crate) mod agent;
pub(crate) mod agent_token;
pub(crate) mod approvals;
mod backup;
mod check_config;
mod completions;
mod describe;
mod doctor;
mod done;
mod edge;
mod edge_token;
pub(crate) mod enforcement;
mod events;
mod findings;
mod fleet;
pub(crate) mod init;
pub(crate) mod kill;
pub(crate) mod kills;
mod node;
pub(crate) mod operator;
mod process;
mod question;
pub(crate) mod receipt;
mod relay;
pub(crate) mod resource;
mod restore;
mod revocations;
mod sidecar;
mod staleness;
pub(crate) mod status;
pub(crate) mod trust;

use haltline_core::command::{Approve, Command as CoreCommand, Resume, Withdraw};
use haltline_wire::v1;

use crate::{
    args::{Cli, Command, Global},
    client::Client,
    exit::Exit,
    failure::Failure,
    output::{Render, Screen},
};

pub(crate) use done::Done;

/// What every verb has at hand.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    screen: Screen,
}

/// Carries out one command line.
///
/// # Errors
/// Why it didn't come about.
pub(crate) async fn run(cli: Cli, screen: Screen) -> Result<Exit, Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Completions(args) => completions::print(args.shell),
        Command::Init(args) => init::run(&args, screen),
        Command::Node(args) => node::run(&args, screen).await,
        Command::Demo(args) => crate::demo::run(&args, screen).await,
        Command::DemoEdge(args) => crate::demo::edge_worker::run(&args).await,
        Command::Operator(command) => operator::run(command, &global, screen).await,
        Command::Doctor(args) => doctor::run(&args, &global, screen).await,
        Command::Status => status::run(&Session::open(&global, screen)?).await,
        Command::Kill(args) => kill::run(&Session::open(&global, screen)?, args).await,
        Command::Kills(args) => kills::run(&Session::open(&global, screen)?, args).await,
        Command::Resume(args) => {
            let session = Session::open(&global, screen)?;
            let kill = kills::fetch(&session.client, args.kill).await?;
            let selector = resource::selector(kill.selector)?;
            session
                .carry_out(CoreCommand::Resume(Resume { kill: args.kill, selector, reason: args.reason }))
                .await
        }
        Command::Revoke(args) => {
            let session = Session::open(&global, screen)?;
            let target = args.target()?;
            let revoke = haltline_core::command::Revoke { target, reason: args.reason };
            session.carry_out(CoreCommand::Revoke(revoke)).await
        }
        Command::Revocations(args) => revocations::list(&Session::open(&global, screen)?, args).await,
        Command::Approvals(args) => approvals::list(&Session::open(&global, screen)?, args).await,
        Command::Approve(args) => approvals::approve(&Session::open(&global, screen)?, &args).await,
        Command::Withdraw(args) => {
            let withdraw = CoreCommand::Withdraw(Withdraw { approval: args.approval });
            Session::open(&global, screen)?.carry_out(withdraw).await
        }
        Command::Fleet(command) => fleet::run(&Session::open(&global, screen)?, command).await,
        Command::Agent(command) => agent::run(&Session::open(&global, screen)?, command).await,
        Command::Edge(command) => edge::run(command, &global, screen).await,
        Command::Edges(args) => edge::list(&Session::open(&global, screen)?, args).await,
        Command::Relay(command) => relay::execute(command, screen).await,
        Command::Receipt(command) => receipt::run(command, &global, screen).await,
        Command::Trust(command) => trust::run(&Session::open(&global, screen)?, command).await,
        Command::Enforcement(command) => enforcement::run(&Session::open(&global, screen)?, command).await,
        Command::Backup(args) => backup::run(args, &global, screen).await,
        Command::Restore(args) => restore::run(&args, &global, screen),
        Command::Events(args) => events::run(&Session::open(&global, screen)?, &args).await,
    }
}

impl Session {
    /// A session as the command line says.
    ///
    /// # Errors
    /// No usable identity.
    pub(crate) fn open(global: &Global, screen: Screen) -> Result<Self, Failure> {
        Ok(Self { client: Client::open(global)?, screen })
    }

    /// Submits a command and shows its outcome.
    async fn carry_out(&self, command: CoreCommand) -> Result<Exit, Failure> {
        let reply = self.client.submit(command).await?;
        self.show_done(reply)
    }

    /// Shows a command's outcome.
    fn show_done(&self, reply: v1::CommandReply) -> Result<Exit, Failure> {
        self.show_outcome(&Done::read(reply)?)
    }

    /// Shows what a reply said.
    fn show_outcome(&self, done: &Done) -> Result<Exit, Failure> {
        self.screen.print(done)?;
        Ok(done.exit())
    }

    /// Shows a result that isn't the outcome of a command.
    fn show(&self, result: &dyn Render) -> Result<Exit, Failure> {
        self.screen.print(result)?;
        Ok(Exit::Done)
    }

    /// Says that a list was cut.
    fn remark_if_cut(&self, more: bool, limit: u32) {
        if more {
            self.screen.remark(&format!("Only the first {limit} are shown; --limit 0 shows all."));
        }
    }
}

/// What an approver sends.
const fn approve_command(approval: haltline_core::ids::ApprovalId) -> CoreCommand {
    CoreCommand::Approve(Approve { approval })
}
