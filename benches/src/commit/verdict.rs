//! Target P4, judged by ratios to etcd in the same run.

use super::{
    SystemName,
    results::{Figures, Results},
};
use crate::report;

/// Commands a second on the pipelined stream.
const STREAM_OPS_PER_S_MIN: f64 = 60_000.0;
/// Times etcd's rate at 64 in flight.
const RATE_RATIO_MIN: f64 = 4.0;
/// Share of etcd's server CPU at 1,024 in flight.
const CPU_RATIO_MAX: f64 = 0.25;

/// Each part of the target, what was seen, and whether it holds. Parts that weren't measured are left out.
pub(super) fn table(results: &Results) -> String {
    let mut rows =
        vec![["P4 against etcd with TLS", "target", "seen", "verdict"].map(str::to_owned).to_vec()];
    let mut add = |what: &str, target: String, seen: f64, holds: bool| {
        let verdict = if holds { "holds" } else { "FALLS SHORT" };
        rows.push(vec![what.into(), target, report::number(seen), verdict.into()]);
    };
    if let Some((ours, theirs)) = both(results, 1) {
        let ratio = ours.p50_ms.median / theirs.p50_ms.median;
        add("p50 at 1 in flight, ratio", "≤ 1".into(), ratio, ratio <= 1.0);
    }
    if let Some((ours, theirs)) = both(results, 64) {
        let ratio = ours.ops_per_s.median / theirs.ops_per_s.median;
        add("rate at 64 in flight, ratio", format!("≥ {RATE_RATIO_MIN}"), ratio, ratio >= RATE_RATIO_MIN);
        let ratio = ours.p99_ms.median / theirs.p99_ms.median;
        add("p99 at 64 in flight, ratio", "< 1".into(), ratio, ratio < 1.0);
    }
    if let Some((ours, theirs)) = both(results, 1_024) {
        let ratio = ours.server_cpu_us_per_op.median / theirs.server_cpu_us_per_op.median;
        let what = "server CPU per command at 1,024 in flight, ratio";
        add(what, format!("≤ {CPU_RATIO_MAX}"), ratio, ratio <= CPU_RATIO_MAX);
    }
    if let Some(stream) = results.stream(SystemName::Haltline.params()) {
        let rate = stream.ops_per_s.median;
        let target = format!("≥ {}", report::number(STREAM_OPS_PER_S_MIN));
        add("pipelined stream, commands/s", target, rate, rate >= STREAM_OPS_PER_S_MIN);
    }
    report::table(&rows)
}

/// Haltline's figures and those of etcd with TLS.
fn both(results: &Results, in_flight: usize) -> Option<(Figures, Figures)> {
    let ours = results.unary(SystemName::Haltline.params(), in_flight)?;
    Some((ours, results.unary(SystemName::Etcd.params(), in_flight)?))
}
