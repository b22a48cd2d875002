//! What was measured: the raw values, the numbers with their targets, the table, the two files.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

/// One of the numbers. Every target is a maximum.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Number {
    /// What it is called in docs/bench.md.
    pub name: String,
    /// What was measured.
    pub value: f64,
    /// What it may be at most.
    pub target: f64,
    /// `ratio`, `requests`, `ms`, `MiB`.
    pub unit: String,
}

/// All that was measured so far.
#[derive(Debug)]
pub struct Report {
    started: Instant,
    numbers: Vec<Number>,
    raw: BTreeMap<String, Vec<f64>>,
}

impl Default for Report {
    fn default() -> Self {
        Self { started: Instant::now(), numbers: Vec::new(), raw: BTreeMap::new() }
    }
}

impl Report {
    /// Says that it goes on.
    pub fn progress(&self, what: &str) {
        println!("{:6.1} s  {what}", self.started.elapsed().as_secs_f64());
    }

    /// Keeps the value of one run.
    pub fn raw(&mut self, name: &str, value: f64) {
        self.raw.entry(name.to_owned()).or_default().push(value);
    }

    /// The median of a raw value over its runs.
    pub fn median(&self, name: &str) -> Result<f64> {
        median(self.raw.get(name).map_or(&[], Vec::as_slice)).with_context(|| format!("no value of `{name}`"))
    }

    /// The raw value that so many of a hundred runs do not exceed.
    pub fn percentile(&self, name: &str, percent: usize) -> Result<f64> {
        let mut sorted = self.raw.get(name).cloned().unwrap_or_default();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100);
        let value = rank.checked_sub(1).and_then(|at| sorted.get(at));
        value.copied().with_context(|| format!("no value of `{name}`"))
    }

    /// A number that is the median of a raw value.
    pub fn number(&mut self, name: &str, target: f64, raw: &str, unit: &str) -> Result<()> {
        let value = self.median(raw)?;
        self.value(name, target, value, unit)
    }

    /// A number that is one median over another.
    pub fn ratio(&mut self, name: &str, target: f64, (over, under): (&str, &str)) -> Result<()> {
        let value = self.median(over)? / self.median(under)?;
        self.value(name, target, value, "ratio")
    }

    /// A number that was found elsewhere.
    pub fn value(&mut self, name: &str, target: f64, value: f64, unit: &str) -> Result<()> {
        ensure!(value.is_finite(), "`{name}` is {value}");
        self.numbers.push(Number { name: name.to_owned(), value, target, unit: unit.to_owned() });
        Ok(())
    }

    /// Writes both files.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.numbers)? + "\n";
        std::fs::write(directory.join("bench.json"), text)?;
        Ok(std::fs::write(directory.join("bench-raw.json"), serde_json::to_string_pretty(&self.raw)? + "\n")?)
    }

    /// Whether all targets are met.
    pub fn met(&self) -> bool {
        self.numbers.iter().all(Number::met)
    }

    /// For people: the medians behind the numbers, then the numbers.
    pub fn table(&self) -> String {
        let mut lines = vec![format!("{:34} {:>4} {:>9} {:>9} {:>9}", "raw value", "runs", "least", "median", "most")];
        for (name, values) in &self.raw {
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let middle = median(values).unwrap_or(f64::NAN);
            lines.push(format!("{name:34} {:4} {least:9.3} {middle:9.3} {most:9.3}", values.len()));
        }
        lines.push(format!("\n{:34} {:>9} {:>9}  {:10}", "number", "value", "target", "unit"));
        for number in &self.numbers {
            let Number { name, value, target, unit } = number;
            let verdict = if number.met() { "met" } else { "MISSED" };
            lines.push(format!("{name:34} {value:9.3} {target:9.3}  {unit:10} {verdict}"));
        }
        lines.join("\n")
    }
}

impl Number {
    fn met(&self) -> bool {
        self.value <= self.target
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_medians_and_a_missed_target_shows() {
        let mut report = Report::default();
        for (a, b) in [(4.0, 1.0), (1.0, 2.0), (3.0, 9.0), (2.0, 2.0)] {
            report.raw("a", a);
            report.raw("b", b);
        }
        report.ratio("a_over_b", 1.25, ("a", "b")).unwrap();
        assert!(
            report.met()
                && report.table().contains("a_over_b                               1.250     1.250  ratio      met")
        );
        report.number("a", 2.4, "a", "ms").unwrap();
        assert!(!report.met() && report.table().contains("MISSED"));
        assert!(report.number("c", 1.0, "c", "ms").is_err());
        for value in 1..=50_u8 {
            report.raw("many", f64::from(51 - value));
        }
        let ranks = [1, 50, 95, 100].map(|percent| report.percentile("many", percent).ok());
        assert_eq!(ranks, [Some(1.0), Some(25.0), Some(48.0), Some(50.0)]);
        assert_eq!(median(&[7.0, 1.0, 3.0]), Some(3.0));
    }
}
