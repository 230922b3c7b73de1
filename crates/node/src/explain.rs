//! A layer that turns the transport's own refusals (a message too large, or none at all) into Haltline's.
//!
//! tonic answers those before any service sees the call, with codes that mislead and without details.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tonic::{Status, body::Body, codegen::http};
use tower::{Layer, Service};

use crate::refused::of_transport;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Explain;

impl<S> Layer<S> for Explain {
    type Service = Explained<S>;

    fn layer(&self, inner: S) -> Explained<S> {
        Explained { inner }
    }
}

/// A service whose refusals are explained.
#[derive(Debug, Clone)]
pub(crate) struct Explained<S> {
    inner: S,
}

impl<S> Service<http::Request<Body>> for Explained<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            Ok(explained(response))
        })
    }
}

/// Only a call that was refused before it began has its status among the headers.
fn explained(response: http::Response<Body>) -> http::Response<Body> {
    let Some(status) = Status::from_header_map(response.headers()) else { return response };
    if !status.details().is_empty() {
        return response;
    }
    let refusal = of_transport(&status);
    if refusal.code == status.code() { response } else { refusal.to_status().into_http() }
}
