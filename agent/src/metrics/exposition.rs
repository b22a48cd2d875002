//! Prometheus' text format: families, their samples, escaped labels.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use std::fmt::Write as _;

use jiff::Timestamp;

/// The text as far as it is written.
#[derive(Default)]
pub struct Page {
    /// Whole lines.
    pub text: String,
    name: &'static str,
}

impl Page {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        let _ = writeln!(self.text, "# HELP {name} {help}.\n# TYPE {name} {kind}");
    }

    /// One of the family.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.suffixed("", labels, value);
    }

    /// Left out where it is not known.
    pub fn known(&mut self, labels: &[(&str, &str)], value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.sample(labels, value);
        }
    }

    /// A time in RFC 3339; what is none is left out.
    pub fn moment(&mut self, labels: &[(&str, &str)], time: Option<&str>) {
        self.known(labels, time.and_then(|time| time.parse().ok()).map(seconds));
    }

    /// One whose name is the family's with more behind it.
    pub fn suffixed(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        for (count, (key, text)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{key}=\"", if count == 0 { '{' } else { ',' });
            for c in text.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

/// Since 1970.
pub fn seconds(time: Timestamp) -> String {
    thousandths(time.as_millisecond())
}

/// A thousandth of `value`, exactly.
pub fn thousandths(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let value = value.unsigned_abs();
    format!("{sign}{}.{:03}", value / 1000, value % 1000)
}
