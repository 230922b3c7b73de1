//! The edge port's gRPC service, as the HTTP/2 layer calls it: sync and snapshots have bodies of their own, which tonic's
//! generated code has no place for; everything else goes on to the generated service.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use haltline_pki::PeerIdentity;
use haltline_wire::refusal::Refusal;
use http_body::Body as HttpBody;
use tonic::{
    body::Body,
    codegen::http::{HeaderValue, Request, Response, header::CONTENT_TYPE},
    server::NamedService,
};
use tower::Service;

use crate::{hub::Hub, refused::StreamRefused, upstream::Upstream};

const SYNC: &str = "/haltline.v1.EdgeService/Sync";
const FETCH_SNAPSHOT: &str = "/haltline.v1.EdgeService/FetchSnapshot";
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// See the module. Cheap to clone.
pub struct EdgePort<U, S> {
    hub: Hub<U>,
    rest: S,
}

impl<U, S: Clone> Clone for EdgePort<U, S> {
    fn clone(&self) -> Self {
        Self { hub: self.hub.clone(), rest: self.rest.clone() }
    }
}

impl<U, S> std::fmt::Debug for EdgePort<U, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EdgePort").field("hub", &self.hub).finish_non_exhaustive()
    }
}

impl<U, S> EdgePort<U, S> {
    pub(crate) const fn new(hub: Hub<U>, rest: S) -> Self {
        Self { hub, rest }
    }
}

impl<U, S> NamedService for EdgePort<U, S> {
    const NAME: &'static str = "haltline.v1.EdgeService";
}

/// The rest of a hub that serves nothing else, as a relay's.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingElse;

impl Service<Request<Body>> for NothingElse {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let refusal = Refusal::from(StreamRefused::NotServed { call: request.uri().path().to_owned() });
        std::future::ready(Ok(refusal.to_status().into_http()))
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<U, S> Service<Request<Body>> for EdgePort<U, S>
where
    U: Upstream,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.rest.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        match request.uri().path() {
            SYNC => {
                let answer = sync(&self.hub, request);
                Box::pin(std::future::ready(Ok(answer)))
            }
            FETCH_SNAPSHOT => Box::pin(snapshot(self.hub.clone(), request)),
            _ => Box::pin(self.rest.call(request)),
        }
    }
}

fn sync<U: Upstream>(hub: &Hub<U>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    match peer(&head.extensions).and_then(|peer| hub.sync(peer, body)) {
        Ok(stream) => response(stream),
        Err(refusal) => refusal.to_status().into_http(),
    }
}

async fn snapshot<U: Upstream>(hub: Hub<U>, request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let fetched = match peer(request.extensions()) {
        Ok(peer) => hub.snapshot(peer).await,
        Err(refusal) => Err(refusal),
    };
    Ok(match fetched {
        Ok(body) => response(body),
        Err(refusal) => refusal.to_status().into_http(),
    })
}

fn peer(extensions: &tonic::codegen::http::Extensions) -> Result<&PeerIdentity, Refusal> {
    extensions.get::<PeerIdentity>().ok_or_else(|| StreamRefused::NoIdentity.into())
}

fn response<B>(body: B) -> Response<Body>
where
    B: HttpBody<Data = bytes::Bytes, Error = tonic::Status> + Send + 'static,
{
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}
