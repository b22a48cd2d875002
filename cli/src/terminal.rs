//! Colour, widths, ages and sizes as people read them. Pure but for the functions that look at or write to a stream.
//! Everything is readable without colour; untrusted text is escaped before it gets here, or in [`paragraph`].

use std::io::{IsTerminal as _, Write as _};

use landfall_core::ids::printable;

/// The width that every table fits.
pub const WIDTH: usize = 80;

/// How much of each line of a paragraph is shown, and how many lines.
const PARAGRAPH_LINE: usize = 400;
const PARAGRAPH_LINES: usize = 20;

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint(bool);

impl Paint {
    /// Never.
    pub const OFF: Self = Self(false);

    /// For stdout: only a terminal, and not where `NO_COLOR` is set.
    pub fn for_stdout() -> Self {
        Self(std::io::stdout().is_terminal() && wanted())
    }

    /// For stderr, by the same rule.
    pub fn for_stderr() -> Self {
        Self(std::io::stderr().is_terminal() && wanted())
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Green.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// Red.
    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// Yellow.
    pub fn busy(self, text: &str) -> String {
        self.with("33", text)
    }

    /// Bold.
    pub fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    /// Dim.
    pub fn faint(self, text: &str) -> String {
        self.with("2", text)
    }
}

fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && std::env::var_os("TERM").is_none_or(|v| v != "dumb")
}

/// Writes data to stdout. A reader that went away (`| head`) is no error of ours.
pub fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Cut to `width` characters, with `…` where something was cut.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Cut and padded to exactly `width` characters.
pub fn column(text: &str, width: usize) -> String {
    format!("{:<width$}", cut(text, width))
}

/// `head`, then the words of `text` on lines of at most [`WIDTH`]. Later lines are indented by `indent`, which is also
/// how wide `head` is on a screen. A word that is longer than a line is not cut.
pub fn wrap(head: &str, indent: usize, text: &str) -> String {
    let mut out = head.to_owned();
    let mut used = indent;
    let mut fresh = true;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !fresh && used + 1 + length > WIDTH {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            used = indent;
            fresh = true;
        }
        if !fresh {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
        fresh = false;
    }
    out.push('\n');
    out
}

/// [`wrap`], for text from outside that has lines of its own: they are kept, and nothing else that a terminal would obey.
pub fn paragraph(head: &str, indent: usize, text: &str) -> String {
    let margin = " ".repeat(indent);
    let mut out = String::new();
    for (number, line) in text.lines().take(PARAGRAPH_LINES).enumerate() {
        let head = if number == 0 { head } else { &margin };
        out.push_str(&wrap(head, indent, &printable(line, PARAGRAPH_LINE)));
    }
    if out.is_empty() {
        return wrap(head, indent, "");
    }
    if text.lines().nth(PARAGRAPH_LINES).is_some() {
        out.push_str(&wrap(&margin, indent, "… there is more: see it with `--json`"));
    }
    out
}

/// Bytes as Compose writes them: `34M`, `1.5G`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "K", "M", "G", "T"];
    let mut unit = 0;
    let mut scale = 1_u64;
    while unit + 1 < UNITS.len() && bytes >= scale * 1024 {
        scale *= 1024;
        unit += 1;
    }
    let tenths = (u128::from(bytes) * 10 + u128::from(scale / 2)) / u128::from(scale);
    match (tenths / 10, tenths % 10) {
        (whole, tenth) if whole < 10 && tenth > 0 => format!("{whole}.{tenth}{}", UNITS[unit]),
        _ => format!("{}{}", (tenths + 5) / 10, UNITS[unit]),
    }
}

/// A span as people say it: `3s`, `12m`, `5h`, `9d`; nothing negative.
pub fn span(seconds: i64) -> String {
    match seconds.max(0) {
        s if s < 120 => format!("{s}s"),
        s if s < 2 * 3600 => format!("{}m", s / 60),
        s if s < 2 * 86_400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// Milliseconds as people say them: `0.4s`, `12.3s`, `4m`.
pub fn took(milliseconds: u64) -> String {
    if milliseconds < 120_000 {
        format!("{}.{}s", milliseconds / 1000, milliseconds % 1000 / 100)
    } else {
        span(i64::try_from(milliseconds / 1000).unwrap_or(i64::MAX))
    }
}

/// How long before `at` was `then` (both RFC 3339), as people say it.
pub fn age(at: &str, then: &str) -> Option<String> {
    let at: jiff::Timestamp = at.parse().ok()?;
    let then: jiff::Timestamp = then.parse().ok()?;
    Some(span(at.as_second() - then.as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_as_people_read_them() {
        let sizes = [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1K"),
            (1536, "1.5K"),
            (64 << 20, "64M"),
            (1_610_612_736, "1.5G"),
            (u64::MAX, "16777216T"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
        for (seconds, text) in [(-5, "0s"), (3, "3s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172_800, "2d")] {
            assert_eq!(span(seconds), text);
        }
        for (ms, text) in [(40, "0.0s"), (1234, "1.2s"), (119_999, "119.9s"), (300_000, "5m")] {
            assert_eq!(took(ms), text);
        }
        assert_eq!(age("2026-01-01T00:00:10.500Z", "2026-01-01T00:00:07Z").as_deref(), Some("3s"));
        assert_eq!(age("garbled", "2026-01-01T00:00:07Z"), None);
    }

    #[test]
    fn text_fits() {
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(column("ab", 4), "ab  ");
        let wrapped = wrap("  ", 2, &"word ".repeat(40));
        assert!(wrapped.lines().all(|l| l.chars().count() <= WIDTH), "{wrapped}");
        assert_eq!(wrap("- ", 2, "a b"), "- a b\n");
    }
}
