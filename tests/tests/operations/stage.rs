//! A machine with the shipped units at its own root, as after the installation: the package's settings, a registry and a vault beside it, an
//! app that can be rolled out. And the on-call, who types what the document says.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use landfall_core::layout::Layout;
use landfall_tests::ran::Ran;
use landfall_tests::sandbox::Sandbox;
use landfall_tests::sandbox::vault::Grant;
use landfall_tests::vm::{Published, ROLLOUT, Vm};
use landfall_tests::wait::eventually;
use landfall_tests::{clean, process::Lifetime, secrets_memory};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::commands::{COMMANDS, How};
use crate::repository;

/// The vault, by the name in its URL.
pub const VAULT: &str = "kv";
/// What the api reads from it.
pub const API_KEY: &str = "the-first-value";
const DROP_IN: &str = "/run/systemd/system/landfall-secrets-fetcher.service.d";
const SETTINGS: &str = "/etc/landfall/landfall.yaml";
/// What a person sees in a moment.
const SOON: Duration = Duration::from_secs(30);

/// The machine; what was made for the test is gone with it.
pub struct Stage {
    pub vm: Vm,
    pub vault: Sandbox,
    /// What was typed, by the document's words.
    typed: RefCell<BTreeSet<String>>,
    editor: PathBuf,
    directory: TempDir,
}

impl Stage {
    /// As after the installation: the daemons run and wait.
    pub fn set(name: &str) -> Result<Self> {
        as_installed()?;
        // In /srv: the daemons have a /tmp of their own.
        let directory = tempfile::tempdir_in("/srv")?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        let app = format!("{}{}-0-{name}", clean::PREFIX, std::process::id());
        let vm = Vm::of_this_machine_with("secrets", directory.path(), &app)?;
        let vault = Sandbox::start_in_namespace_for(directory.path(), &[VAULT], Lifetime::Test)?;
        vault.grant(VAULT, "system", Grant::GET)?;
        for (secret, value) in [("api-key", API_KEY), ("store-key", "unchanged"), ("tunnel-token", "of-the-tunnel")] {
            vault.set_secret(VAULT, secret, value)?;
        }
        let editor = directory.path().join("editor");
        let stage = Self { vm, vault, typed: RefCell::default(), editor, directory };
        stage.lead_the_fetcher_to_the_vault()?;
        start()?;
        Ok(stage)
    }

    fn lead_the_fetcher_to_the_vault(&self) -> Result<()> {
        let network = self.vault.network();
        let hosts = network.hosts.context("the vault is in no network of its own")?;
        let text = format!(
            "[Service]\nNetworkNamespacePath={}\nBindReadOnlyPaths={}:/etc/hosts\nEnvironment=SSL_CERT_FILE={}\n",
            network.namespace.display(),
            hosts.display(),
            self.vault.ca_file().display()
        );
        fs::create_dir_all(DROP_IN)?;
        fs::write(Path::new(DROP_IN).join("test.conf"), text)?;
        run("systemctl daemon-reload").map(drop)
    }

    /// A first app, of which `v1` is live.
    pub fn first_app(&self) -> Result<Published> {
        self.write_settings(&json!({}))?;
        let v1 = self.vm.publish_version("v1", &[])?;
        self.vm.live(&v1)?;
        Ok(v1)
    }

    /// The settings of the app and its vault, with more sections.
    pub fn write_settings(&self, more: &Value) -> Result<()> {
        let url = self.vault.vault_url(VAULT)?;
        self.vm.configure_vaults(&json!({ "default": { "url": url, "refresh": "1s", "cache": "on" } }))?;
        let mut settings: Value = serde_json::from_str(&fs::read_to_string(SETTINGS)?)?;
        for (key, value) in more.as_object().context("`more` is no map")? {
            settings[key] = value.clone();
        }
        self.vm.write_settings(&settings.to_string())
    }

    /// Types a command of the document, which must end well and say this.
    pub fn types(&self, command: &str, says: &str) -> Result<String> {
        self.ends(command, "", &[0], says)
    }

    /// The same, as soon as it is so.
    pub fn soon_types(&self, command: &str, says: &str) -> Result<String> {
        self.soon_ends(command, &[0], says)
    }

    /// The same, with another end.
    pub fn soon_ends(&self, command: &str, codes: &[i32], says: &str) -> Result<String> {
        eventually(SOON, &format!("`{command}` ends with {codes:?} and says `{says}`"), || {
            self.ends(command, "", codes, says)
        })
    }

    /// Types it with more words behind; one of these codes is how it must end.
    pub fn ends(&self, command: &str, more: &str, codes: &[i32], says: &str) -> Result<String> {
        let line = format!("{}{more}", self.line_of(command)?);
        // Whoever is asked says yes.
        let ran = self.shell(&format!("{line} <<<y"))?;
        let said = format!("{}{}", ran.stdout, ran.stderr);
        ensure!(codes.contains(&ran.code), "`{line}` ended with {}, not {codes:?}: {said}", ran.code);
        // Long lines are folded.
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(said.contains(says) || words.contains(says), "`{line}` does not say `{says}`: {said}");
        Ok(said)
    }

    /// A command of the document as it is typed here.
    pub fn line_of(&self, command: &str) -> Result<String> {
        let known = COMMANDS.iter().any(|(one, how)| *one == command && *how == How::Machine);
        ensure!(known, "`{command}` is no command of the document that is run on a machine");
        self.typed.borrow_mut().insert(command.to_owned());
        let line = command.strip_prefix("sudo ").unwrap_or(command).replace('…', "a test");
        Ok(filled(&line, &[("APP", self.vm.app.as_str()), ("SERVICE", "api"), ("NAME", "API_KEY")]))
    }

    /// Runs a line as a person's shell does.
    pub fn shell(&self, line: &str) -> Result<Ran> {
        let mut command = Command::new("bash");
        command.args(["-c", line]).current_dir(self.directory.path()).env("EDITOR", &self.editor);
        Ran::of(&mut command)
    }

    /// From now on a person's editor leaves this in the file that it is given.
    pub fn edits_to(&self, text: &str) -> Result<()> {
        let content = self.directory.path().join("content");
        fs::write(&content, text)?;
        // The file is what it is given last.
        let script = format!("#!/bin/bash\ncat {} >\"${{!#}}\"\n", content.display());
        fs::write(&self.editor, script)?;
        Ok(fs::set_permissions(&self.editor, Permissions::from_mode(0o755))?)
    }

    /// Where a person types.
    pub fn place(&self) -> &Path {
        self.directory.path()
    }

    /// Nothing of what is to be run here was left out.
    pub fn all_was_typed(&self) -> Result<()> {
        let typed = self.typed.borrow();
        let left: Vec<&str> = COMMANDS
            .iter()
            .filter(|(command, how)| *how == How::Machine && !typed.contains(*command))
            .map(|(command, _)| *command)
            .collect();
        ensure!(left.is_empty(), "nobody typed {left:#?}");
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The agent would heal what is removed next; what cannot be stopped goes with the machine.
        let _ = run("systemctl unmask landfall-agent; systemctl stop landfall.target");
        let _ = fs::remove_dir_all(DROP_IN);
        let _ = run("systemctl daemon-reload");
    }
}

/// The root as the package leaves it, with nothing of a test before.
pub fn as_installed() -> Result<()> {
    run("systemctl stop landfall.target landfall-host.timer landfall-host-check.service")?;
    secrets_memory::unmount(&Layout::new("/"))?;
    run(
        "rm -rf /var/lib/landfall /run/landfall /etc/landfall && systemd-tmpfiles --create /usr/lib/tmpfiles.d/landfall.conf && \
        journalctl --update-catalog",
    )?;
    Ok(fs::write(SETTINGS, repository("packaging/etc/landfall/landfall.yaml")?)?)
}

/// As at a boot.
pub fn start() -> Result<()> {
    run(
        "systemctl restart landfall-host && systemctl start landfall.target landfall-host.timer landfall-secrets-owner.socket \
        landfall-agent landfall-image-watcher landfall-secrets-fetcher",
    )?;
    eventually(ROLLOUT, "the agent answers", || run("landfall status --json || [ $? = 10 ]").map(drop))
}

/// A line that must end well; what it wrote.
pub fn run(line: &str) -> Result<String> {
    let ran = Ran::of(Command::new("bash").args(["-c", line]))?;
    ensure!(ran.code == 0, "`{line}` ended with {}: {}{}", ran.code, ran.stdout, ran.stderr);
    Ok(ran.stdout)
}

/// Whole words are replaced.
fn filled(line: &str, words: &[(&str, &str)]) -> String {
    let is_inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut filled = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let length = rest.find(|c| !is_inside(c)).unwrap_or(rest.len());
        if length == 0 {
            filled.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, behind) = rest.split_at(length);
        filled.push_str(words.iter().find(|(name, _)| *name == word).map_or(word, |(_, value)| value));
        rest = behind;
    }
    filled
}

#[test]
fn names_are_filled_in_and_parts_of_words_are_not() {
    let words = [("APP", "web"), ("NAME", "DB")];
    assert_eq!(filled("x LANDFALL_APP=APP /apps/APP/y … NAMES", &words), "x LANDFALL_APP=web /apps/web/y … NAMES");
}
