//! Who we are to a registry: the environment (for the channel's registry only, so that a password never goes to the host
//! of some image), else the Docker config file: a helper for that registry, an entry of `auths`, the general store.
//! Credentials are never printed: no type here that holds one has a Debug that shows it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use landfall_core::command::Command;
pub use landfall_core::credential::Credential;
use landfall_core::credential::{AuthEntry, host_of, of_token};
use landfall_core::ids::printable;
use serde::Deserialize;

use crate::failure::{Exit, Failed, chain};

/// Both names of the variables that say who we are to the channel's registry.
pub const VARIABLES: (&str, &str) = ("LANDFALL_REGISTRY_USERNAME", "LANDFALL_REGISTRY_PASSWORD");

/// How long a credential helper may take: some ask a cloud.
const HELPER_DEADLINE: Duration = Duration::from_secs(30);
/// What helpers answer in place of a user where the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// The parts of the Docker config file that matter here.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DockerConfig {
    auths: BTreeMap<String, AuthEntry>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

impl fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerConfig").field("registries", &self.auths.keys()).finish_non_exhaustive()
    }
}

/// What the config file says of a registry.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: anonymous.
    Nothing,
    /// This.
    Credential(Credential),
    /// Ask `docker-credential-<name>`.
    Helper(String),
}

/// What the environment says; both variables or none.
pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Option<Credential>, Failed> {
    let value = |name: &str| get(name).filter(|v| !v.is_empty());
    match (value(VARIABLES.0), value(VARIABLES.1)) {
        (None, None) => Ok(None),
        (Some(username), Some(password)) => Ok(Some(Credential { username, password })),
        (user, _) => {
            let (there, missing) = if user.is_some() { VARIABLES } else { (VARIABLES.1, VARIABLES.0) };
            Err(Failed::usage(format!("`{there}` is set and `{missing}` is not")).next("set both or none"))
        }
    }
}

/// The Docker config file: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
pub fn config_path(get: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    match get("DOCKER_CONFIG").filter(|v| !v.is_empty()) {
        Some(directory) => Some(Path::new(&directory).join("config.json")),
        None => get("HOME").map(|home| Path::new(&home).join(".docker/config.json")),
    }
}

impl DockerConfig {
    /// Reads it; a file that is not there says nothing.
    pub fn load(path: &Path) -> Result<Self, Failed> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                // serde_json's text would name the place, never the value.
                Failed::usage(format!("`{}` is not a Docker config file: {error}", path.display()))
                    .next("repair it, or name another directory in DOCKER_CONFIG")
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failed::new(Exit::Failed, format!("cannot read `{}`: {error}", path.display()))),
        }
    }

    /// What it says of a registry.
    pub fn find(&self, registry: &str) -> Result<Found, Failed> {
        let host = host_of(registry);
        if let Some((_, helper)) = self.cred_helpers.iter().find(|(key, _)| host_of(key) == host) {
            return Ok(Found::Helper(helper.clone()));
        }
        let entry = AuthEntry::of(&self.auths, registry);
        let found = entry.map(|entry| entry.credential(registry)).transpose().map_err(|why| {
            Failed::usage(format!("the Docker config file's entry of `{registry}` is of no use: {why}"))
                .next(format!("log in again: `docker login {registry}`, or set {} and {}", VARIABLES.0, VARIABLES.1))
        })?;
        if let Some(credential) = found.flatten() {
            return Ok(Found::Credential(credential));
        }
        // An entry without content says that the store has it.
        Ok(if self.creds_store.is_empty() { Found::Nothing } else { Found::Helper(self.creds_store.clone()) })
    }
}

/// Asks `docker-credential-<name>`, which inherits our environment: helpers of clouds need theirs.
pub async fn ask_helper(name: &str, registry: &str) -> Result<Option<Credential>, Failed> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{name}");
    let trouble = |what: String| {
        Failed::new(Exit::Failed, format!("`{program}`, which the Docker config file names for `{registry}`, {what}"))
            .next(format!("log in again: `docker login {registry}`, or set {} and {}", VARIABLES.0, VARIABLES.1))
    };
    let path = in_path(&program).ok_or_else(|| trouble("is not in PATH".to_owned()))?;
    // Docker Hub's credentials are kept under the name of its first interface.
    let server = if host_of(registry) == "docker.io" { "https://index.docker.io/v1/" } else { registry };
    let mut command = Command::new(path).arg("get").stdin(server).deadline(HELPER_DEADLINE);
    for (key, value) in std::env::vars_os() {
        command = command.env(key, value);
    }
    let output = command.run().await.map_err(|error| trouble(format!("failed: {}", chain(&error))))?;
    if output.code != 0 {
        let said = format!("{} {}", String::from_utf8_lossy(&output.stdout), output.stderr);
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(trouble(format!("ended with code {}: {}", output.code, printable(said.trim(), 300))));
    }
    // The parser's error is not shown: it could hold a piece of the secret.
    let answer: Answer =
        serde_json::from_slice(&output.stdout).map_err(|_| trouble("did not answer with a credential".to_owned()))?;
    if answer.username == TOKEN_USER {
        return of_token(registry, &answer.secret)
            .map(Some)
            .map_err(|why| trouble(format!("has no credential: {why}")));
    }
    Ok(Some(Credential { username: answer.username, password: answer.secret }))
}

fn in_path(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return None;
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|directory| directory.join(program)).find(|p| p.is_file())
}

#[cfg(test)]
mod tests {
    use landfall_core::credential::AZURE_TOKEN_USER;

    use super::*;

    fn credential(username: &str, password: &str) -> Found {
        Found::Credential(Credential { username: username.into(), password: password.into() })
    }

    #[test]
    fn the_config_file_is_read_as_docker_reads_it() {
        let config: DockerConfig = serde_json::from_str(
            r#"{ "auths": { "ghcr.io": { "auth": "Ym90OnA6YSsv" },
                            "https://index.docker.io/v1/": { "auth": "aHVi\u003dOg==", "username": "hub", "password": "x" },
                            "plain.example:5000": { "username": "u", "password": "p" },
                            "acme.azurecr.io": { "identitytoken": "t" },
                            "other.example": { "identitytoken": "t" },
                            "bad.example": { "auth": "!" },
                            "stored.example": {} },
                 "credsStore": "desktop", "credHelpers": { "x.dkr.ecr.example": "ecr-login" }, "HttpHeaders": {} }"#,
        )
        .expect("it parses");
        let table = [
            ("ghcr.io", Some(credential("bot", "p:a+/"))),
            ("plain.example:5000", Some(credential("u", "p"))),
            ("acme.azurecr.io", Some(credential(AZURE_TOKEN_USER, "t"))),
            ("stored.example", Some(Found::Helper("desktop".into()))),
            ("unknown.example", Some(Found::Helper("desktop".into()))),
            ("x.dkr.ecr.example", Some(Found::Helper("ecr-login".into()))),
            ("other.example", None),
            ("bad.example", None),
            ("docker.io", None),
        ];
        for (registry, expected) in table {
            assert_eq!(config.find(registry).ok(), expected, "{registry}");
        }
        let config: DockerConfig =
            serde_json::from_str(r#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOnB3"}}}"#)
                .expect("it parses");
        assert_eq!(config.find("docker.io").ok(), Some(credential("hub", "pw")));
        assert_eq!(config.find("ghcr.io").ok(), Some(Found::Nothing));
    }

    #[test]
    fn the_environment_has_both_or_none() {
        let with = |user: &'static str, password: &'static str| {
            from_environment(move |name| Some(if name == VARIABLES.0 { user } else { password }.to_owned()))
        };
        assert_eq!(with("", ""), Ok(None));
        assert!(with("u", "p").is_ok_and(|c| c.is_some_and(|c| c.username == "u" && c.password == "p")));
        assert!(with("u", "").is_err_and(|e| e.message.contains("LANDFALL_REGISTRY_PASSWORD` is not")));
        assert!(with("", "p").is_err_and(|e| e.message.contains("LANDFALL_REGISTRY_USERNAME` is not")));
    }
}
