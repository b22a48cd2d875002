//! A CNCF Distribution registry as a process of its own, on a free loopback port, with its data in a directory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use landfall_core::credential::Credential;
use landfall_core::ids::Digest;
use landfall_sample::http::{self, Response};

use crate::ports;
use crate::process::{Lifetime, Process};
use crate::wait::eventually;

const START: Duration = Duration::from_secs(20);

/// A registry; its data stays in the directory when it ends.
#[derive(Debug)]
pub struct Registry {
    address: String,
    directory: PathBuf,
    lifetime: Lifetime,
    /// Whom it serves, once it was closed.
    credential: Option<Credential>,
    process: Option<Process>,
}

/// Passwords of user `bot` and their bcrypt hashes; the first is what breaks naive splitting.
const PASSWORDS: [(&str, &str); 2] = [
    ("p-a_ss:word", "$2b$05$abcdefghijklmnopqrstuunfjebUerHFCZ.E/iPeW0n.jLcqfwH0W"),
    ("s3cond-Word_", "$2b$05$abcdefghijklmnopqrstuuC0gdip6s.pHHOac4HJhrETrZEJIB7/a"),
];

impl Registry {
    /// Starts one with its configuration, data and log below `directory`.
    pub fn start(directory: &Path, lifetime: Lifetime) -> Result<Self> {
        Self::start_at(directory, format!("127.0.0.1:{}", ports::free()?), lifetime)
    }

    /// As [`Self::start`], at an address of this machine.
    pub fn start_at(directory: &Path, address: String, lifetime: Lifetime) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let mut registry = Self { address, directory: directory.to_owned(), lifetime, credential: None, process: None };
        registry.write_config()?;
        registry.resume()?;
        Ok(registry)
    }

    fn write_config(&self) -> Result<()> {
        let mut config = serde_json::json!({
            "version": "0.1",
            "log": { "level": "warn" },
            "storage": { "filesystem": { "rootdirectory": self.directory.join("registry") }, "delete": { "enabled": true } },
            "http": { "addr": self.address },
        });
        if let Some(credential) = &self.credential {
            let path = self.directory.join("htpasswd");
            let known = PASSWORDS.iter().find(|(password, _)| *password == credential.password);
            let (_, hash) = known.context("nobody knows the hash of that password")?;
            std::fs::write(&path, format!("{}:{hash}\n", credential.username))?;
            config["auth"] = serde_json::json!({ "htpasswd": { "realm": "test", "path": path } });
        }
        Ok(std::fs::write(self.directory.join("registry.yaml"), config.to_string())?)
    }

    /// Serves nobody from now on but who shows this credential; we do.
    pub fn close(&mut self) -> Result<Credential> {
        self.close_with(PASSWORDS[0].0)
    }

    /// Another password from now on, and the one before is worth nothing.
    pub fn rotate(&mut self) -> Result<Credential> {
        self.close_with(PASSWORDS[1].0)
    }

    fn close_with(&mut self, password: &str) -> Result<Credential> {
        let credential = Credential { username: "bot".to_owned(), password: password.to_owned() };
        self.credential = Some(credential.clone());
        self.write_config()?;
        self.kill()?;
        self.resume()?;
        Ok(credential)
    }

    fn wait_for(&self, process: &mut Process) -> Result<()> {
        eventually(START, "the registry answers", || {
            process.check()?;
            let answer = self.request(("GET", "/v2/"), &[], &[])?;
            ensure!(answer.status == 200, "it answers {}", answer.status);
            Ok(())
        })
    }

    /// Takes it down at once; the port stays its own.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), Process::kill)
    }

    /// Starts it again at the same port with the same data.
    pub fn resume(&mut self) -> Result<()> {
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(self.directory.join("registry.yaml"));
        let mut process = Process::start("registry", &self.directory, command, self.lifetime)?;
        self.wait_for(&mut process)?;
        self.process = Some(process);
        Ok(())
    }

    /// Whom it serves, where it is closed.
    pub fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref()
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Stores a blob unless it is there.
    pub fn push_blob(&self, repository: &str, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let there = self.request(("HEAD", &format!("/v2/{repository}/blobs/{digest}")), &[], &[])?;
        if there.status == 200 {
            return Ok(digest);
        }
        let begun = self.request(("POST", &format!("/v2/{repository}/blobs/uploads/")), &[], &[])?;
        let place = begun.header("location").with_context(|| format!("no upload: {}", begun.text()))?;
        let path = place.strip_prefix("http://").map_or(place, |rest| &rest[rest.find('/').unwrap_or(rest.len())..]);
        let between = if path.contains('?') { '&' } else { '?' };
        let target = format!("{path}{between}digest={digest}");
        let done = self.request(("PUT", &target), &[("Content-Type", "application/octet-stream")], bytes)?;
        ensure!(done.status == 201, "the registry answered {} to a blob: {}", done.status, done.text());
        Ok(digest)
    }

    /// Stores a manifest under a tag.
    pub fn push_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) -> Result<Digest> {
        let target = format!("/v2/{repository}/manifests/{tag}");
        let done = self.request(("PUT", &target), &[("Content-Type", media_type)], bytes)?;
        match done.status {
            201 => Ok(Digest::of(bytes)),
            other => bail!("the registry answered {other} to a manifest: {}", done.text()),
        }
    }

    /// Puts the manifest of one tag under another, byte for byte, as retagging by plain HTTP does.
    pub fn copy_tag(&self, repository: &str, from: &str, to: &str, media_type: &str) -> Result<Digest> {
        let found = self.manifest_as(repository, from, media_type)?;
        self.push_manifest(repository, to, media_type, &found)
    }

    /// Deletes what a tag points at, and so the tag.
    pub fn delete(&self, repository: &str, tag: &str) -> Result<()> {
        let digest = self.digest(repository, tag)?;
        let done = self.request(("DELETE", &format!("/v2/{repository}/manifests/{digest}")), &[], &[])?;
        ensure!(done.status == 202, "the registry answered {} to a deletion: {}", done.status, done.text());
        Ok(())
    }

    /// The manifest of a tag, byte for byte.
    pub fn manifest(&self, repository: &str, tag: &str) -> Result<Vec<u8>> {
        self.manifest_as(repository, tag, "application/vnd.oci.image.manifest.v1+json")
    }

    fn manifest_as(&self, repository: &str, tag: &str, media_type: &str) -> Result<Vec<u8>> {
        let target = format!("/v2/{repository}/manifests/{tag}");
        let found = self.request(("GET", &target), &[("Accept", media_type)], &[])?;
        ensure!(found.status == 200, "`{tag}`: the registry answered {}", found.status);
        Ok(found.body)
    }

    /// Spoils a blob on the registry's disk: it is served from now on with what `change` leaves of it.
    pub fn spoil(&self, digest: &Digest, change: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let blobs = self.directory.join("registry/docker/registry/v2/blobs/sha256");
        let path = blobs.join(&digest.hex()[..2]).join(digest.hex()).join("data");
        let mut bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        change(&mut bytes);
        Ok(std::fs::write(path, bytes)?)
    }

    /// The digest that a tag has now.
    pub fn digest(&self, repository: &str, tag: &str) -> Result<Digest> {
        let accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                      application/vnd.docker.distribution.manifest.v2+json";
        let target = format!("/v2/{repository}/manifests/{tag}");
        let answer = self.request(("HEAD", &target), &[("Accept", accept)], &[])?;
        let digest = answer.header("docker-content-digest").with_context(|| format!("`{tag}`: {}", answer.status))?;
        Ok(digest.parse()?)
    }

    fn request(&self, request: (&str, &str), headers: &[(&str, &str)], body: &[u8]) -> Result<Response> {
        let address = self.address.parse().context("the registry's address")?;
        let shown = self.credential.as_ref().map(Credential::basic);
        let mut headers = [&[("Host", self.address.as_str())], headers].concat();
        headers.extend(shown.iter().map(|shown| ("Authorization", shown.as_str())));
        Ok(http::exchange(http::connect(&address)?, request, &headers, body)?)
    }
}
