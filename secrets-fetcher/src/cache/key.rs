//! The key that secrets are sealed with on this machine: what the service manager handed over, bound to the machine and to this one
//! purpose. It is never written anywhere, and never shown; its [`Key::id`] says nothing of it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use landfall_core::layout::{CACHE_KEY, Layout};
use ring::aead::{CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use ring::hkdf::{self, HKDF_SHA256, Prk, Salt};
use zeroize::Zeroizing;

use crate::directory::hex;

/// Where the service manager puts credentials.
pub const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// How long the key is.
pub const KEY_BYTES: usize = 32;
const PURPOSE: &[u8] = b"landfall secrets cache v1";
const ID_PURPOSE: &[u8] = b"landfall secrets cache v1, id of the key";
const MACHINE_PURPOSE: &[u8] = b"landfall secrets cache v1, id of the machine";
const ID_BYTES: usize = 8;

/// The key, for one machine.
pub struct Key {
    /// What seals and opens.
    pub seal: LessSafeKey,
    /// By which it is known: another key has another.
    pub id: String,
    /// By which the machine is known: not its id, which is nobody else's business.
    pub machine: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum NoKey {
    /// Nobody handed one over.
    #[error(
        "the fetcher was given no `{CACHE_KEY}`; next: `landfall host` makes it, and `LoadCredentialEncrypted={CACHE_KEY}` in the fetcher's unit hands it over"
    )]
    Absent,
    /// What was handed over is none.
    #[error(
        "`{CACHE_KEY}` cannot be used ({0}); next: remove `/etc/credstore.encrypted/{CACHE_KEY}`, then `landfall host` and a start of the fetcher anew"
    )]
    Damaged(String),
    /// Nobody knows which machine this is.
    #[error("`{path}` cannot be used ({why}); next: `systemd-machine-id-setup`", path = path.display())]
    Machine {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl Key {
    /// What the service manager handed over in this directory, for the machine of `layout`.
    pub fn load(layout: &Layout, credentials: Option<&OsStr>) -> Result<Self, NoKey> {
        let path = Path::new(credentials.ok_or(NoKey::Absent)?).join(CACHE_KEY);
        let secret = match read(&path) {
            Ok(secret) => secret,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NoKey::Absent),
            Err(error) => return Err(NoKey::Damaged(error.to_string())),
        };
        let path = layout.machine_id();
        let machine = std::fs::read_to_string(&path).map_err(|error| error.to_string()).and_then(|text| {
            let id = text.trim();
            let is_id = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
            if is_id { Ok(id.to_owned()) } else { Err("it has no id".to_owned()) }
        });
        let machine = machine.map_err(|why| NoKey::Machine { path, why })?;
        Self::derive(&secret, &machine).ok_or_else(|| NoKey::Damaged("nothing can be derived from it".to_owned()))
    }

    /// The key of this machine, of what is the same on all to which it was copied.
    pub fn derive(secret: &[u8; KEY_BYTES], machine: &str) -> Option<Self> {
        let prk = Salt::new(HKDF_SHA256, machine.as_bytes()).extract(secret);
        let seal = LessSafeKey::new(UnboundKey::from(prk.expand(&[PURPOSE], &CHACHA20_POLY1305).ok()?));
        // Of the secret alone: another machine with a copy of it is told from one with another key.
        let id = hex_of(&Salt::new(HKDF_SHA256, &[]).extract(secret), ID_PURPOSE)?;
        let machine = hex_of(&Salt::new(HKDF_SHA256, &[]).extract(machine.as_bytes()), MACHINE_PURPOSE)?;
        Some(Self { seal, id, machine })
    }
}

struct Id;

impl hkdf::KeyType for Id {
    fn len(&self) -> usize {
        ID_BYTES
    }
}

fn hex_of(prk: &Prk, purpose: &[u8]) -> Option<String> {
    let mut bytes = [0; ID_BYTES];
    prk.expand(&[purpose], Id).ok()?.fill(&mut bytes).ok()?;
    Some(hex(&bytes))
}

fn read(path: &Path) -> io::Result<Zeroizing<[u8; KEY_BYTES]>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    if length != KEY_BYTES as u64 {
        return Err(io::Error::other(format!("it has {length} bytes in place of {KEY_BYTES}")));
    }
    let mut secret = Zeroizing::new([0; KEY_BYTES]);
    file.read_exact(secret.as_mut())?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_one_machine_and_does_not_print() {
        let (one, other) = ("3d1219c7c4c5404aaa1f6d2a48adfda4", "3d1219c7c4c5404aaa1f6d2a48adfda5");
        let key = |byte, machine| Key::derive(&[byte; KEY_BYTES], machine).unwrap();
        assert_eq!((key(1, one).id, key(1, one).machine), (key(1, one).id, key(1, one).machine));
        assert_ne!(key(1, one).machine, key(1, other).machine);
        assert_eq!(key(1, one).id, key(1, other).id);
        assert_ne!(key(1, one).id, key(2, one).id);
        assert!(!key(1, one).machine.contains(&one[..8]));
        assert_eq!(format!("{:?}", key(1, one)), format!("Key {{ id: \"{}\", .. }}", key(1, one).id));
    }

    #[test]
    fn what_is_no_key_is_told_with_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let load = || Key::load(&layout, Some(root.path().as_os_str())).map(|key| key.id).map_err(|e| e.to_string());
        assert!(Key::load(&layout, None).unwrap_err().to_string().contains("`landfall host` makes it"));
        assert!(load().unwrap_err().contains("`landfall host` makes it"));
        std::fs::write(root.path().join(CACHE_KEY), [7; 31]).unwrap();
        assert!(load().unwrap_err().contains("it has 31 bytes in place of 32"));
        std::fs::write(root.path().join(CACHE_KEY), [7; 32]).unwrap();
        assert!(load().unwrap_err().contains("machine-id"));
        std::fs::create_dir_all(root.path().join("etc")).unwrap();
        std::fs::write(layout.machine_id(), "uninitialized\n").unwrap();
        assert!(load().unwrap_err().contains("it has no id"));
        std::fs::write(layout.machine_id(), "3d1219c7c4c5404aaa1f6d2a48adfda4\n").unwrap();
        assert!(load().is_ok());
    }
}
