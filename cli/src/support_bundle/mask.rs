//! What must not leave the machine is taken out of texts: values of secrets that are here, passwords in URLs, and what stands under a key of
//! a settings file that is called like one. Pure. It errs towards taking out too much.

use zeroize::Zeroizing;

use crate::values::{SHORTEST, Value, find};

/// What stands in place of what was taken out.
pub const MASKED: &str = "[masked]";
/// Words of names whose values are nobody's business. `secret` and `credential` alone name a reference and a file in landfall.yaml.
const WORDS: [&str; 9] =
    ["password", "passwd", "passphrase", "token", "secret_", "_secret", "apikey", "api_key", "private"];
/// A line of a value of several lines is looked for by itself from this length on: the journal has each on a line of its own.
const LINE: usize = 16;
/// What ends the part of a URL that can hold a user.
const ENDS: [char; 8] = ['/', '?', '#', '"', '\'', '`', '<', '>'];

/// Values to be taken out.
#[derive(Default)]
pub struct Mask {
    forms: Vec<Zeroizing<Vec<u8>>>,
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mask").field("forms", &self.forms.len()).finish()
    }
}

impl Mask {
    /// Takes out these, in each form in which they may be written.
    pub fn of(values: &[Value]) -> Self {
        let mut forms: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        for value in values {
            forms.extend(value.forms());
            let lines = value.bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            forms.extend(lines.filter(|line| line.len() >= LINE).map(|line| Zeroizing::new(line.to_vec())));
        }
        forms.retain(|form| form.len() >= SHORTEST);
        // A value that has another one in it goes first.
        forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        forms.dedup();
        Self { forms }
    }

    /// The text without them, and without passwords in URLs.
    pub fn text(&self, text: &[u8]) -> Vec<u8> {
        let mut text = text.to_vec();
        for form in &self.forms {
            text = without(&text, form);
        }
        urls(&String::from_utf8_lossy(&text)).into_bytes()
    }
}

/// Whether a name is that of something secret.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    WORDS.iter().any(|word| name.contains(word)) || name.ends_with("_key") || name.ends_with("pwd")
}

fn without(text: &[u8], form: &[u8]) -> Vec<u8> {
    let (mut out, mut from) = (Vec::with_capacity(text.len()), 0);
    while let Some(at) = find(text, form, from) {
        out.extend_from_slice(&text[from..at]);
        out.extend_from_slice(MASKED.as_bytes());
        from = at + form.len();
    }
    out.extend_from_slice(&text[from..]);
    out
}

/// `https://user:password@host` to `https://[masked]@host`.
fn urls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let word = after.split(char::is_whitespace).next().unwrap_or_default();
        let authority = word.split(ENDS).next().unwrap_or_default();
        // What is behind a `:` and no port is a password, and may have been written as no URL can have it.
        let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let has_password = authority.split_once(':').is_some_and(|(_, rest)| !is_port(rest)) && !word.starts_with('[');
        rest = match authority.rfind('@').or_else(|| if has_password { word.rfind('@') } else { None }) {
            Some(at) => {
                out.push_str(MASKED);
                &after[at..]
            }
            None => after,
        };
    }
    out + rest
}

/// A settings file: what stands behind a key that is called like something secret goes, to the end of the line, with the lines that belong to it.
pub fn yaml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // The indent of the key whose value is being left out, and whether nothing of the value was seen yet.
    let mut within: Option<(usize, bool)> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if let Some((of, is_open)) = within {
            if line.trim().is_empty() || indent > of || is_open {
                within = Some((of, is_open && line.trim().is_empty()));
                continue;
            }
            within = None;
        }
        match key_end(line) {
            Some(end) => {
                out.push_str(&line[..end]);
                out.push(' ');
                out.push_str(MASKED);
                within = Some((indent, line[end..].trim().is_empty()));
            }
            None => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

/// Where the first such key on the line ends, behind its colon.
fn key_end(line: &str) -> Option<usize> {
    line.match_indices(':').map(|(at, _)| at).find_map(|at| {
        let before = line[..at].trim_end().trim_end_matches(['"', '\'']);
        let begin = before
            .rfind(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.')))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        is_secret(&before[begin..]).then_some(at + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Value { place: String::new(), bytes: Zeroizing::new(text.as_bytes().to_vec()) }
    }

    #[test]
    fn values_and_passwords_in_urls_go() {
        let key = "-----BEGIN KEY-----\nabcdefghijklmnopqrstuvwxyz\n-----END KEY-----";
        let mask =
            Mask::of(&[value("hunter2hunter2"), value("hunter2hunter2-long"), value("a\"quoted\"one"), value(key)]);
        for (text, masked) in [
            ("x hunter2hunter2 y", "x [masked] y"),
            ("hunter2hunter2-long", "[masked]"),
            (r#"{"a":"a\"quoted\"one"}"#, r#"{"a":"[masked]"}"#),
            ("Jan 1 x: abcdefghijklmnopqrstuvwxyz", "Jan 1 x: [masked]"),
            ("https://ann:pw@example.com/a?b", "https://[masked]@example.com/a?b"),
            ("see https://token@h and http://h/a@b", "see https://[masked]@h and http://h/a@b"),
            ("'postgres://u:p@w@db:5432/x'", "'postgres://[masked]@db:5432/x'"),
            ("https://ann:p/\"w@example.com/", "https://[masked]@example.com/"),
            ("http://h:80/a@b", "http://h:80/a@b"),
            ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
            ("unix:///run/x", "unix:///run/x"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(String::from_utf8(mask.text(text.as_bytes())).unwrap(), masked);
        }
        assert!(!format!("{mask:?}").contains("hunter"));
    }

    #[test]
    fn what_stands_under_such_a_key_goes() {
        for (text, masked) in [
            ("vars: { DB_PASSWORD: pw, HOST: h }\nx: 1", "vars: { DB_PASSWORD: [masked]\nx: 1\n"),
            ("  \"API-TOKEN\" : pw", "  \"API-TOKEN\" : [masked]\n"),
            ("  TOKEN: |\n    pw\n\n    pw\n  HOST: h", "  TOKEN: [masked]\n  HOST: h\n"),
            ("  TOKEN:\n  \"pw\"\n  HOST: h", "  TOKEN: [masked]\n  HOST: h\n"),
            ("# password: pw", "# password: [masked]\n"),
            ("ghcr.io: { username: u, secret: ghcr-read }", "ghcr.io: { username: u, secret: ghcr-read }\n"),
            ("credential: /etc/x", "credential: /etc/x\n"),
            ("url: \"https://kv.vault.azure.net\"", "url: \"https://kv.vault.azure.net\"\n"),
            ("ü: 1, pässword: 2, x_key: 3", "ü: 1, pässword: 2, x_key: [masked]\n"),
        ] {
            assert_eq!(yaml(text), masked);
        }
    }
}
