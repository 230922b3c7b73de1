//! Envoy's `ext_proc`: a stream beside each HTTP stream, which stays open while that runs, so that it can be cut.
//!
//! Envoy closes this stream as soon as it expects no more answers. It goes on expecting one while `response_trailer_mode` is
//! `SEND`, and sends nothing but the request's headers meanwhile, so watching costs one message, whatever flows:
//!
//! ```yaml
//! processing_mode: {request_header_mode: SEND, response_header_mode: SKIP, response_trailer_mode: SEND}
//! failure_mode_allow: false
//! ```
//!
//! What must stay true: this stream ends in order only after Envoy has ended it. Everything else is an answer that
//! refuses or an error, and both make Envoy reset the HTTP stream.

use std::sync::Arc;

use envoy_types::pb::envoy::service::ext_proc::v3::{
    BodyResponse, CommonResponse, HeaderMutation, HeadersResponse, HttpHeaders, ImmediateResponse,
    ProcessingRequest, ProcessingResponse, TrailersResponse, external_processor_server::ExternalProcessor,
    processing_request::Request as Asked, processing_response::Response as Answered,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use super::{
    action_rules::Call,
    answer::{self, Refusal},
    desk::{Desk, Watched},
    envoy::{self, Listed},
    metrics::Surface,
};
use crate::enforce::Permit;

/// Answers on their way to Envoy, which waits for each.
const ANSWERS_QUEUED_MAX: usize = 4;

/// The service.
#[derive(Debug)]
pub(super) struct Processor {
    pub(super) desk: Arc<Desk>,
    pub(super) tasks: TaskTracker,
}

type Answers = mpsc::Sender<Result<ProcessingResponse, Status>>;

#[tonic::async_trait]
impl ExternalProcessor for Processor {
    type ProcessStream = ReceiverStream<Result<ProcessingResponse, Status>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let (answers, stream) = mpsc::channel(ANSWERS_QUEUED_MAX);
        let desk = Arc::clone(&self.desk);
        self.tasks.spawn(async move {
            let asked = request.into_inner();
            if let Err(status) = attend(&desk, asked, &answers).await {
                // Whoever no longer listens has been told by the end of the stream.
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// From the first headers to the end of the HTTP stream. An error ends that, an `Ok` follows its end.
async fn attend(
    desk: &Desk,
    mut asked: Streaming<ProcessingRequest>,
    answers: &Answers,
) -> Result<(), Status> {
    let Some(first) = asked.message().await? else { return Ok(()) };
    if first.observability_mode {
        tracing::error!("Envoy's ext_proc runs in observability_mode, in which nothing can be cut");
        return Err(Status::failed_precondition("observability_mode must be off: nothing can be cut in it"));
    }
    let Some(Asked::RequestHeaders(headers)) = first.request else {
        return Err(Status::invalid_argument("request_header_mode must be SEND"));
    };
    let (watched, permit, _slot) = match judge(desk, &headers) {
        Ok(judged) => judged,
        Err(refusal) if desk.opens_for(&refusal) => return Err(Status::unavailable(refusal.message)),
        Err(refusal) => return refuse(answers, &refusal).await,
    };
    send(answers, Answered::RequestHeaders(permitted(&permit))).await;
    let refusal = tokio::select! {
        refusal = watched.until_refused(desk) => refusal,
        () = desk.closing.cancelled() => Refusal::stopping(),
        ended = accompany(&mut asked, answers) => return ended,
    };
    desk.metrics.cut(refusal.code);
    tracing::info!(
        code = refusal.code,
        kill = refusal.kill.map(|kill| kill.to_string()),
        "cut a stream in flight"
    );
    refuse(answers, &refusal).await
}

fn judge(desk: &Desk, headers: &HttpHeaders) -> Result<(Watched, Permit, OwnedSemaphorePermit), Refusal> {
    let listed = Listed::of(headers.headers.as_ref());
    let pseudo = |name, what| listed.pseudo(name).ok_or_else(|| Refusal::malformed(what));
    let call = Call {
        method: pseudo(":method", "the method")?,
        target: pseudo(":path", "the path")?,
        host: listed.pseudo(":authority").unwrap_or_default(),
        headers: &listed,
    };
    let (watched, permit) = desk.judge(Surface::Process, &call)?;
    Ok((watched, permit, desk.slot_to_watch()?))
}

/// Lets everything pass until Envoy says that the HTTP stream has ended.
async fn accompany(asked: &mut Streaming<ProcessingRequest>, answers: &Answers) -> Result<(), Status> {
    // An error here is Envoy's end of the stream too.
    while let Ok(Some(message)) = asked.message().await {
        let pass = match message.request {
            Some(Asked::RequestHeaders(_)) => Answered::RequestHeaders(HeadersResponse::default()),
            Some(Asked::ResponseHeaders(_)) => Answered::ResponseHeaders(HeadersResponse::default()),
            Some(Asked::RequestBody(_)) => Answered::RequestBody(BodyResponse::default()),
            Some(Asked::ResponseBody(_)) => Answered::ResponseBody(BodyResponse::default()),
            Some(Asked::RequestTrailers(_)) => Answered::RequestTrailers(TrailersResponse::default()),
            Some(Asked::ResponseTrailers(_)) => Answered::ResponseTrailers(TrailersResponse::default()),
            None => return Err(Status::invalid_argument("a message without a request")),
        };
        send(answers, pass).await;
    }
    Ok(())
}

async fn send(answers: &Answers, response: Answered) {
    let response = ProcessingResponse { response: Some(response), ..ProcessingResponse::default() };
    // Fails only after Envoy's end of the stream, which the next read tells.
    let _ = answers.send(Ok(response)).await;
}

fn permitted(permit: &Permit) -> HeadersResponse {
    let set_headers = envoy::overwriting(answer::permit_headers(permit), true);
    let header_mutation = Some(HeaderMutation { set_headers, ..HeaderMutation::default() });
    HeadersResponse { response: Some(CommonResponse { header_mutation, ..CommonResponse::default() }) }
}

/// An answer in place of the server's, where none has begun; then an error, which resets what has.
async fn refuse(answers: &Answers, refusal: &Refusal) -> Result<(), Status> {
    let mut headers = answer::refusal_headers(refusal);
    headers.push(("content-type", "application/json".to_owned()));
    let immediate = ImmediateResponse {
        status: envoy::status(refusal.kind.status()),
        headers: Some(HeaderMutation {
            set_headers: envoy::overwriting(headers, true),
            ..HeaderMutation::default()
        }),
        body: envoy::body(refusal).into_bytes(),
        details: format!("haltline_{}", refusal.code.to_ascii_lowercase()),
        ..ImmediateResponse::default()
    };
    send(answers, Answered::ImmediateResponse(immediate)).await;
    Err(Status::permission_denied(refusal.code))
}
