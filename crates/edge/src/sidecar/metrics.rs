//! What the sidecar counts, in the text format that Prometheus reads.

use prometheus_client::{
    encoding::{
        EncodeLabelSet, EncodeLabelValue,
        text::{encode_eof, encode_registry},
    },
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::answer::Refusal;

/// Over which protocol a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Surface {
    /// Envoy's ext_authz.
    Check,
    /// Envoy's ext_proc.
    Process,
    /// HTTP/JSON.
    Http,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    surface: Surface,
    /// `PERMIT`, or the refusal's code: all are constants of ours, so there are few.
    answer: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cut {
    code: &'static str,
}

/// What is read at the moment of a scrape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) ready: bool,
    pub(crate) watched: usize,
    pub(crate) hearing: usize,
    pub(crate) index: u64,
}

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    answers: Family<Answered, Counter>,
    cuts: Family<Cut, Counter>,
}

impl Metrics {
    /// A question was answered.
    pub(crate) fn answered(&self, surface: Surface, refusal: Option<&Refusal>) {
        let answer = refusal.map_or("PERMIT", |refusal| refusal.code);
        self.answers.get_or_create(&Answered { surface, answer }).inc();
    }

    /// A stream in flight was cut.
    pub(crate) fn cut(&self, code: &'static str) {
        self.cuts.get_or_create(&Cut { code }).inc();
    }

    /// The page, with the numbers of this moment and those of the link to the cluster.
    pub(crate) fn page(&self, link: &Registry, reading: Reading) -> String {
        let mut registry = Registry::with_prefix("haltline_sidecar");
        let gauge = |value: u64| {
            let gauge: Gauge = Gauge::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            gauge
        };
        registry.register("answers", "questions answered, by protocol and answer", self.answers.clone());
        registry.register("streams_cut", "streams in flight that were cut, by reason", self.cuts.clone());
        registry.register("ready", "1 while the lease is live", gauge(reading.ready.into()));
        registry.register(
            "streams_watched",
            "streams in flight that can be cut",
            gauge(reading.watched as u64),
        );
        registry.register(
            "halt_watchers",
            "callers that wait to hear that a session was halted",
            gauge(reading.hearing as u64),
        );
        registry.register(
            "index",
            "the entry of the log that decisions are made under",
            gauge(reading.index),
        );
        let mut page = String::new();
        [&registry, link]
            .into_iter()
            .try_for_each(|registry| encode_registry(&mut page, registry))
            .and_then(|()| encode_eof(&mut page))
            .expect("a String takes everything");
        page
    }
}
