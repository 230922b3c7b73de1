//! `haltline backup`: taking one, making keys for them, and checking one.
//!
//! What a node sends is encrypted here before any of it reaches a disk. A file gets its name once it is whole.

use std::path::Path;

use haltline_core::{
    attest::follow_changes,
    command::{Role, Signature},
    ids::{ClusterId, Digest},
    limits::BACKUP_RECIPIENTS_MAX,
    time::WallTime,
};
use haltline_node::{
    NodeConfig, NodeError,
    backup::{
        Backup, BackupAbout, BackupError, BackupHeader, BackupWriter, CheckedFile, SignedBackup,
        StoppedSource, Vouched, WrittenBackup, back_up_stopped, check_file, open_file,
    },
};
use haltline_pki::{BackupKey, BackupKeyError, BackupRecipient, PersonIdentity, TrustBundle};
use haltline_wire::v1::{self, backup_part::Part, backup_service_client::BackupServiceClient};
use serde_json::{Value, json};
use tonic::Streaming;

use super::{Session, trust};
use crate::{
    args::{
        Global,
        backup::{BackupArgs, BackupCommand, KeygenArgs, VerifyArgs},
    },
    client::{Client, identity_directory},
    exit::Exit,
    failure::Failure,
    output::{
        Render, Screen,
        page::{Page, counted, grouped},
        progress::Progress,
        table::Tone,
        times,
    },
};

/// Carries out one of them.
pub(super) async fn run(args: BackupArgs, global: &Global, screen: Screen) -> Result<Exit, Failure> {
    match &args.command {
        Some(BackupCommand::Keygen(args)) => keygen(args, screen),
        Some(BackupCommand::Verify(args)) => verify(args, global, screen),
        None => {
            let recipients = recipients(&args)?;
            let out = args.out.as_deref().ok_or_else(|| Failure::usage("name the file with --out FILE"))?;
            match &args.stopped_node {
                Some(config) => of_stopped(config, out, &recipients, screen),
                None => {
                    let session = Session::open(global, screen)?;
                    let written = take(&session.client, out, &recipients).await?;
                    session.show(&Written(&written))
                }
            }
        }
    }
}

/// A failure with what would be right.
pub(super) fn failure(error: &BackupError) -> Failure {
    let exit = match error {
        error if error.is_broken_backup() => Exit::Broken,
        BackupError::Exists { .. }
        | BackupError::BadRestore(_)
        | BackupError::Restore(_)
        | BackupError::Key(
            BackupKeyError::BadKey { .. }
            | BackupKeyError::OtherKey { .. }
            | BackupKeyError::RecipientCount { .. },
        ) => Exit::Usage,
        BackupError::Node(NodeError::Config(_) | NodeError::BadInit(_) | NodeError::Exists { .. }) => {
            Exit::Usage
        }
        _ => Exit::Refused,
    };
    let failure = Failure::new(exit, error.code().to_ascii_uppercase(), error.to_string());
    match error {
        BackupError::Key(BackupKeyError::OtherKey { .. }) => {
            failure.hint("name the key that belongs to one of these recipients with --key FILE")
        }
        BackupError::Statement(_) => failure.hint(
            "whoever made this file isn't a node that the trust bundle knows; if its keys were replaced or the cluster \
             restored since, name the newer bundle with --trust-bundle FILE",
        ),
        _ => failure,
    }
}

fn recipients(args: &BackupArgs) -> Result<Vec<BackupRecipient>, Failure> {
    let mut recipients = args.recipients.clone();
    if let Some(file) = &args.recipients_file {
        let wrong =
            |why: String| Failure::usage(format!("can't read recipients from {}: {why}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for (line, number) in lines.zip(1..) {
            if number > BACKUP_RECIPIENTS_MAX {
                return Err(wrong(format!("it names more than {BACKUP_RECIPIENTS_MAX}")));
            }
            recipients.push(line.parse().map_err(|error: BackupKeyError| wrong(error.to_string()))?);
        }
    }
    recipients.sort_unstable();
    recipients.dedup();
    Ok(recipients)
}

fn keygen(args: &KeygenArgs, screen: Screen) -> Result<Exit, Failure> {
    let key = BackupKey::generate().map_err(|error| failure(&error.into()))?;
    key.save(&args.out).map_err(|error| failure(&error.into()))?;
    screen.print(&Key { path: &args.out, recipient: key.recipient() })?;
    screen.remark("Keep the key apart from the backups and from the nodes. Without it no backup opens.");
    Ok(Exit::Done)
}

/// Takes a backup from whichever node answers.
async fn take(client: &Client, out: &Path, recipients: &[BackupRecipient]) -> Result<WrittenBackup, Failure> {
    if out.symlink_metadata().is_ok() {
        return Err(failure(&BackupError::Exists { path: out.into() }));
    }
    let mut parts = client
        .call("asking for a backup", |channel| async move {
            BackupServiceClient::new(channel).create_backup(v1::CreateBackupRequest {}).await
        })
        .await?;
    let unexpected = |what| failure(&BackupError::Answer(what));
    let Part::Start(start) = next(&mut parts).await? else {
        return Err(unexpected("it doesn't say what it is of"));
    };
    let own = client.identity().bundle().cluster();
    let cluster = cluster_of(&start.cluster_id).filter(|cluster| *cluster == own);
    let cluster = cluster.ok_or_else(|| unexpected("it is of another cluster than the identity"))?;
    let about = BackupAbout {
        cluster,
        incarnation: start.incarnation,
        index: start.index,
        cluster_time_ms: start.cluster_time_ms,
        wall_time_ms: start.wall_time_ms,
        node: start.node,
        version: start.version.chars().take(VERSION_CHARS_MAX).collect(),
        stopped: None,
    };
    let mut writer = BackupWriter::create(out, about, recipients).map_err(|error| failure(&error))?;
    let mut progress = Progress::begin();
    let end = loop {
        match next(&mut parts).await? {
            Part::Content(content) => writer.write(&content).map_err(|error| failure(&error))?,
            Part::End(end) => break end,
            Part::Start(_) => return Err(unexpected("it begins twice")),
        }
        progress.tell(&format!("taking a backup: {} bytes so far", grouped(writer.content_so_far().1)));
    };
    let signed = signed(cluster, &start, end).ok_or_else(|| unexpected("its end isn't one"))?;
    check_signature(client, &signed).await?;
    writer.finish(&signed).map_err(|error| failure(&error))
}

/// Characters of a version that a file keeps: more than any has.
const VERSION_CHARS_MAX: usize = 64;

async fn next(parts: &mut Streaming<v1::BackupPart>) -> Result<Part, Failure> {
    let broken = |why: String| {
        Failure::new(Exit::Unreachable, "BACKUP_INTERRUPTED", format!("the backup broke off: {why}"))
            .hint("nothing was written; run the command again")
    };
    match parts.message().await {
        Ok(Some(v1::BackupPart { part: Some(part) })) => Ok(part),
        Ok(Some(_)) => Err(broken("the node sent a part that this version doesn't know".into())),
        Ok(None) => Err(broken("the node is stopping, or the connection was closed".into())),
        Err(status) => Err(broken(haltline_wire::refusal::Refusal::from_status(&status).message)),
    }
}

fn cluster_of(bytes: &[u8]) -> Option<ClusterId> {
    bytes.try_into().ok().map(ClusterId)
}

fn signed(cluster: ClusterId, start: &v1::BackupStart, end: v1::BackupEnd) -> Option<SignedBackup> {
    let statement = haltline_core::attest::BackupStatement {
        cluster_id: cluster,
        incarnation: haltline_core::ids::Incarnation(start.incarnation),
        index: haltline_core::LogIndex(start.index),
        event_seq: haltline_core::ids::EventSeq(end.event_seq),
        chain_head: Digest(end.chain_head.as_slice().try_into().ok()?),
        body_sha256: Digest(end.content_sha256.as_slice().try_into().ok()?),
        body_bytes: end.content_bytes,
        cluster_time: haltline_core::time::ClusterTime(start.cluster_time_ms),
        wall_time: WallTime(start.wall_time_ms),
    };
    let signature = Signature(end.signature.as_slice().try_into().ok()?);
    Some(SignedBackup::new(&statement, haltline_core::ids::NodeId(start.node), &signature, end.trust_bundle))
}

/// A backup that nobody could restore because its signature isn't good is found out now.
async fn check_signature(client: &Client, signed: &SignedBackup) -> Result<(), Failure> {
    let bundle = client.identity().bundle();
    let own = trust::known(bundle);
    if signed.verify_by(std::slice::from_ref(&own)).is_ok() {
        return Ok(());
    }
    // The node may have another key by now, which the changes prove.
    let changes = trust::Trust::ask(client).await?.changes;
    let known = follow_changes(bundle.cluster(), own, &changes)
        .map_err(|error| failure(&BackupError::Statement(error)))?;
    signed.verify_by(&known).map_err(|error| failure(&error))
}

fn of_stopped(
    config: &Path,
    out: &Path,
    recipients: &[BackupRecipient],
    screen: Screen,
) -> Result<Exit, Failure> {
    let config = NodeConfig::load(Some(config)).map_err(|error| super::init::failure(&error.into()))?;
    let backup = back_up_stopped(&config, out, recipients).map_err(|error| failure(&error))?;
    screen.print(&Written(&backup.written))?;
    for line in what_may_be_missing(&backup.written.header, &backup.source) {
        screen.remark(&line);
    }
    Ok(Exit::Done)
}

/// What a stopped node can't know.
pub(super) fn what_may_be_missing(header: &BackupHeader, source: &StoppedSource) -> Vec<String> {
    let wall = |ms| times::wall(WallTime(ms));
    vec![
        format!(
            "This is what node {} had on its disk: its log ends at entry {} (term {}), of {}.",
            header.node,
            grouped(source.last_index),
            source.term,
            wall(header.wall_time_ms)
        ),
        format!(
            "Whatever the cluster committed after that entry is missing: every command that was answered later than {}, \
             kills and revocations too.",
            wall(header.wall_time_ms)
        ),
        format!(
            "Entries {} to {} are in it although this node didn't know them to be committed (the last one it knew of is of \
             {}): their callers may never have been answered.",
            grouped(source.committed_index + 1),
            grouped(source.last_index),
            wall(source.committed_wall_time_ms)
        ),
        "If another node's disk can be read, compare: take the one with the highest term, and of those the longest log."
            .into(),
    ]
}

fn verify(args: &VerifyArgs, global: &Global, screen: Screen) -> Result<Exit, Failure> {
    let checked = check(&args.file)?;
    let opened = match &args.key {
        None => None,
        Some(key) => Some(open(&args.file, key, args.trust_bundle.as_deref(), global)?),
    };
    screen.print(&Verified { path: &args.file, checked: &checked, opened: opened.as_ref() })?;
    if opened.is_none() {
        screen.remark("Nothing was decrypted; --key FILE checks what is in it, and whose word it is.");
    }
    Ok(Exit::Done)
}

fn check(path: &Path) -> Result<CheckedFile, Failure> {
    let mut progress = Progress::begin();
    let checked =
        check_file(path, |bytes| progress.tell(&format!("reading: {} bytes so far", grouped(bytes))));
    checked.map_err(|error| failure(&error))
}

/// A backup that was opened, and by which bundle its signature was checked.
pub(super) struct Opened {
    pub(super) backup: Backup,
    by: String,
}

/// Opens a backup and checks the statement in it: by the bundle that is named, or that of an identity, or its own.
pub(super) fn open(
    path: &Path,
    key: &Path,
    trust_bundle: Option<&Path>,
    global: &Global,
) -> Result<Opened, Failure> {
    let key = BackupKey::load(key).map_err(|error| failure(&error.into()))?;
    let (given, by) = match trust_bundle {
        Some(file) => {
            let bundle =
                TrustBundle::load(file).map_err(|error| Failure { exit: Exit::Usage, ..error.into() })?;
            (Some(bundle), format!("the trust bundle in {}", file.display()))
        }
        None => match PersonIdentity::load(&identity_directory(global)) {
            Ok(identity) => (
                Some(identity.bundle().clone()),
                format!("the trust bundle of {}'s identity", identity.person()),
            ),
            // Whoever restores may have nothing but the backup, its key and the root.
            Err(_) => (None, "the trust bundle that it carries itself".to_owned()),
        },
    };
    let mut progress = Progress::begin();
    let tell = |bytes| progress.tell(&format!("opening: {} bytes so far", grouped(bytes)));
    let backup = open_file(path, &key, given.as_ref(), tell).map_err(|error| failure(&error))?;
    Ok(Opened { backup, by })
}

/// A key that was made.
struct Key<'a> {
    path: &'a Path,
    recipient: BackupRecipient,
}

impl Render for Key<'_> {
    fn page(&self, page: &mut Page) {
        page.facts([
            ("key", Some(self.path.display().to_string())),
            ("recipient", Some(self.recipient.to_string())),
        ]);
    }

    fn value(&self) -> Value {
        json!({ "key_file": self.path.display().to_string(), "recipient": self.recipient.to_string() })
    }
}

/// A backup that was taken.
struct Written<'a>(&'a WrittenBackup);

impl Render for Written<'_> {
    fn page(&self, page: &mut Page) {
        let written = self.0;
        page.toned(format!("Wrote {}.", written.path.display()), Tone::Good);
        page.facts([
            ("size", Some(counted(written.file_bytes, "byte"))),
            ("sha256", Some(written.sha256.to_string())),
        ]);
        about(page, &written.header);
    }

    fn value(&self) -> Value {
        let written = self.0;
        let mut value = header_value(&written.header);
        value["file"] = written.path.display().to_string().into();
        value["bytes"] = written.file_bytes.into();
        value["sha256"] = written.sha256.to_string().into();
        value
    }
}

fn about(page: &mut Page, header: &BackupHeader) {
    page.facts([
        ("cluster", Some(format!("{}, incarnation {}", header.cluster, header.incarnation))),
        ("up to", Some(format!("log index {}, {}", grouped(header.index), times::wall(header.wall_time())))),
        ("made by", Some(made_by(header))),
        ("for", Some(recipients_of(header).join(", "))),
    ]);
}

fn made_by(header: &BackupHeader) -> String {
    let stopped = if header.stopped.is_some() { ", from its disk while it was stopped" } else { "" };
    format!("node {} (version {}){stopped}", header.node, header.version)
}

fn recipients_of(header: &BackupHeader) -> Vec<String> {
    header.encryption.keys.iter().map(|key| key.recipient.clone()).collect()
}

fn header_value(header: &BackupHeader) -> Value {
    let stopped = header.stopped.as_ref().map(|source| {
        json!({
            "last_index": source.last_index,
            "term": source.term,
            "committed_index": source.committed_index,
            "committed_wall_time_ms": source.committed_wall_time_ms,
        })
    });
    json!({
        "cluster_id": header.cluster.to_string(),
        "incarnation": header.incarnation,
        "index": header.index,
        "wall_time_ms": header.wall_time_ms,
        "node": header.node,
        "version": header.version,
        "stopped_node": stopped,
        "recipients": recipients_of(header),
    })
}

/// A backup that holds.
struct Verified<'a> {
    path: &'a Path,
    checked: &'a CheckedFile,
    opened: Option<&'a Opened>,
}

impl Render for Verified<'_> {
    fn page(&self, page: &mut Page) {
        let Self { path, checked, opened } = self;
        let what = if opened.is_some() { "holds" } else { "is whole" };
        page.toned(format!("{} {what}.", path.display()), Tone::Good);
        page.facts([
            ("size", Some(counted(checked.file_bytes, "byte"))),
            ("sha256", Some(checked.sha256.to_string())),
        ]);
        about(page, &checked.header);
        if let Some(Opened { backup, by }) = opened {
            let state = &backup.state;
            page.facts([("signed by", Some(format!("node {}, checked by {by}", backup.signed.node)))]);
            page.gap();
            page.facts([
                ("fleets", Some(grouped(state.fleets().len() as u64))),
                ("agents", Some(grouped(state.agents().len() as u64))),
                ("people", Some(grouped(state.people().len() as u64))),
                ("admins at the root", Some(admins(backup).join(", "))),
                ("edges and relays", Some(grouped(state.edges().len() as u64))),
                ("kills in force", Some(grouped(state.kills().len() as u64))),
                (
                    "credentials",
                    Some(format!("{} (void after a restore)", grouped(state.credentials().len() as u64))),
                ),
            ]);
            if backup.vouched == Vouched::ByItsOwnBundle {
                page.gap();
                page.toned(
                    "Whoever can encrypt for you could have made all of this, its trust bundle too: check by one that came \
                     another way, with --trust-bundle FILE or --identity DIR.",
                    Tone::Warn,
                );
            }
        }
    }

    fn value(&self) -> Value {
        let mut value = header_value(&self.checked.header);
        value["file"] = self.path.display().to_string().into();
        value["bytes"] = self.checked.file_bytes.into();
        value["sha256"] = self.checked.sha256.to_string().into();
        if let Some(Opened { backup, .. }) = self.opened {
            let state = &backup.state;
            value["signed_by"] = backup.signed.node.into();
            value["checked_by_its_own_bundle"] = (backup.vouched == Vouched::ByItsOwnBundle).into();
            value["content"] = json!({
                "fleets": state.fleets().len(),
                "agents": state.agents().len(),
                "people": state.people().len(),
                "admins": admins(backup),
                "edges": state.edges().len(),
                "kills": state.kills().len(),
                "credentials": state.credentials().len(),
            });
        }
        value
    }
}

/// Who could restore.
fn admins(backup: &Backup) -> Vec<String> {
    let people = backup.state.people().iter();
    let is_admin = people.filter(|(_, record)| {
        record.roles.iter().any(|held| held.role == Role::Admin && held.path.is_none())
    });
    is_admin.map(|(person, _)| person.to_string()).collect()
}
