//! What the tests of the shipped watcher need: a real registry, a publisher that speaks plain HTTP, the watcher itself on
//! a tree of its own, and waiting for a condition.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod fake;
pub mod http;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use landfall_core::contract::{self, ChannelFile, PreviewsFile, Read, StagedRelease, StagedSource, WantedFile};
use landfall_core::ids::{AppName, Digest, ReleaseId};
use landfall_core::layout::Layout;
use serde_json::{Value, json};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `look` finds something; `what` is for the message.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_at_most(PATIENCE, what, look)
}

/// As [`wait_for`], for what takes longer by itself.
pub fn wait_at_most<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < patience, "waited {patience:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn free_port() -> u16 {
    landfall_tests::ports::free().unwrap()
}

/// A child that does not outlive the test.
pub struct Process(Child);

impl Process {
    pub fn kill(&mut self) {
        // SIGKILL, and reaped: nothing of it runs any more.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    pub fn id(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The CNCF Distribution registry on a port and a directory of its own.
pub struct Registry {
    pub address: String,
    directory: tempfile::TempDir,
    _process: Process,
}

impl Registry {
    pub fn start() -> Self {
        Self::start_on(free_port())
    }

    pub fn start_on(port: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{port}");
        let data = directory.path().join("data");
        let text = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: \"{address}\" }}\n",
            data.display()
        );
        let config = directory.path().join("config.yml");
        fs::write(&config, text).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`docker-registry` is not installed; run `tools/install-registry.sh`");
        let registry = Self { address, directory, _process: Process(child) };
        wait_for("the registry", || http::request(&registry.address, "GET", "/v2/", &[], b"").ok());
        registry
    }

    /// Pushes a manifest and its blobs and points the tag at it. Gives the manifest's digest.
    pub fn push(&self, repository: &str, tag: &str, manifest: &Value, blobs: &[&[u8]]) -> Digest {
        for blob in blobs.iter().copied().chain([b"{}".as_slice()]) {
            http::push_blob(&self.address, repository, blob);
        }
        let bytes = manifest.to_string().into_bytes();
        http::push_manifest(&self.address, repository, tag, manifest["mediaType"].as_str().unwrap(), &bytes);
        Digest::of(&bytes)
    }

    /// Pushes a bundle.
    pub fn publish(&self, tag: &str, bundle: &Bundle) -> Digest {
        let blobs: Vec<&[u8]> = bundle.layers.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        self.push("deploy", tag, &bundle.manifest(), &blobs)
    }

    pub fn channel(&self, tag: &str) -> String {
        format!("{}/deploy:{tag}", self.address)
    }
}

/// A bundle to be published.
#[derive(Clone)]
pub struct Bundle {
    layers: Vec<(Value, Vec<u8>)>,
    annotations: Value,
}

impl Bundle {
    pub fn new(compose: &str) -> Self {
        let bundle = Self { layers: Vec::new(), annotations: json!({}) };
        bundle.layer(
            "application/vnd.docker.compose.file+yaml",
            compose.as_bytes(),
            &json!({"com.docker.compose.file": "compose.yaml"}),
        )
    }

    pub fn file(self, title: &str, bytes: &[u8]) -> Self {
        self.layer("application/vnd.landfall.file.v1", bytes, &json!({"org.opencontainers.image.title": title}))
    }

    pub fn layer(mut self, media_type: &str, bytes: &[u8], annotations: &Value) -> Self {
        let descriptor = json!({
            "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len(), "annotations": annotations,
        });
        self.layers.push((descriptor, bytes.to_vec()));
        self
    }

    pub fn annotate(mut self, key: &str, value: &str) -> Self {
        self.annotations[key] = json!(value);
        self
    }

    pub fn sequence(self, channel: &str, sequence: u64) -> Self {
        self.annotate("io.landfall.channel", channel).annotate("io.landfall.sequence", &sequence.to_string())
    }

    pub fn manifest(&self) -> Value {
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.docker.compose.project",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::of(b"{}"), "size": 2},
            "layers": self.layers.iter().map(|(descriptor, _)| descriptor).collect::<Vec<_>>(),
            "annotations": self.annotations,
        })
    }
}

/// A machine's tree with a watcher on it.
pub struct Vm {
    root: tempfile::TempDir,
    pub layout: Layout,
    pub app: AppName,
    watcher: Option<Process>,
}

impl Vm {
    /// One app, `web`, that follows `channel`; nothing runs yet.
    pub fn new(channel: &str, more: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let vm = Self { layout: Layout::new(root.path()), app: "web".parse().unwrap(), watcher: None, root };
        vm.configure(&format!("apps:\n  web: {{ channel: \"{channel}\", {more} }}\n"));
        vm
    }

    pub fn configure(&self, text: &str) {
        landfall_core::publish::write(&self.layout.config_file(), text.as_bytes(), 0o644).unwrap();
    }

    /// One entry of previews, `web`, and nothing else; nothing runs yet. The machine's `app` is the one of tag `pr-1`.
    pub fn with_previews(address: &str, more: &str) -> Self {
        let vm = Self::new("a.b/c:1", "poll: 1h");
        vm.configure(&format!("previews:\n  web: {{ channel: \"{address}/deploy:pr-*\", poll: 200ms, {more} }}\n"));
        Self { app: "web-pr-1".parse().unwrap(), ..vm }
    }

    /// The file of its entry, where it is there and can be read.
    pub fn previews(&self) -> Option<PreviewsFile> {
        match contract::read(&self.layout.previews(&"web".parse().unwrap())) {
            Read::Found(file) => Some(file),
            Read::Absent | Read::Garbled(_) | Read::NewerFormat(_) => None,
        }
    }

    /// Puts down a file of previews as a watcher may have left it.
    pub fn put_previews(&self, file: &PreviewsFile) {
        landfall_core::publish::write_json(&self.layout.previews(&file.entry), file).unwrap();
    }

    /// Waits until the tags, with `!` before those whose time is over, are these.
    pub fn wait_for_tags(&self, wanted: &[&str]) -> PreviewsFile {
        let text = |file: &PreviewsFile| -> Vec<String> {
            let mark = |over: bool| if over { "!" } else { "" };
            file.tags.iter().map(|(tag, known)| format!("{}{tag}", mark(known.over.is_some()))).collect()
        };
        let mut last = None;
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            last = self.previews();
            match &last {
                Some(file) if text(file) == wanted => return file.clone(),
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        panic!("waited in vain for {wanted:?}, found {last:?}\n{}", self.log());
    }

    pub fn start(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_landfall-image-watcher"))
            .arg("--root")
            .arg(self.root.path())
            .env_clear()
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.watcher = Some(Process(child));
    }

    pub fn kill(&mut self) {
        self.watcher.take().unwrap().kill();
    }

    pub fn watcher_id(&self) -> i32 {
        self.watcher.as_ref().unwrap().id()
    }

    /// The most memory that the watcher ever had, KiB.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.watcher_id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Sends SIGHUP.
    pub fn reload(&self) {
        let id = nix::unistd::Pid::from_raw(self.watcher_id());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGHUP).unwrap();
    }

    fn log_path(&self) -> std::path::PathBuf {
        self.root.path().join("watcher.log")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn wait_for_log(&self, words: &str) {
        wait_for(words, || self.log().contains(words).then_some(()));
    }

    pub fn channel(&self) -> Option<ChannelFile> {
        match contract::read(&self.layout.channel(&self.app)) {
            Read::Found(file) => Some(file),
            Read::Absent => None,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the channel file shows this manifest.
    pub fn wait_for_digest(&self, digest: &Digest) -> ChannelFile {
        wait_for("the release to be staged", || {
            self.channel().filter(|file| file.digest.as_ref() == Some(digest)).or_else(|| self.check_alive())
        })
    }

    /// Waits until the channel file tells of a problem with these words.
    pub fn wait_for_problem(&self, words: &str) -> ChannelFile {
        wait_for(words, || self.channel().filter(|f| f.problem.as_ref().is_some_and(|p| p.contains(words))))
    }

    fn check_alive<T>(&self) -> Option<T> {
        assert!(self.watcher.is_some());
        None
    }

    /// What a reader may rely on: a release that has a name is whole, and every file has the digest that it is kept under.
    pub fn check_staged(&self, release: &ReleaseId) -> StagedRelease {
        let directory = self.layout.release(&self.app, release);
        let Read::Found(record) = contract::read::<StagedRelease>(&directory.join("release.json")) else {
            panic!("{} has no record", directory.display());
        };
        assert_eq!((&record.release, &record.app), (release, &self.app));
        let StagedSource::Bundle { compose, files } = &record.source else { return record };
        for name in compose {
            assert!(directory.join("compose").join(name).is_file());
        }
        for file in files {
            let content = self.layout.watcher_files().join(file.content_dir()).join(file.name());
            for path in [directory.join("project").join(&file.title), content] {
                let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                assert_eq!(Digest::of(&bytes), file.digest, "{}", path.display());
                let wanted = if file.executable { 0o555 } else { 0o444 };
                assert_eq!(mode_of(&path), wanted, "{}", path.display());
            }
        }
        record
    }

    /// Every release directory that has a real name is whole.
    pub fn check_all_staged(&self) {
        for entry in fs::read_dir(self.layout.releases(&self.app)).into_iter().flatten() {
            if let Ok(release) = entry.unwrap().file_name().to_string_lossy().parse() {
                self.check_staged(&release);
            }
        }
    }

    pub fn want_poll(&self, poll: u64) {
        let (releases, tags, request) = (Vec::new(), BTreeMap::new(), String::new());
        let file = WantedFile {
            format: 1,
            app: self.app.clone(),
            releases,
            poll,
            tags,
            secrets: Vec::new(),
            live: BTreeMap::new(),
            request,
        };
        landfall_core::publish::write_json(&self.layout.wanted(&self.app), &file).unwrap();
    }
}

fn mode_of(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
