//! How results are shown: a table for people, and one JSON object a line for programs.
//!
//! What must stay true: the names of benches, params and metrics are an interface (docs and scripts rely on them).

use serde_json::{Map, Value, json};

use crate::{machine::Machine, spread::Spread};

/// One line of results.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    bench: &'static str,
    params: Map<String, Value>,
    metrics: Map<String, Value>,
}

impl Line {
    pub(crate) fn new(bench: &'static str) -> Self {
        Self { bench, params: Map::new(), metrics: Map::new() }
    }

    pub(crate) fn param(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.params.insert(name.into(), value.into());
        self
    }

    /// A figure, with its spread over the runs beside it.
    pub(crate) fn metric(mut self, name: &str, spread: Spread) -> Self {
        for (name, value) in [
            (name.to_owned(), spread.median),
            (format!("{name}_min"), spread.min),
            (format!("{name}_max"), spread.max),
        ] {
            self.metrics.insert(name, json!(rounded(value)));
        }
        self
    }

    /// A figure that has no spread.
    pub(crate) fn plain_metric(mut self, name: &str, value: f64) -> Self {
        self.metrics.insert(name.into(), json!(rounded(value)));
        self
    }

    /// As one line of JSON.
    pub(crate) fn to_json(&self, machine: &Machine) -> String {
        json!({
            "bench": self.bench,
            "params": self.params,
            "metrics": self.metrics,
            "machine": machine.to_json(),
        })
        .to_string()
    }
}

/// Three decimals: more would be noise.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// A number as people read it: three significant digits or so.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 10_000.0 => format!("{:.1} k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A median with its ends.
pub(crate) fn spread(spread: Spread) -> String {
    format!("{} ({}–{})", number(spread.median), number(spread.min), number(spread.max))
}

/// A table with aligned columns; the first row is the heading.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
        if index == 0 {
            let rules = widths.iter().map(|width| "-".repeat(*width));
            text.push_str(&rules.collect::<Vec<_>>().join("  "));
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_has_its_spread_beside_the_median() {
        let spread = Spread { median: 2.0, min: 1.23456, max: 3.0 };
        let line = Line::new("commit").param("system", "haltline").metric("p50_ms", spread);
        let json: Value = serde_json::from_str(&line.to_json(&Machine::here())).unwrap();
        assert_eq!(json["bench"], "commit");
        assert_eq!(json["params"]["system"], "haltline");
        assert_eq!(json["metrics"], json!({"p50_ms": 2.0, "p50_ms_min": 1.235, "p50_ms_max": 3.0}));
        assert!(json["machine"]["cores"].as_u64().unwrap() > 0);
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a", "long"], ["wide", "b"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "a     long\n----  ----\nwide  b\n");
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.123, 12.34, 345.6, 12_345.0].map(number);
        assert_eq!(shown, ["0.12", "12.3", "346", "12.3 k"]);
    }
}
