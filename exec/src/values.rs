//! The files that become variables: read whole, or refused. What it refuses it names by variable and file, never by content.
//!
//! Buffers are not wiped: `Command` has its own copies, which only unsafe code could reach, and `execve` gives up the whole memory of this
//! process a moment later.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use crate::arguments::Variable;
use crate::failure::{Failure, shown};

/// The most bytes of one value. The kernel takes 128 KiB for one variable, its name included.
const VALUE_LIMIT: usize = 64 * 1024;

const NEXT_MOUNT: &str = "check that the secret is mounted there, and that it is a file";
const NEXT_OWNER: &str = "let the container's user read it: `uid`, `gid`, `mode` of the service's secret";
const NEXT_CONTENT: &str = "have the program read the file itself, or store the value encoded, as base64 for one";
const NEXT_SIZE: &str = "have the program read the file itself";

/// Why a file's content cannot be a variable's value, and what to do.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    why: String,
    next: &'static str,
}

/// The value of one variable.
pub fn read(variable: &Variable) -> Result<OsString, Failure> {
    read_file(&variable.file).and_then(value).map_err(|refusal| {
        let (name, file) = (shown(&variable.name), shown(variable.file.as_os_str()));
        let Refusal { why, next } = refusal;
        Failure::configuration(format!("cannot set `{name}` from `{file}`: {why}; next: {next}"))
    })
}

/// One byte more than the limit at most: enough to see that there is more.
fn read_file(path: &Path) -> Result<Vec<u8>, Refusal> {
    let failed = |error: std::io::Error| Refusal {
        why: error.to_string(),
        next: if error.kind() == ErrorKind::PermissionDenied { NEXT_OWNER } else { NEXT_MOUNT },
    };
    // Asked before it is opened: a FIFO would wait for a writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Refusal { why: "it is not a file".into(), next: NEXT_MOUNT });
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(VALUE_LIMIT as u64 + 1).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

fn value(bytes: Vec<u8>) -> Result<OsString, Refusal> {
    if bytes.len() > VALUE_LIMIT {
        return Err(Refusal { why: format!("it has more than {VALUE_LIMIT} bytes"), next: NEXT_SIZE });
    }
    if bytes.contains(&0) {
        return Err(Refusal { why: "it holds a NUL byte, which no variable can".into(), next: NEXT_CONTENT });
    }
    Ok(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_taken_as_it_is() {
        let largest = vec![b'x'; VALUE_LIMIT];
        for bytes in [&b""[..], b"a\n", b" a ", b"\xff\xfe=", "gr\u{fc}n \u{1f511}".as_bytes(), &largest] {
            assert_eq!(value(bytes.to_vec()).map(OsString::into_vec), Ok(bytes.to_vec()));
        }
    }

    #[test]
    fn what_no_variable_can_hold() {
        for bytes in [vec![b'x'; VALUE_LIMIT + 1], b"swordfish\0".to_vec(), vec![0]] {
            let refusal = value(bytes).unwrap_err();
            assert!(!format!("{refusal:?}").contains("swordfish"));
        }
    }
}
