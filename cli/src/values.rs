//! The values of secrets that lie in this machine's memory, for root: to be looked for where they must not be, and masked where they could
//! be. They are in no message, and wiped when done with.

use std::fs;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

/// A shorter one would be found everywhere.
pub const SHORTEST: usize = 8;
/// No secret is larger.
const LARGEST: u64 = 1 << 20;
/// app, service, set, file, and a live directory between.
const DEEPEST: usize = 6;

/// A value, and where it is.
#[derive(Clone)]
pub struct Value {
    /// `app/service/…/NAME`, below the memory of secrets.
    pub place: String,
    /// Its bytes, without the line feed at its end.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Value").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Value {
    /// As it may stand in a JSON text: as it is, and as Go escapes it.
    pub fn forms(&self) -> Vec<Zeroizing<Vec<u8>>> {
        let mut forms = vec![self.bytes.clone()];
        if let Ok(text) = std::str::from_utf8(&self.bytes) {
            let quoted = Zeroizing::new(serde_json::Value::from(text).to_string());
            let inner = quoted.trim_start_matches('"').strip_suffix('"').unwrap_or_default();
            let go = inner.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
            for form in [inner.as_bytes().to_vec(), go.into_bytes()] {
                if forms.iter().all(|known| **known != form) {
                    forms.push(Zeroizing::new(form));
                }
            }
        }
        forms
    }
}

/// All that lie below a directory; how many were too short to be looked for. An error where it cannot be read: a part would be no answer.
pub fn below(directory: &Path) -> io::Result<(Vec<Value>, usize)> {
    let (mut found, mut short) = (Vec::new(), 0);
    walk(directory, directory, 0, &mut found, &mut short)?;
    Ok((found, short))
}

fn walk(top: &Path, directory: &Path, depth: usize, found: &mut Vec<Value>, short: &mut usize) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Links are the fetcher's own, to sets that are here too.
        let kind = entry.file_type()?;
        if kind.is_dir() && depth < DEEPEST {
            walk(top, &entry.path(), depth + 1, found, short)?;
        } else if kind.is_file() && entry.metadata()?.len() <= LARGEST {
            let mut bytes = Zeroizing::new(fs::read(entry.path())?);
            while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                bytes.pop();
            }
            if bytes.len() < SHORTEST {
                *short += 1;
            } else {
                let path = entry.path();
                let place = path.strip_prefix(top).unwrap_or(&path).display().to_string();
                found.push(Value { place, bytes });
            }
        }
    }
    Ok(())
}

/// Where `needle` begins in `text`, from an offset on.
pub fn find(text: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    let first = *needle.first()?;
    let mut at = from;
    while let Some(step) = text.get(at..)?.iter().position(|byte| *byte == first) {
        at += step;
        if text[at..].starts_with(needle) {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_place_and_never_shown() {
        let root = tempfile::tempdir().unwrap();
        let set = root.path().join("web/api/0123");
        fs::create_dir_all(&set).unwrap();
        fs::write(set.join("DB"), "hunter2hunter2\n").unwrap();
        fs::write(set.join("PIN"), "1234").unwrap();
        std::os::unix::fs::symlink("0123", root.path().join("web/api/..data")).unwrap();
        let (found, short) = below(root.path()).unwrap();
        assert_eq!((found.len(), short, found[0].place.as_str()), (1, 1, "web/api/0123/DB"));
        assert_eq!(*found[0].bytes, b"hunter2hunter2");
        assert!(!format!("{found:?}").contains("hunter2"));
        assert!(below(&root.path().join("absent")).is_err());
    }

    #[test]
    fn a_value_is_looked_for_as_it_is_escaped() {
        let value = Value { place: String::new(), bytes: Zeroizing::new(b"a\"<b>&c".to_vec()) };
        let forms: Vec<String> = value.forms().iter().map(|form| String::from_utf8(form.to_vec()).unwrap()).collect();
        assert_eq!(forms, ["a\"<b>&c", "a\\\"<b>&c", "a\\\"\\u003cb\\u003e\\u0026c"]);
        let value = Value { place: String::new(), bytes: Zeroizing::new(vec![0xff; 9]) };
        assert_eq!(value.forms().len(), 1);
    }

    #[test]
    fn bytes_are_found() {
        for (text, needle, from, at) in [
            ("abcabd", "abd", 0, Some(3)),
            ("abcabd", "abd", 4, None),
            ("abc", "abcd", 0, None),
            ("", "a", 0, None),
            ("aaab", "aab", 0, Some(1)),
            ("abc", "", 0, None),
        ] {
            assert_eq!(find(text.as_bytes(), needle.as_bytes(), from), at, "{text} {needle}");
        }
    }
}
