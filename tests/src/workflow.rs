//! As much of GitHub Actions as runs the examples of docs/examples/github on this machine: a workflow's `run:` steps, with bash,
//! in the order and with the variables that a runner would give them. What an example uses beyond that is an error here: it would
//! not have been tried.
//!
//! Steps with `uses:` are skipped, so each must be one that is known. GitHub's own may be named by major version: who runs the
//! runner is trusted with everything anyway, and fixes arrive by themselves. Those of others are pinned by commit, because
//! whoever can move a tag there would get the token of everyone who pasted the example.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::programs;

/// Where the examples lie.
const EXAMPLES: &str = "docs/examples/github";
/// A step that is not needed where `landfall` is there already: on a runner it is in the cache, here it was built before.
const CACHED: &str = "steps.landfall.outputs.cache-hit != 'true'";

/// How an action is pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pin {
    Major,
    Commit,
}

/// What the examples may use.
const ACTIONS: [(&str, Pin); 3] =
    [("actions/checkout", Pin::Major), ("actions/cache", Pin::Major), ("oras-project/setup-oras", Pin::Commit)];

/// A workflow; keys that it has and this does not are an error.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workflow {
    /// Jobs by name.
    pub jobs: BTreeMap<String, Job>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(rename = "name")]
    _name: IgnoredAny,
    #[serde(rename = "on")]
    _on: IgnoredAny,
    permissions: BTreeMap<String, String>,
    #[serde(rename = "concurrency")]
    _concurrency: Option<IgnoredAny>,
}

/// A job.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The job that ends before it.
    pub needs: Option<String>,
    /// Whose approval it waits for.
    pub environment: Option<String>,
    steps: Vec<Step>,
    #[serde(rename = "if")]
    condition: Option<String>,
    #[serde(rename = "runs-on")]
    _runs_on: String,
    #[serde(rename = "timeout-minutes")]
    _timeout: u32,
    #[serde(rename = "concurrency")]
    _concurrency: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    name: Option<String>,
    uses: Option<String>,
    run: Option<String>,
    #[serde(rename = "if")]
    condition: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(rename = "id")]
    _id: Option<String>,
    #[serde(rename = "with")]
    _with: Option<IgnoredAny>,
}

/// Where a workflow runs, and as what.
#[derive(Debug)]
pub struct Runner {
    /// Has a `project`, which is checked out, and a Docker configuration of its own.
    directory: PathBuf,
    /// What the examples may ask for in `${{ … }}`.
    contexts: BTreeMap<&'static str, String>,
    /// What a runner sets.
    variables: BTreeMap<&'static str, String>,
    /// In place of what a workflow says at its top.
    overrides: BTreeMap<&'static str, String>,
}

impl Workflow {
    /// Reads an example, and checks what is not run here.
    pub fn load(file: &str) -> Result<Self> {
        let root = programs::tests_directory().parent().context("no repository")?;
        let text = std::fs::read_to_string(root.join(EXAMPLES).join(file)).context(file.to_owned())?;
        let workflow: Self = serde_saphyr::from_str(&text).with_context(|| file.to_owned())?;
        ensure!(workflow.permissions.contains_key("contents"), "`{file}` does not say what its token may do");
        for step in workflow.jobs.values().flat_map(|job| &job.steps) {
            step.check().with_context(|| format!("`{file}`: {step:?}"))?;
        }
        Ok(workflow)
    }

    /// The names of all examples.
    pub fn examples() -> Result<Vec<String>> {
        let root = programs::tests_directory().parent().context("no repository")?;
        let entries = std::fs::read_dir(root.join(EXAMPLES))?;
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        Ok(names)
    }
}

impl Step {
    fn check(&self) -> Result<()> {
        match (&self.uses, &self.run) {
            (Some(uses), None) => check_action(uses),
            // What a stranger chose, such as a branch's name, would be run: it comes in as a variable.
            (None, Some(run)) => {
                ensure!(!run.contains("${{"), "an expression in `run`");
                Ok(())
            }
            (Some(_), Some(_)) | (None, None) => bail!("a step is either `uses` or `run`"),
        }
    }
}

fn check_action(uses: &str) -> Result<()> {
    let (action, version) = uses.split_once('@').context("an action without version")?;
    let (_, pin) = ACTIONS.iter().find(|(known, _)| *known == action).context("an action that is not known here")?;
    let is_pinned = match pin {
        Pin::Major => version.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok()),
        Pin::Commit => version.len() == 40 && version.bytes().all(|b| b.is_ascii_hexdigit()),
    };
    ensure!(is_pinned, "`{action}` is to be pinned by {pin:?}");
    Ok(())
}

impl Runner {
    /// In a directory that has `project`, for a registry `host:port`, as this user.
    pub fn new(directory: &Path, registry: &str, user: &str, token: &str) -> Result<Self> {
        std::fs::create_dir_all(directory.join("docker/cli-plugins"))?;
        let contexts = [
            ("secrets.GITHUB_TOKEN", token),
            ("github.actor", user),
            ("github.event.number", "42"),
            ("github.event.pull_request.head.repo.full_name == github.repository", "true"),
        ];
        let variables = [
            // Registries have no capital letters in names; GitHub has.
            ("GITHUB_REPOSITORY", "Acme/Shop"),
            ("GITHUB_ACTOR", user),
            ("GITHUB_RUN_ID", "7001"),
            ("GITHUB_SHA", "0123456789abcdef0123456789abcdef01234567"),
        ];
        Ok(Self {
            directory: directory.to_owned(),
            contexts: contexts.map(|(key, value)| (key, value.to_owned())).into(),
            variables: variables.map(|(key, value)| (key, value.to_owned())).into(),
            overrides: [("REGISTRY", registry.to_owned())].into(),
        })
    }

    /// Says something else than the workflow does at its top.
    pub fn set(&mut self, variable: &'static str, value: &str) {
        self.overrides.insert(variable, value.to_owned());
    }

    /// Puts a plugin of Docker's where this runner's Docker looks for it.
    pub fn install_plugin(&self, name: &str, plugin: &Path) -> Result<()> {
        Ok(std::os::unix::fs::symlink(plugin, self.directory.join("docker/cli-plugins").join(name))?)
    }

    /// Runs a job's steps.
    pub fn run(&self, workflow: &Workflow, name: &str) -> Result<()> {
        let job = workflow.jobs.get(name).with_context(|| format!("no job `{name}`"))?;
        if let Some(condition) = &job.condition {
            let value = self.contexts.get(condition.as_str()).map(String::as_str);
            ensure!(value == Some("true"), "job `{name}` would not run: `{condition}`");
        }
        let handed_on = self.directory.join("github-env");
        std::fs::write(&handed_on, "")?;
        for step in &job.steps {
            let Some(run) = &step.run else { continue };
            if let Some(condition) = &step.condition {
                ensure!(condition == CACHED, "a condition that is not known here: `{condition}`");
                continue;
            }
            let mut command = self.command("bash")?;
            command.args(["-e", "-c", run]).env("GITHUB_ENV", &handed_on);
            for (key, value) in workflow.env.iter().chain(&step.env) {
                let value = self.overrides.get(key.as_str()).cloned().map_or_else(|| self.filled_in(value), Ok)?;
                command.env(key, value);
            }
            for line in std::fs::read_to_string(&handed_on)?.lines() {
                let (key, value) = line.split_once('=').with_context(|| format!("`GITHUB_ENV` has `{line}`"))?;
                command.env(key, value);
            }
            let output = command.output()?;
            let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (stdout, stderr) = (said(&output.stdout), said(&output.stderr));
            ensure!(output.status.success(), "job `{name}`, {:?}: {run}\n{stdout}\n{stderr}", step.name);
        }
        Ok(())
    }

    /// A program as a step would start it.
    pub fn command(&self, program: &str) -> Result<Command> {
        let oras = programs::publisher("oras")?;
        let own = [programs::directory()?, oras.parent().context("oras lies nowhere")?.to_owned()];
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path)))?;
        let mut command = Command::new(program);
        command.env_clear().env("PATH", path).env("HOME", &self.directory);
        command.env("DOCKER_CONFIG", self.directory.join("docker")).current_dir(self.directory.join("project"));
        command.envs(&self.variables);
        Ok(command)
    }

    fn filled_in(&self, text: &str) -> Result<String> {
        let Some(expression) = text.strip_prefix("${{").and_then(|rest| rest.strip_suffix("}}")) else {
            ensure!(!text.contains("${{"), "an expression within text: `{text}`");
            return Ok(text.to_owned());
        };
        self.contexts.get(expression.trim()).cloned().with_context(|| format!("`{expression}` is not known here"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_known_and_pinned() {
        let commit = format!("oras-project/setup-oras@{}", "0a".repeat(20));
        for good in ["actions/checkout@v5", &commit] {
            check_action(good).unwrap();
        }
        for bad in ["actions/checkout", "actions/checkout@main", "oras-project/setup-oras@v1", "evil/action@v1"] {
            assert!(check_action(bad).is_err(), "{bad}");
        }
    }
}
