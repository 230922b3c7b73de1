//! What the runs of `commit` showed, by system and workload.

use serde_json::Value;

use super::workloads::{Entry, Workload};
use crate::{
    load::Run,
    report::{self, Line},
    spread::Spread,
};

/// Name and whether it has TLS.
pub(super) type System = (&'static str, bool);

/// All runs of one workload on one system.
#[derive(Debug)]
pub(super) struct Cell {
    system: System,
    workload: Workload,
    runs: Vec<Run>,
}

/// What the runs showed.
#[derive(Debug, Default)]
pub(super) struct Results(Vec<Cell>);

/// The figures of a cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figures {
    pub(super) ops_per_s: Spread,
    pub(super) p50_ms: Spread,
    pub(super) p99_ms: Spread,
    pub(super) server_cpu_us_per_op: Spread,
    client_cpu_us_per_op: Spread,
}

impl Results {
    /// Adds one run.
    pub(super) fn add(&mut self, system: System, workload: Workload, run: Run) {
        match self.0.iter_mut().find(|cell| cell.system == system && cell.workload == workload) {
            Some(cell) => cell.runs.push(run),
            None => self.0.push(Cell { system, workload, runs: vec![run] }),
        }
    }

    /// The figures of unary calls to a system's leader.
    pub(super) fn unary(&self, system: System, in_flight: usize) -> Option<Figures> {
        let workload = Workload::Closed { in_flight, entry: Entry::Leader };
        self.0.iter().find(|cell| cell.system == system && cell.workload == workload)?.figures()
    }

    /// The figures of the pipelined stream.
    pub(super) fn stream(&self, system: System) -> Option<Figures> {
        let is_stream = |cell: &&Cell| matches!(cell.workload, Workload::Stream { .. });
        self.0.iter().filter(|cell| cell.system == system).find(is_stream)?.figures()
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let heading =
            ["system", "load", "entry", "ops/s", "p50 ms", "p99 ms", "server CPU µs/op", "client CPU µs/op"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        for cell in &self.0 {
            let Some(figures) = cell.figures() else { continue };
            rows.push(vec![
                system_label(cell.system),
                match cell.workload {
                    Workload::Closed { in_flight, .. } => format!("{in_flight} in flight"),
                    Workload::Open { offered_per_s } => format!("{offered_per_s}/s offered"),
                    Workload::Stream { in_flight, streams } => {
                        format!("{in_flight} in flight, {streams} streams")
                    }
                },
                cell.workload.entry().name().to_owned(),
                report::spread(figures.ops_per_s),
                report::spread(figures.p50_ms),
                report::spread(figures.p99_ms),
                report::spread(figures.server_cpu_us_per_op),
                report::number(figures.client_cpu_us_per_op.median),
            ]);
        }
        report::table(&rows)
    }

    /// For programs.
    pub(super) fn lines(&self) -> Vec<Line> {
        self.0.iter().filter_map(Cell::line).collect()
    }
}

impl Cell {
    fn figures(&self) -> Option<Figures> {
        let over = |figure: &dyn Fn(&Run) -> f64| Spread::of(self.runs.iter().map(figure));
        Some(Figures {
            ops_per_s: over(&Run::ops_per_s)?,
            p50_ms: over(&|run| run.latencies.quantile_ms(0.5))?,
            p99_ms: over(&|run| run.latencies.quantile_ms(0.99))?,
            server_cpu_us_per_op: over(&Run::server_cpu_us_per_op)?,
            client_cpu_us_per_op: over(&Run::client_cpu_us_per_op)?,
        })
    }

    fn line(&self) -> Option<Line> {
        let figures = self.figures()?;
        let (name, tls) = self.system;
        // `null` where the load isn't of that kind: the open loop has no fixed number in flight, the others no rate.
        let (in_flight, offered) = match self.workload {
            Workload::Closed { in_flight, .. } | Workload::Stream { in_flight, .. } => {
                (Value::from(in_flight), Value::Null)
            }
            Workload::Open { offered_per_s } => (Value::Null, Value::from(offered_per_s)),
        };
        let line = Line::new("commit")
            .param("system", name)
            .param("tls", tls)
            .param("in_flight", in_flight)
            .param("entry", self.workload.entry().name())
            .param("offered_per_s", offered)
            .param("runs", self.runs.len());
        Some(
            line.metric("ops_per_s", figures.ops_per_s)
                .metric("p50_ms", figures.p50_ms)
                .metric("p99_ms", figures.p99_ms)
                .metric("server_cpu_us_per_op", figures.server_cpu_us_per_op),
        )
    }
}

/// A system's name for people.
pub(super) fn system_label((name, tls): System) -> String {
    if tls { format!("{name}, TLS") } else { format!("{name}, plain") }
}
