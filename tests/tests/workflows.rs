//! The workflows that users paste, run step by step against a real registry that wants to know who asks: afterwards the channel
//! has the release that was meant.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use landfall_core::ids::Digest;
use landfall_tests::artifact::{BUNDLE, COMPOSE, FILE};
use landfall_tests::engine::Engine;
use landfall_tests::process::Lifetime;
use landfall_tests::registry::Registry;
use landfall_tests::workflow::{Runner, Workflow};
use landfall_tests::{clean, programs};
use serde_json::Value;

/// What a runner has: a project that is checked out, and a registry.
struct Ci {
    registry: Registry,
    runner: Runner,
    directory: tempfile::TempDir,
    owner: String,
}

impl Ci {
    fn new(name: &str) -> Result<Self> {
        let owner = format!("{}{}-workflow-{name}", clean::PREFIX, std::process::id());
        let prefix = format!("{}{}-", clean::DIRECTORY, std::process::id());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir()?;
        let mut registry = Registry::start(directory.path(), Lifetime::Test)?;
        let credential = registry.close()?;
        let port = registry.address().rsplit(':').next().context("no port")?;
        // By this name stock tools speak HTTP without TLS by themselves, as they speak TLS to ghcr.io.
        let host = format!("localhost:{port}");
        let runner = Runner::new(directory.path(), &host, &credential.username, &credential.password)?;
        let ci = Self { registry, runner, directory, owner };
        let fixtures = programs::tests_directory().join("fixtures");
        std::fs::create_dir(ci.project())?;
        std::fs::copy(fixtures.join("workflows/compose.yaml"), ci.project().join("compose.yaml"))?;
        std::fs::copy(fixtures.join("sample/proxy.conf"), ci.project().join("proxy.conf"))?;
        std::fs::copy(programs::sample()?, ci.project().join("landfall-sample"))?;
        let owner = &ci.owner;
        let dockerfile = format!(
            "FROM scratch\nLABEL io.landfall.test={owner}\nCOPY landfall-sample /\nENTRYPOINT [\"/landfall-sample\"]\n"
        );
        std::fs::write(ci.project().join("Dockerfile"), dockerfile)?;
        Ok(ci)
    }

    fn project(&self) -> PathBuf {
        self.directory.path().join("project")
    }

    /// Runs an example's jobs in this order; each must be named.
    fn run(&self, file: &str, jobs: &[&str]) -> Result<()> {
        let workflow = Workflow::load(file)?;
        ensure!(workflow.jobs.len() == jobs.len(), "`{file}` has other jobs than {jobs:?}");
        jobs.iter().try_for_each(|job| self.runner.run(&workflow, job)).with_context(|| file.to_owned())
    }

    /// The manifest of a channel of the example's repository.
    fn manifest(&self, tag: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.registry.manifest("acme/shop/deploy", tag)?)?)
    }

    /// Media type, title and digest of each layer.
    fn layers(&self, tag: &str) -> Result<Vec<(String, String, String)>> {
        let manifest = self.manifest(tag)?;
        ensure!(manifest["artifactType"] == BUNDLE, "{manifest}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let layers = manifest["layers"].as_array().context("no layers")?;
        let layers = layers.iter().filter(|layer| layer["mediaType"] != "application/vnd.oci.empty.v1+json");
        let described = layers.map(|layer| {
            let annotations = &layer["annotations"];
            let title =
                annotations.get("org.opencontainers.image.title").or(annotations.get("com.docker.compose.file"));
            (text(&layer["mediaType"]), title.map(text).unwrap_or_default(), text(&layer["digest"]))
        });
        Ok(described.collect())
    }

    /// A file of the project as a layer.
    fn layer(&self, media_type: &str, title: &str) -> Result<(String, String, String)> {
        let digest = Digest::of(&std::fs::read(self.project().join(title))?);
        Ok((media_type.to_owned(), title.to_owned(), digest.to_string()))
    }

    /// `landfall diff` finds nothing: the channel has this project with that image.
    fn has_the_project(&self, tag: &str, image: &str) -> Result<()> {
        let port = self.registry.address().rsplit(':').next().context("no port")?;
        let channel = format!("localhost:{port}/acme/shop/deploy:{tag}");
        let image = format!("api=localhost:{port}/acme/shop/api:{image}");
        let mut diff = self.runner.command("landfall")?;
        let output = diff.args(["diff", &channel, "-f", "compose.yaml", "--image", &image]).output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    }
}

impl Drop for Ci {
    fn drop(&mut self) {
        for left in clean::app(&Engine::of_this_machine(), &self.owner) {
            eprintln!("left behind: {left}");
        }
    }
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Staging gets something newer while somebody thinks about the candidate: what was approved is what production gets.
#[test]
fn deploy_then_promote_what_was_approved() -> Result<()> {
    let ci = Ci::new("deploy")?;
    ci.run("deploy.yaml", &["deploy"])?;
    ci.has_the_project("staging", COMMIT)?;
    let approved = ci.layers("staging")?;

    let promote = Workflow::load("promote.yaml")?;
    ensure!(promote.jobs.len() == 2 && promote.jobs["production"].needs.as_deref() == Some("candidate"));
    ensure!(promote.jobs["production"].environment.as_deref() == Some("production"), "nobody is asked");
    ci.runner.run(&promote, "candidate")?;
    std::fs::write(ci.project().join("proxy.conf"), "listen 81;\n")?;
    ci.run("deploy.yaml", &["deploy"])?;
    ensure!(ci.layers("staging")? != approved, "staging has nothing newer");
    ci.runner.run(&promote, "production")?;
    ensure!(ci.layers("prod")? == approved, "{:?} is not {approved:?}", ci.layers("prod"));
    let channel = ci.manifest("prod")?["annotations"]["io.landfall.channel"].clone();
    ensure!(channel.as_str().is_some_and(|channel| channel.ends_with("/acme/shop/deploy:prod")), "{channel}");
    Ok(())
}

#[test]
fn a_pull_request_has_a_channel_of_its_own() -> Result<()> {
    let ci = Ci::new("preview")?;
    ci.run("preview.yaml", &["preview"])?;
    ci.has_the_project("pr-42", &format!("pr-42-{COMMIT}"))
}

#[test]
fn stock_oras_publishes_what_lies_there() -> Result<()> {
    let ci = Ci::new("oras")?;
    ci.run("oras.yaml", &["deploy"])?;
    let expected =
        [ci.layer(COMPOSE, "compose.yaml")?, ci.layer(COMPOSE, "image.yaml")?, ci.layer(FILE, "proxy.conf")?];
    ensure!(ci.layers("staging")? == expected, "{:?}", ci.layers("staging"));
    names_the_image(&ci)
}

/// With Compose 5, as runners have it; it asks for TLS even on loopback.
#[test]
fn stock_compose_publishes_what_lies_there() -> Result<()> {
    let mut ci = Ci::new("compose")?;
    let newest =
        programs::tests_directory().parent().context("no repository")?.join("target/compose-v5/docker-compose");
    ci.runner.install_plugin("docker-compose", &newest)?;
    ci.runner.set("PUBLISH_OPTIONS", "--yes --insecure-registry");
    let text = "services:\n  api:\n    image: localhost/never/pushed:1\n    mem_limit: 32M\n";
    std::fs::write(ci.project().join("compose.yaml"), text)?;
    ci.run("compose-publish.yaml", &["deploy"])?;
    let expected = [ci.layer(COMPOSE, "compose.yaml")?, ci.layer(COMPOSE, "image.yaml")?];
    ensure!(ci.layers("staging")? == expected, "{:?}", ci.layers("staging"));
    names_the_image(&ci)
}

/// The file that the workflow wrote names the image that it pushed.
fn names_the_image(ci: &Ci) -> Result<()> {
    let digest = ci.registry.digest("acme/shop/api", COMMIT)?;
    let text = std::fs::read_to_string(ci.project().join("image.yaml"))?;
    ensure!(text.contains(&format!("/acme/shop/api@{digest}\n")), "{text}");
    Ok(())
}

#[test]
fn no_example_is_left_untried() -> Result<()> {
    let tried = ["compose-publish.yaml", "deploy.yaml", "oras.yaml", "preview.yaml", "promote.yaml"];
    ensure!(Workflow::examples()? == tried, "{:?}", Workflow::examples());
    for file in tried {
        Workflow::load(file)?;
    }
    Ok(())
}
