//! Microsoft's client for Python (azure-identity, azure-keyvault-secrets), one process per client: it keeps its token from
//! one question to the next, as a daemon would. It judges the sandbox; nothing of ours is in it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Sandbox;
use crate::programs;

/// A client that waits for questions.
#[derive(Debug)]
pub struct Client {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Outcome {
    /// What the client returned; null after an error.
    #[serde(default)]
    pub value: Value,
    /// The exception's class.
    pub error: Option<String>,
    /// Of the answer that the exception carries.
    pub status: Option<u16>,
    /// Of the service's error.
    pub code: Option<String>,
    /// Of the service's inner error.
    pub inner: Option<String>,
    /// What the exception says.
    pub message: Option<String>,
    /// How long it took.
    pub seconds: f64,
}

impl Client {
    /// One for a vault, with the VM's own identity or the one of that client id.
    pub fn start(sandbox: &Sandbox, vault: &str, client_id: Option<&str>) -> Result<Self> {
        let python = interpreter()?;
        // Where the vault has its real name the client is as strict as it is in Azure.
        let (mut command, is_real) = match sandbox.inside(&python) {
            Ok(command) => (command, true),
            Err(_) => (Command::new(&python), false),
        };
        if !is_real {
            command.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", sandbox.imds_url());
        }
        let settings = json!({
            "vault": sandbox.vault_url(vault)?, "ca": sandbox.ca_file(), "client_id": client_id,
            "verify_challenge_resource": is_real,
        });
        // What a developer's shell has to say of identities and proxies is not for a test.
        for name in ["IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        let script = programs::tests_directory().join("python/azure_client.py");
        command.arg(script).arg(settings.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start Python")?;
        let questions = child.stdin.take().context("no input")?;
        let answers = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self { child, questions, answers })
    }

    /// Asks, and waits for what comes of it.
    pub fn ask(&mut self, question: &Value) -> Result<Outcome> {
        writeln!(self.questions, "{question}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the Python client ended; its words are above");
        serde_json::from_str(&line).with_context(|| line.clone())
    }

    /// The newest version of a secret.
    pub fn get(&mut self, name: &str) -> Result<Outcome> {
        self.ask(&json!({ "do": "get", "name": name }))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Python with the packages, as `make test` left it.
fn interpreter() -> Result<PathBuf> {
    let root: &Path = programs::tests_directory().parent().context("no repository")?;
    let path = root.join("target/azure-python/bin/python");
    ensure!(path.is_file(), "`{}` is not there; next: `make test`, which installs it", path.display());
    Ok(path)
}
