//! The guard in the kernel: looked at, and put back where it is not what it was. What nftables lists right after we laid the rules down is
//! remembered for this boot; a rule that is gone, added or changed lists otherwise. Nothing is taken from what is found there: the rules are
//! laid down whole or stay. Never touches another table.

use std::path::Path;

use landfall_core::command::{Command, Output};
use landfall_core::ids::printable;
use landfall_core::journal::event;
use landfall_core::layout::Layout;
use landfall_core::publish;
use serde::{Deserialize, Serialize};

use super::accounts::Passes;
use super::ruleset::{self, TABLE};
use super::step::{Said, Step};
use crate::failure::{Exit, Failed, chain};

const FORMAT: u32 = 1;
/// Only root reads what is remembered: it says what the guard is compared with.
const MODE: u32 = 0o600;
const WORDS: usize = 400;

/// What was laid down in this boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    format: u32,
    /// What was asked for.
    rules: String,
    /// What nftables listed then.
    listed: String,
}

/// How what is there compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// As it was laid down.
    InForce,
    /// Nothing was laid down in this boot.
    Never,
    /// As it was laid down, and other users are to pass now.
    Outdated,
    /// Somebody removed it.
    Removed,
    /// Somebody changed it.
    Changed,
}

fn compare(wanted: &str, remembered: Option<&Remembered>, listed: Option<&str>) -> Found {
    match (remembered, listed) {
        (None, _) => Found::Never,
        (Some(_), None) => Found::Removed,
        (Some(before), Some(listed)) if before.listed != listed => Found::Changed,
        (Some(before), Some(_)) if before.rules != wanted => Found::Outdated,
        (Some(_), Some(_)) => Found::InForce,
    }
}

/// Sees to it that the guard is in force.
pub async fn raise(layout: &Layout, nft: &Path, passes: &Passes) -> Step {
    if !nft.exists() {
        let text =
            format!("no guard: there is no `{}`, so every container can take this machine's identity", nft.display());
        return Err(Failed::new(Exit::Failed, text).next("install the package `nftables` (`apt install nftables`)"));
    }
    let rules = ruleset::raise(&passes.users);
    let found = compare(&rules, remembered(layout).as_ref(), list(nft).await?.as_deref());
    let said = |how: &str| {
        let unknown = passes.unknown.iter().map(|name| format!("; `{name}` is no user of this machine and left out"));
        format!("guard: {how}; reach the metadata service: {}{}", passes.names.join(", "), unknown.collect::<String>())
    };
    if found == Found::InForce {
        return Ok(Said::found(said("in force")));
    }
    lay_down(layout, nft, &rules).await?;
    let happened = match found {
        Found::InForce | Found::Never => return Ok(Said::did(said("in force now"))),
        Found::Outdated => return Ok(Said::did(said("in force now with the settings' users"))),
        Found::Removed => "removed",
        Found::Changed => "changed",
    };
    tracing::warn!(
        MESSAGE_ID = event::GUARD_RESTORED,
        LANDFALL_TABLE = TABLE,
        "the guard of the machine's identity had been {happened} and is in force again; find out what changes foreign tables, as `nft flush ruleset` does"
    );
    // The journal has just been told.
    Ok(Said::found(said(&format!("had been {happened}, and is in force again"))))
}

/// Sees to it that there is none, as the settings ask.
pub async fn lower(layout: &Layout, nft: &Path) -> Step {
    let off = "guard: off by `host.guard`; every container can take this machine's identity";
    if !nft.exists() || list(nft).await?.is_none() {
        return Ok(Said::found(off.to_owned()));
    }
    let output = run(nft, &["--file", "-"], &ruleset::lower()).await?;
    if !output.success() {
        return Err(failed("cannot remove the guard", nft, &output));
    }
    // What is not there is not missed.
    let _ = std::fs::remove_file(layout.guard_state());
    Ok(Said::did(format!("{off}; its rules are removed")))
}

async fn lay_down(layout: &Layout, nft: &Path, rules: &str) -> Result<(), Failed> {
    let output = run(nft, &["--file", "-"], rules).await?;
    if !output.success() {
        return Err(failed("no guard: its rules were not accepted", nft, &output));
    }
    let gone = || Failed::new(Exit::Failed, "no guard: somebody removed it at once").next("`landfall host` again");
    let listed = list(nft).await?.ok_or_else(gone)?;
    let remembered = Remembered { format: FORMAT, rules: rules.to_owned(), listed };
    let path = layout.guard_state();
    let line = serde_json::to_vec(&remembered).map_err(|error| Failed::new(Exit::Failed, error.to_string()))?;
    publish::write_volatile(&path, &line, MODE).map_err(|error| {
        let text = format!("the guard is in force, and `{}` cannot be written ({error})", path.display());
        Failed::new(Exit::Failed, text).next("run it as root; until then each run lays the guard down anew")
    })
}

/// What was laid down; what cannot be read was not.
fn remembered(layout: &Layout) -> Option<Remembered> {
    let bytes = std::fs::read(layout.guard_state()).ok()?;
    serde_json::from_slice(&bytes).ok().filter(|remembered: &Remembered| remembered.format == FORMAT)
}

/// The table as the kernel has it, without numbers that change by themselves; `None` where there is none.
async fn list(nft: &Path) -> Result<Option<String>, Failed> {
    let output = run(nft, &["--numeric", "--stateless", "list", "table", "inet", TABLE], "").await?;
    if output.success() {
        return Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    // Its environment is empty, so it speaks English.
    if output.stderr.contains("No such file or directory") {
        return Ok(None);
    }
    Err(failed("cannot look at the guard", nft, &output))
}

async fn run(nft: &Path, arguments: &[&str], stdin: &str) -> Result<Output, Failed> {
    let command = Command::new(nft).args(arguments).stdin(stdin);
    command
        .run()
        .await
        .map_err(|error| Failed::new(Exit::Failed, format!("cannot look at the guard: {}", chain(&error))))
}

fn failed(what: &str, nft: &Path, output: &Output) -> Failed {
    let said = printable(output.stderr.trim(), WORDS);
    let text = format!("{what}: `{}` ended with {}: {said}", nft.display(), output.code);
    Failed::new(Exit::Failed, text).next("run it as root, on a kernel with nf_tables (`modprobe nf_tables`)")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::host::stand_in::program;

    #[test]
    fn what_differs_is_noticed() {
        let before = Remembered { format: FORMAT, rules: "a".to_owned(), listed: "table\n\tone\n\ttwo\n".to_owned() };
        let cases = [
            (None, None, Found::Never),
            (None, Some("table\n"), Found::Never),
            (Some(&before), Some("table\n\tone\n\ttwo\n"), Found::InForce),
            (Some(&before), Some("table\n\tone\n"), Found::Changed),
            (Some(&before), Some("table\n\tone\n\taccept\n\ttwo\n"), Found::Changed),
            (Some(&before), None, Found::Removed),
        ];
        for (remembered, listed, found) in cases {
            assert_eq!(compare("a", remembered, listed), found, "{listed:?}");
        }
        assert_eq!(compare("b", Some(&before), Some(&before.listed)), Found::Outdated);
        // Who changed it is told even where the settings changed too.
        assert_eq!(compare("b", Some(&before), Some("table\n")), Found::Changed);
    }

    fn passes() -> Passes {
        Passes { users: BTreeSet::from([0]), names: vec!["root".to_owned()], unknown: vec!["gone".to_owned()] }
    }

    #[tokio::test]
    async fn without_the_program_it_says_what_to_install() {
        let root = tempfile::tempdir().unwrap();
        let failed = raise(&Layout::new(root.path()), &root.path().join("nft"), &passes()).await.unwrap_err();
        assert!(failed.message.contains("there is no `") && failed.message.contains("every container"), "{failed}");
        assert!(failed.next.unwrap().contains("apt install nftables"));
    }

    /// A program that keeps what it is given, and lists it; with one more rule while `more` is there.
    #[tokio::test]
    async fn rules_are_laid_down_once_and_again_where_they_are_not_what_they_were() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let (nft, table, count) = (root.path().join("nft"), root.path().join("table"), root.path().join("count"));
        let (at, times) = (table.display(), count.display());
        let script = format!(
            "if [ \"$1\" = --file ]; then echo x >> {times}; exec /bin/cat > {at}; fi\n\
             if [ -e {at} ]; then exec /bin/cat {at}; fi; echo 'Error: No such file or directory' >&2; exit 1"
        );
        program(&nft, &script);
        let laid = || std::fs::read_to_string(&count).unwrap().lines().count();

        let said = raise(&layout, &nft, &passes()).await.unwrap();
        assert!(said.changed && said.text.contains("in force now; reach the metadata service: root;"), "{said:?}");
        assert!(said.text.ends_with("`gone` is no user of this machine and left out"), "{said:?}");
        assert!(!raise(&layout, &nft, &passes()).await.unwrap().changed);
        assert_eq!(laid(), 1);
        // One rule is gone.
        let rules = std::fs::read_to_string(&table).unwrap();
        std::fs::write(&table, rules.replacen("\t\tjump closed\n", "", 1)).unwrap();
        assert!(raise(&layout, &nft, &passes()).await.unwrap().text.contains("had been changed"));
        assert_eq!((laid(), std::fs::read_to_string(&table).unwrap()), (2, rules));
        std::fs::remove_file(&table).unwrap();
        assert!(raise(&layout, &nft, &passes()).await.unwrap().text.contains("had been removed"));
        // Another user passes.
        let more = Passes { users: BTreeSet::from([0, 1]), ..passes() };
        assert!(raise(&layout, &nft, &more).await.unwrap().text.contains("with the settings' users"));
        // What is remembered cannot be read: it is laid down, and nobody is blamed.
        std::fs::write(layout.guard_state(), "{").unwrap();
        assert!(raise(&layout, &nft, &more).await.unwrap().text.contains("in force now"));
        assert_eq!(laid(), 5);
    }
}
