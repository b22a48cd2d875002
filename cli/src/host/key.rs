//! The key that secrets are sealed with on the disk: made once, and never replaced. It is never shown, and never on a disk but as
//! `systemd-creds` has encrypted it.

use std::path::Path;

use landfall_core::command::Command;
use landfall_core::ids::printable;
use landfall_core::layout::{CACHE_KEY, Layout};
use landfall_core::publish;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::step::{Said, Step};
use crate::failure::{Exit, Failed};

const KEY_BYTES: usize = 32;
const KEY_MODE: u32 = 0o600;
/// `a TPM2 without rights for this program` and the like: enough of what it says.
const WORDS: usize = 400;

/// Makes it where there is none and this machine can keep it. One that cannot be made leaves the cache off, and is no failure where
/// there is no `systemd-creds`.
pub async fn key(layout: &Layout, program: &Path, with_key: &str) -> Step {
    let path = layout.cache_key();
    if path.exists() && program.exists() {
        return opens(&path, program).await;
    }
    if path.exists() {
        return Ok(Said::found(format!("key of the cache: `{}` is there", path.display())));
    }
    if !program.exists() {
        return Ok(Said::found(format!(
            "key of the cache: not made, there is no `{}` here; secrets are not sealed for a boot without the vault",
            program.display()
        )));
    }
    let failed = |why: String| {
        Failed::new(Exit::Failed, format!("cannot make the key of the cache `{}`: {why}", path.display()))
            .next("run it as root; where this machine's TPM2 does not do it, `landfall host --with-key host`")
    };
    let mut secret = Zeroizing::new([0; KEY_BYTES]);
    SystemRandom::new().fill(secret.as_mut()).map_err(|_| failed("no random numbers".to_owned()))?;
    let command = Command::new(program)
        .arg("encrypt")
        .arg(format!("--with-key={with_key}"))
        .arg(format!("--name={CACHE_KEY}"))
        .args(["-", "-"])
        // It lives as long as this call, in a process that ends with it.
        .stdin(secret.to_vec());
    let output = command.run().await.map_err(|error| failed(error.to_string()))?;
    if !output.success() || output.stdout.is_empty() {
        let said = printable(output.stderr.trim(), WORDS);
        return Err(failed(format!("`{}` ended with {}: {said}", program.display(), output.code)));
    }
    let is_new = publish::write_new(&path, &output.stdout, KEY_MODE).map_err(|error| failed(error.to_string()))?;
    Ok(if is_new {
        Said::did(format!("key of the cache: made, `{}`, encrypted with `--with-key={with_key}`", path.display()))
    } else {
        Said::found(format!("key of the cache: `{}` is there", path.display()))
    })
}

/// One that is there stays, but a copied disk or a TPM2 that forgot must not be found out by a fetcher that does not start.
async fn opens(path: &Path, program: &Path) -> Step {
    let command = Command::new(program).arg("decrypt").arg(format!("--name={CACHE_KEY}")).arg(path).arg("-");
    let failed = |why: String| {
        let text = format!("the key of the cache `{}` does not open on this machine: {why}", path.display());
        Failed::new(Exit::Failed, text).next(format!(
            "was the disk copied, or the TPM2 or its state of Secure Boot changed? `rm {}`, then `landfall host`; what is sealed is written anew when the vault answers",
            path.display()
        ))
    };
    let output = command.run().await.map_err(|error| failed(error.to_string()))?;
    let is_key = Zeroizing::new(output.stdout).len() == KEY_BYTES;
    if output.code != 0 {
        return Err(failed(format!(
            "`{}` ended with {}: {}",
            program.display(),
            output.code,
            printable(output.stderr.trim(), WORDS)
        )));
    }
    if !is_key {
        return Err(failed(format!("it has not {KEY_BYTES} bytes")));
    }
    Ok(Said::found(format!("key of the cache: `{}` is there, and opens", path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::host::stand_in::program;

    /// A program that says of what it is given, and how it was called.
    fn stand_in(root: &Path, script: &str) -> std::path::PathBuf {
        let path = root.join("systemd-creds");
        program(&path, script);
        path
    }

    #[tokio::test]
    async fn a_key_is_made_once_and_never_replaced() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let program = stand_in(
            root.path(),
            "if [ $1 = decrypt ]; then exec /usr/bin/head -c 32 \"$3\"; fi; echo \"$@\"; exec /usr/bin/sha256sum",
        );
        let said = key(&layout, &program, "host").await.unwrap().text;
        assert!(said.contains("made, `") && said.contains("--with-key=host"), "{said}");
        let made = std::fs::read_to_string(layout.cache_key()).unwrap();
        assert!(made.starts_with("encrypt --with-key=host --name=landfall-cache-key - -\n"), "{made}");
        assert_eq!(std::fs::metadata(layout.cache_key()).unwrap().permissions().mode() & 0o777, 0o600);
        let said = key(&layout, &program, "host").await.unwrap().text;
        assert!(said.contains("is there"), "{said}");
        assert_eq!(std::fs::read_to_string(layout.cache_key()).unwrap(), made);
        for (script, words) in [("echo wrong TPM2 >&2; exit 1", "wrong TPM2"), ("echo short", "it has not 32 bytes")] {
            let failed = key(&layout, &stand_in(root.path(), script), "host").await.unwrap_err();
            assert!(failed.message.contains(words) && failed.next.is_some_and(|next| next.contains("`rm ")), "{words}");
            assert_eq!(std::fs::read_to_string(layout.cache_key()).unwrap(), made);
        }
        let said = key(&layout, Path::new("/absent"), "host").await.unwrap().text;
        assert!(said.ends_with("is there"), "{said}");
        let program = stand_in(root.path(), "echo \"$@\"; exec /usr/bin/sha256sum");
        // Another machine has another key.
        std::fs::remove_file(layout.cache_key()).unwrap();
        key(&layout, &program, "host").await.unwrap();
        assert_ne!(std::fs::read_to_string(layout.cache_key()).unwrap(), made);
    }

    #[tokio::test]
    async fn without_the_program_it_is_told_and_with_one_that_fails_nothing_is_left() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let said = key(&layout, &root.path().join("absent"), "auto").await.unwrap().text;
        assert!(said.contains("there is no `") && said.contains("not sealed"), "{said}");
        for script in ["echo no TPM2 >&2; exit 1", "exit 0"] {
            let program = stand_in(root.path(), script);
            let failed = key(&layout, &program, "tpm2").await.unwrap_err();
            assert!(failed.next.is_some_and(|next| next.contains("--with-key host")), "{}", failed.message);
            assert!(!layout.cache_key().exists());
        }
    }
}
