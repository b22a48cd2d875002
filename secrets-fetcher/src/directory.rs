//! A directory with a file for each secret: systemd credentials, other clouds, a first try. Files have no versions: the version is
//! an HMAC of the value, under a random key that never leaves the fetcher, so that it says nothing of the value to who reads it. The
//! key outlives a reboot: what ran before it is asked for by its version.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use landfall_core::publish;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::source::{FetchError, Fetched, Fetching, Pause, Source};
use crate::value::Value;

const KEY_BYTES: usize = 32;
/// A secret is a password or a certificate.
const MAX_VALUE_BYTES: u64 = 1 << 20;

/// The source.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    key: PathBuf,
}

impl Directory {
    /// The files in `path`; the file `key` is made where it is not there.
    pub fn new(path: &Path, key: &Path) -> Self {
        Self { path: path.to_owned(), key: key.to_owned() }
    }

    fn read(&self, name: &str, version: Option<&str>) -> Result<Fetched, FetchError> {
        let path = self.path.join(name);
        let value = read_value(&path).map_err(|error| {
            let next = if error.kind() == io::ErrorKind::NotFound {
                "next: put it there"
            } else {
                "next: see that it is a file that the fetcher may read"
            };
            FetchError::of_secret(format!("cannot read `{}` ({error}); {next}", path.display()))
        })?;
        let key = key(&self.key).map_err(|error| {
            let problem = format!("cannot use the key `{}` ({error}); next: remove it", self.key.display());
            FetchError::of_vault(problem, Pause::BackOff)
        })?;
        let found = hex(hmac::sign(&key, value.bytes()).as_ref());
        match version {
            Some(version) if version != found => Err(FetchError::of_secret(format!(
                "`{}` has not the content any more that was asked for (version `{version}`): a directory has no history; next: put it back, or deploy what uses the new one",
                path.display()
            ))),
            Some(_) | None => Ok(Fetched { value, version: found, not_before: None, expires: None }),
        }
    }
}

impl Source for Directory {
    fn fetch<'a>(&'a self, name: &'a str, version: Option<&'a str>) -> Fetching<'a> {
        Box::pin(std::future::ready(self.read(name, version)))
    }
}

pub(crate) fn read_value(path: &Path) -> io::Result<Value> {
    let file = File::open(path)?;
    let data = file.metadata()?;
    if !data.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    // All at once: a vector that grows leaves copies behind.
    let mut bytes = Vec::with_capacity(usize::try_from(data.len().min(MAX_VALUE_BYTES)).unwrap_or_default() + 1);
    file.take(MAX_VALUE_BYTES + 1).read_to_end(&mut bytes)?;
    let value = Value::new(bytes);
    if value.bytes().len() as u64 > MAX_VALUE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {MAX_VALUE_BYTES} bytes")));
    }
    Ok(value)
}

/// The key, which is made where there is none.
fn key(path: &Path) -> io::Result<hmac::Key> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) if bytes.len() == KEY_BYTES => bytes,
        Ok(_) => return Err(io::Error::other("it is damaged")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut bytes = vec![0; KEY_BYTES];
            SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("no random numbers"))?;
            publish::write(path, &bytes, 0o600)?;
            bytes
        }
        Err(error) => return Err(error),
    };
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// In lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|half| char::from_digit(half.into(), 16)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use landfall_core::secrets::SecretReference;

    use super::*;
    use crate::source::Scope;

    #[test]
    fn a_version_is_that_of_the_value_and_outlives_the_process() {
        let root = tempfile::tempdir().unwrap();
        let (secrets, key) = (root.path().join("secrets"), root.path().join("state/key"));
        std::fs::create_dir(&secrets).unwrap();
        let write = |text: &str| std::fs::write(secrets.join("db"), text).unwrap();
        let read = |version: Option<&str>| Directory::new(&secrets, &key).read("db", version);
        write("one");
        let first = read(None).unwrap();
        assert_eq!(first.value.bytes(), b"one");
        assert!(format!("db@{}", first.version).parse::<SecretReference>().is_ok(), "{}", first.version);
        assert_eq!(std::fs::metadata(&key).unwrap().mode() & 0o777, 0o600);
        write("two");
        let second = read(None).unwrap();
        assert_ne!(second.version, first.version);
        assert!(read(Some(&first.version)).unwrap_err().problem.contains("next: put it back"));
        write("one");
        assert_eq!(read(Some(&first.version)).unwrap().version, first.version);
        std::fs::remove_file(&key).unwrap();
        assert_ne!(read(None).unwrap().version, first.version, "another machine");
    }

    #[test]
    fn what_cannot_be_read_is_one_secret_and_a_damaged_key_all_of_them() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("directory")).unwrap();
        let key = root.path().join("state/key");
        let source = Directory::new(root.path(), &key);
        for (name, wanted) in [("absent", "put it there"), ("directory", "it is no file")] {
            let error = source.read(name, None).unwrap_err();
            assert!(error.problem.contains(wanted) && error.scope == Scope::Secret, "{error:?}");
        }
        std::fs::write(root.path().join("db"), "x").unwrap();
        publish::write(&key, b"short", 0o600).unwrap();
        assert_eq!(source.read("db", None).unwrap_err().scope, Scope::Vault(Pause::BackOff));
    }
}
