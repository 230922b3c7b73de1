//! The life of a sidecar: open the ports, serve, and end in order.
//!
//! The order of the end matters. Health says no first, so that nobody is sent here any more; no connection is accepted;
//! HTTP streams that are watched get a bounded time to end by themselves. Those that haven't are cut, because nobody would
//! be left to stop them.

use std::{sync::Arc, time::Duration};

use envoy_types::pb::envoy::service::{
    auth::v3::authorization_server::AuthorizationServer,
    ext_proc::v3::external_processor_server::ExternalProcessorServer,
};
use haltline_core::{
    ids::EdgeName,
    limits::{
        HTTP2_PING_INTERVAL, HTTP2_PING_TIMEOUT, SIDECAR_CHECK_BYTES_MAX, SIDECAR_HEADER_BYTES_MAX,
        SIDECAR_READINESS_INTERVAL, SIDECAR_RECORD_TIMEOUT, SIDECAR_STREAMS_PER_CONNECTION_MAX,
    },
};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Server;
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{
    authorization::Authorization,
    config::{Listen, SidecarConfig},
    desk::Desk,
    gate::Gate,
    http,
    listener::{ListenError, Listener},
    processor::Processor,
};

/// Why a sidecar couldn't start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// It can't listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// It is told to fail open, and the cluster doesn't know that it does.
    #[error(
        "`sidecar.fail_open` is true, and the cluster's record of this enforcer says that it fails closed, so kill receipts \
         would promise what it doesn't keep; let two people switch it on with `haltline edge update {name} --fails-open \
         true`, or set `sidecar.fail_open = false`"
    )]
    FailsClosed {
        /// This enforcer.
        name: EdgeName,
    },
    /// It is told to fail open, and can't read whether it may.
    #[error(
        "`sidecar.fail_open` is true, and whether the cluster's record of this enforcer allows it couldn't be read within \
         {} ms: {why}", SIDECAR_RECORD_TIMEOUT.0
    )]
    RecordUnread {
        /// What is amiss with the view.
        why: String,
    },
    /// The gRPC server failed.
    #[error("the gRPC server ended: {0}")]
    Server(#[source] tonic::transport::Error),
}

impl SidecarError {
    /// A stable code for scripts.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Listen(_) => "LISTEN",
            Self::FailsClosed { .. } => "FAILS_CLOSED",
            Self::RecordUnread { .. } => "RECORD_UNREAD",
            Self::Server(_) => "SERVER",
        }
    }
}

/// Where a started sidecar listens, with the ports that the system chose where none was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// For Envoy.
    pub grpc: Listen,
    /// For programs.
    pub http: Listen,
    /// For probes alone.
    pub probes: Listen,
}

/// A sidecar that serves.
#[derive(Debug)]
pub struct Sidecar {
    desk: Arc<Desk>,
    places: Places,
    grpc: Option<JoinHandle<Result<(), tonic::transport::Error>>>,
    tasks: TaskTracker,
}

impl Sidecar {
    /// Opens the ports and serves.
    ///
    /// # Errors
    /// A port that can't be opened, or a configuration that the cluster's record contradicts.
    pub async fn start(gate: Gate, config: SidecarConfig) -> Result<Self, SidecarError> {
        let bound =
            (Listener::bind(&config.grpc)?, Listener::bind(&config.http)?, Listener::bind(&config.probes)?);
        if config.fail_open {
            check_record(&gate).await?;
        }
        let desk = Desk::new(gate, config);
        let tasks = TaskTracker::new();
        let place = |listener: &Option<Listener>| listener.as_ref().map_or(Listen::Off, Listener::place);
        let places = Places { grpc: place(&bound.0), http: place(&bound.1), probes: place(&bound.2) };
        let grpc = bound.0.map(|listener| serve_grpc(listener, &desk, &tasks));
        let plain = [(bound.1, http::api(desk.clone())), (bound.2, http::probes(desk.clone()))];
        for (listener, router) in plain.into_iter().filter_map(|(listener, router)| Some((listener?, router)))
        {
            tasks.spawn(http::serve(listener, router, desk.draining.clone(), tasks.clone()));
        }
        tracing::info!(grpc = %places.grpc, http = %places.http, probes = %places.probes, "the sidecar serves");
        Ok(Self { desk, places, grpc, tasks })
    }

    /// Where it listens.
    #[must_use]
    pub const fn places(&self) -> &Places {
        &self.places
    }

    /// Serves until `shutdown` is cancelled, then ends in order.
    ///
    /// # Errors
    /// The gRPC server failed.
    pub async fn serve(mut self, shutdown: CancellationToken) -> Result<(), SidecarError> {
        let mut failed = None;
        match self.grpc.as_mut() {
            None => shutdown.cancelled().await,
            Some(grpc) => tokio::select! {
                () = shutdown.cancelled() => {}
                ended = grpc => {
                    self.grpc = None;
                    failed = Some(ended);
                }
            },
        }
        self.end().await;
        match failed {
            Some(Ok(Err(error))) => Err(SidecarError::Server(error)),
            _ => Ok(()),
        }
    }

    async fn end(mut self) {
        let patience = self.desk.config.drain_timeout;
        tracing::info!(watched = self.desk.watched_now(), ?patience, "stopping the sidecar");
        self.desk.draining.cancel();
        self.tasks.close();
        let drained = tokio::time::timeout(patience, async {
            self.tasks.wait().await;
            if let Some(grpc) = self.grpc.as_mut() {
                // Its result no longer matters: it was told to end.
                let _ = grpc.await;
            }
        });
        if drained.await.is_err() {
            tracing::warn!(watched = self.desk.watched_now(), "cutting what is still in flight");
            self.desk.closing.cancel();
            let last_words = async {
                self.tasks.wait().await;
                if let Some(grpc) = self.grpc.as_mut().filter(|grpc| !grpc.is_finished()) {
                    let _ = grpc.await;
                }
            };
            if tokio::time::timeout(LAST_WORDS, last_words).await.is_err() {
                tracing::warn!("somebody doesn't read their last answer; closing the connection under it");
            }
        }
    }
}

/// How long connections get to carry the last answers away.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Whoever fails open must stand in the log as such, or receipts would be wrong.
async fn check_record(gate: &Gate) -> Result<(), SidecarError> {
    let deadline = Instant::now() + Duration::from_millis(SIDECAR_RECORD_TIMEOUT.0);
    while let Some(why) = gate.unready() {
        if Instant::now() >= deadline {
            return Err(SidecarError::RecordUnread { why });
        }
        tokio::time::sleep(Duration::from_millis(SIDECAR_READINESS_INTERVAL.0)).await;
    }
    if gate.fails_open() { Ok(()) } else { Err(SidecarError::FailsClosed { name: gate.name().clone() }) }
}

fn serve_grpc(
    listener: Listener,
    desk: &Arc<Desk>,
    tasks: &TaskTracker,
) -> JoinHandle<Result<(), tonic::transport::Error>> {
    let (reporter, health) = tonic_health::server::health_reporter();
    tasks.spawn(report(Arc::clone(desk), reporter));
    let authorization = AuthorizationServer::new(Authorization(Arc::clone(desk)))
        .max_decoding_message_size(SIDECAR_CHECK_BYTES_MAX);
    let processor = ExternalProcessorServer::new(Processor { desk: Arc::clone(desk), tasks: tasks.clone() })
        .max_decoding_message_size(SIDECAR_CHECK_BYTES_MAX);
    let header_bytes = u32::try_from(SIDECAR_HEADER_BYTES_MAX).unwrap_or(u32::MAX);
    let served = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_millis(HTTP2_PING_INTERVAL.0)))
        .http2_keepalive_timeout(Some(Duration::from_millis(HTTP2_PING_TIMEOUT.0)))
        .http2_max_header_list_size(header_bytes)
        .max_concurrent_streams(SIDECAR_STREAMS_PER_CONNECTION_MAX)
        // Whenever an agent hangs up, Envoy resets its streams here: ordinary, and no reason to end the connection, on which
        // the streams beside all others' requests are.
        .http2_max_pending_accept_reset_streams(Some(SIDECAR_STREAMS_PER_CONNECTION_MAX as usize))
        .http2_max_local_error_reset_streams(None)
        .add_service(health)
        .add_service(authorization)
        .add_service(processor)
        .serve_with_incoming_shutdown(listener.into_incoming(), desk.draining.clone().cancelled_owned());
    tokio::spawn(served)
}

/// Keeps `grpc.health.v1` up to date until the sidecar stops, then says so.
async fn report(desk: Arc<Desk>, reporter: HealthReporter) {
    let interval = Duration::from_millis(SIDECAR_READINESS_INTERVAL.0);
    let mut last = None;
    loop {
        let unready = desk.unready();
        if last.as_ref() != Some(&unready) {
            match &unready {
                None => tracing::info!("ready: the lease is live"),
                Some(reason) => tracing::warn!(%reason, "not ready: everything is denied"),
            }
            let status = if unready.is_none() { ServingStatus::Serving } else { ServingStatus::NotServing };
            for name in
                ["", "envoy.service.auth.v3.Authorization", "envoy.service.ext_proc.v3.ExternalProcessor"]
            {
                reporter.set_service_status(name, status).await;
            }
            last = Some(unready);
        }
        if desk.draining.is_cancelled() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = desk.draining.cancelled() => {}
        }
    }
}
