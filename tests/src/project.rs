//! The sample project as CI has it: a directory with compose.yaml and proxy.conf, and the images it names.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use landfall_core::ids::Digest;

use crate::images::{self, Image};
use crate::programs;
use crate::registry::Registry;

/// What stands for the registry in the fixture.
const PLACEHOLDER: &str = "registry.example";

/// A working copy of the fixture.
#[derive(Debug)]
pub struct Project {
    directory: PathBuf,
    owner: String,
}

impl Project {
    /// Copies a fixture to `directory`, and pushes the images that do not change between versions.
    pub fn create(directory: &Path, fixture: &str, owner: &str, registry: &Registry) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let fixture = programs::tests_directory().join("fixtures").join(fixture);
        for entry in std::fs::read_dir(&fixture).with_context(|| fixture.display().to_string())? {
            let entry = entry?;
            let text = std::fs::read_to_string(entry.path())?.replace(PLACEHOLDER, registry.address());
            std::fs::write(directory.join(entry.file_name()), text)?;
        }
        let base = Image { repository: "sample/base", tag: "1", command: &["store"], owner, ..Image::default() };
        images::push(registry, &base)?;
        Ok(Self { directory: directory.to_owned(), owner: owner.to_owned() })
    }

    /// Where it lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The compose file.
    pub fn compose_file(&self) -> PathBuf {
        self.directory.join("compose.yaml")
    }

    /// Pushes an api image of that version under a tag. `environment` is baked into the image.
    pub fn push_api(
        &self,
        registry: &Registry,
        tag: &str,
        version: &str,
        environment: &[(&str, &str)],
    ) -> Result<Digest> {
        let environment = [&[("VERSION", version), ("START_DELAY_MS", "500")], environment].concat();
        let image = Image {
            repository: "sample/api",
            tag,
            command: &["api"],
            environment: &environment,
            owner: &self.owner,
            ..Image::default()
        };
        images::push(registry, &image)
    }

    /// Pushes an api image of that version and lets the compose file name it. `environment` is baked into the image.
    pub fn set_version(&self, registry: &Registry, version: &str, environment: &[(&str, &str)]) -> Result<Digest> {
        let digest = self.push_api(registry, version, version, environment)?;
        let text = std::fs::read_to_string(self.compose_file())?;
        let name = "/sample/api:";
        let start = text.find(name).context("the compose file names no api image")? + name.len();
        let end = start + text[start..].find('\n').context("the compose file has no end")?;
        std::fs::write(self.compose_file(), format!("{}{version}{}", &text[..start], &text[end..]))?;
        Ok(digest)
    }

    /// Replaces text in one of its files; the text must be there.
    pub fn edit(&self, file: &str, from: &str, to: &str) -> Result<()> {
        let path = self.directory.join(file);
        let text = std::fs::read_to_string(&path)?;
        ensure!(text.contains(from), "`{file}` has no `{from}`");
        Ok(std::fs::write(path, text.replace(from, to))?)
    }
}
