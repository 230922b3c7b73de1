//! The service that hands a backup out: the state as of a read barrier, in parts, encoded while it is sent.

use std::{
    io::{self, Write},
    pin::Pin,
    sync::Arc,
};

use futures::{Stream, StreamExt as _};
use haltline_core::{
    LogIndex,
    attest::BackupStatement,
    command::Signature,
    ids::Digest,
    limits::{BACKUP_PART_BYTES_MAX, BACKUP_PARTS_WAITING_MAX, BACKUPS_MAX},
    rejection::{Action, Rejection},
    snapshot,
    state::State,
};
use haltline_pki::StatementSigner;
use haltline_wire::v1::{self, backup_part::Part, backup_service_server::BackupService};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{refused::Refused, services::Services};

type Parts = Pin<Box<dyn Stream<Item = Result<v1::BackupPart, Status>> + Send>>;

#[tonic::async_trait]
impl BackupService for Services {
    type CreateBackupStream = Parts;

    async fn create_backup(
        &self,
        request: Request<v1::CreateBackupRequest>,
    ) -> Result<Response<Parts>, Status> {
        let context = Arc::clone(&self.0);
        let reading = context.read(request.extensions()).await?;
        let caller = reading.caller;
        reading.published.state.may(&caller, Action::BackUp, None).map_err(Refused::from)?;
        let place = context.backups.enter().map_err(|_| Refused::TooManyBackups { max: BACKUPS_MAX })?;
        drop(reading.published);
        let (index, state) = context.consensus.whole_state();
        let signer = context.signing.signer(&state).map_err(Refused::SigningKey)?;
        tracing::info!(person = %caller, index = index.0, "a backup is taken");

        let (sender, receiver) = channel(BACKUP_PARTS_WAITING_MAX);
        let token = context.streams.token();
        let source = Source {
            node: context.identity.id().0,
            trust_bundle: context.identity.bundle().to_json(),
            index,
            state,
            signer,
        };
        tokio::task::spawn_blocking(move || {
            // Both are held until the last part was handed over or nobody reads any more.
            let (_place, _token) = (place, token);
            source.send(&sender);
        });
        let stopping = context.stopping.clone();
        let parts = ReceiverStream::new(receiver).take_until(stopping.cancelled_owned());
        Ok(Response::new(Box::pin(parts)))
    }
}

/// What a backup is made of.
struct Source {
    node: u64,
    trust_bundle: String,
    index: LogIndex,
    state: State,
    signer: Arc<StatementSigner>,
}

impl Source {
    /// Sends all parts. Whoever reads no more ends it.
    fn send(&self, sender: &Sender<Result<v1::BackupPart, Status>>) {
        let sent = self.parts(sender);
        if let Err(error) = sent
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            tracing::error!(%error, "a backup failed");
            // If nobody is there to be told, that is why.
            let _ = sender.blocking_send(Err(Status::internal(format!("the backup failed: {error}"))));
        }
    }

    fn parts(&self, sender: &Sender<Result<v1::BackupPart, Status>>) -> io::Result<()> {
        let (last, cluster) = (self.state.last_stamp(), self.state.cluster());
        let cluster = cluster.ok_or_else(|| io::Error::other(Rejection::NotFounded.to_string()))?;
        put(
            sender,
            Part::Start(v1::BackupStart {
                cluster_id: cluster.id.0.to_vec(),
                incarnation: cluster.incarnation.0,
                index: self.index.0,
                cluster_time_ms: last.cluster_time.0,
                wall_time_ms: last.wall_time.0,
                node: self.node,
                version: env!("CARGO_PKG_VERSION").into(),
            }),
        )?;
        let mut content = Content { sender, waiting: Vec::new(), sha256: Sha256::new(), bytes: 0 };
        snapshot::encode(&self.state, &mut content)?;
        content.flush()?;
        let chain = self.state.chain();
        let statement = BackupStatement {
            cluster_id: cluster.id,
            incarnation: cluster.incarnation,
            index: self.index,
            event_seq: chain.seq,
            chain_head: chain.head,
            body_sha256: Digest(content.sha256.finalize().into()),
            body_bytes: content.bytes,
            cluster_time: last.cluster_time,
            wall_time: last.wall_time,
        };
        let signature = Signature(self.signer.sign(&statement.to_bytes()));
        put(
            sender,
            Part::End(v1::BackupEnd {
                content_sha256: statement.body_sha256.0.to_vec(),
                content_bytes: statement.body_bytes,
                event_seq: chain.seq.0,
                chain_head: chain.head.0.to_vec(),
                signature: signature.0.to_vec(),
                trust_bundle: self.trust_bundle.clone(),
            }),
        )
    }
}

fn put(sender: &Sender<Result<v1::BackupPart, Status>>, part: Part) -> io::Result<()> {
    let sent = sender.blocking_send(Ok(v1::BackupPart { part: Some(part) }));
    sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// Cuts the encoded state into parts, and counts and hashes it on the way.
struct Content<'a> {
    sender: &'a Sender<Result<v1::BackupPart, Status>>,
    waiting: Vec<u8>,
    sha256: Sha256,
    bytes: u64,
}

impl Write for Content<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(BACKUP_PART_BYTES_MAX - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..length]);
        self.sha256.update(&bytes[..length]);
        self.bytes += length as u64;
        if self.waiting.len() == BACKUP_PART_BYTES_MAX {
            self.flush()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        put(self.sender, Part::Content(std::mem::take(&mut self.waiting)))
    }
}
