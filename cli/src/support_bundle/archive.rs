//! The archive: members in a directory of its name, and a manifest that says what is there and what could not be had. It has no file that
//! was not masked, and is never written over another.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use landfall_core::publish;

use super::mask::Mask;

/// Only whoever made it.
const MODE: u32 = 0o600;
/// No member is longer; what is, is cut at its end.
pub const LIMIT: usize = 20 << 20;
const MANIFEST: &str = "MANIFEST.txt";

/// One file, or why it is not there.
#[derive(Debug)]
pub struct Member {
    /// Its name in the archive.
    pub name: String,
    /// What is in it.
    pub content: Result<Vec<u8>, String>,
}

impl Member {
    /// A member.
    pub fn new(name: impl Into<String>, content: Result<impl Into<Vec<u8>>, String>) -> Self {
        Self { name: name.into(), content: content.map(Into::into) }
    }
}

/// All of it as bytes. `words` stand at the top of the manifest.
pub fn pack(directory: &str, words: &str, members: Vec<Member>, mask: &Mask, seconds: u64) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    let mut manifest = format!("{words}\n");
    for member in members {
        match member.content {
            Ok(content) => {
                let mut content = mask.text(&content);
                let whole = content.len();
                content.truncate(LIMIT);
                let cut = if whole > LIMIT { format!(", cut from {whole}") } else { String::new() };
                let _ = writeln!(manifest, "have  {}: {} bytes{cut}", member.name, content.len());
                append(&mut archive, directory, &member.name, &content, seconds)?;
            }
            Err(why) => {
                let _ = writeln!(manifest, "none  {}: {}", member.name, why.replace('\n', " "));
            }
        }
    }
    let manifest = mask.text(manifest.as_bytes());
    append(&mut archive, directory, MANIFEST, &manifest, seconds)?;
    archive.into_inner()?.finish()
}

fn append(
    archive: &mut tar::Builder<impl io::Write>,
    directory: &str,
    name: &str,
    content: &[u8],
    seconds: u64,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(content.len()).unwrap_or(u64::MAX));
    header.set_mode(MODE);
    header.set_mtime(seconds);
    archive.append_data(&mut header, format!("{directory}/{name}"), content)
}

/// Writes it where nothing is.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    if publish::write_new(&path, bytes, MODE)? {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file of that name is there already"))
    }
}
