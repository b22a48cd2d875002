//! Compose in, final model out: each folder of `tests/golden` is a project with an `expect` file that carries its own assertions.
//! Runs against the real Compose plugin (`LANDFALL_COMPOSE` names another), in the fence of the built agent.
//!
//! | line in `expect` | meaning |
//! |---|---|
//! | `given profile P`, `given var K=V`, `given allow_binds /path`, `given loopback`, `given default_memory 64M`, `given caps optional`, `given preview 64M 8100 8101` (a cap for each service, or `-`; its ports) | settings |
//! | `given memory 1G`, `given others 1G`, `given cpus 2`, `given journald`, `given slice`, `given handed SERVICE /path NAME` | the machine |
//! | `given image_volume SERVICE /path`, `given pointer SERVICE=IMAGE`, `given no facts` | the release |
//! | `refused RULE [SERVICE]` | one problem; all of them must be listed |
//! | `says TEXT` | in the refusal's text |
//! | `final /json/pointer = JSON`, `final /json/pointer absent` | in the final compose file |
//! | `deployment /json/pointer = JSON` | in the deployment |
//! | `file NAME MODE TEXT` | laid down in the agent's store |
//! | `same spec CASE SERVICE` | the same hash as in another case |

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use landfall_agent::caps::HostContext;
use landfall_agent::compose_plugin::{ComposePlugin, ConfigRequest};
use landfall_agent::refusal::{Refusal, Rule};
use landfall_agent::spec::ServiceSecrets;
use landfall_agent::translate::{self, Final, ImageFacts, ImageStart};
use landfall_agent::yaml;
use landfall_core::config::{App, Host, Ports, Preview, PreviewCaps, Source, parse_size};
use landfall_core::contract::{StagedFile, StagedRelease, StagedSource};
use landfall_core::ids::{AppName, Digest, ReleaseId};
use landfall_core::layout::Layout;
use landfall_core::secrets::SecretNeed;
use serde_json::Value;

const APP: &str = "shop";

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    cases
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn name(case: &Path) -> String {
    case.file_name().unwrap().to_string_lossy().into_owned()
}

async fn plugin() -> ComposePlugin {
    ComposePlugin::find(Some(Path::new(env!("CARGO_BIN_EXE_landfall-agent")))).await.unwrap()
}

/// What `given` lines say.
struct Given {
    app: App,
    context: HostContext,
    volumes: BTreeMap<String, Vec<String>>,
    pointer: BTreeMap<String, String>,
    facts: bool,
}

fn given(expect: &str, root: &Path) -> Given {
    let mut given = Given {
        app: App {
            channel: "127.0.0.1:5000/deploy:prod".parse().unwrap(),
            source: Source::Bundle,
            poll: std::time::Duration::from_secs(5),
            profiles: Vec::new(),
            vars: BTreeMap::new(),
            preview: None,
        },
        context: HostContext {
            layout: Layout::new(root),
            host: Host::default(),
            journald: false,
            cgroup_parent: None,
            memory_total: 8 << 30,
            cpus: 2,
            memory_of_other_apps: 0,
            handed_volumes: BTreeMap::new(),
            live_networks: BTreeMap::new(),
            secret_sets: BTreeMap::new(),
        },
        volumes: BTreeMap::new(),
        pointer: BTreeMap::new(),
        facts: true,
    };
    for line in expect.lines().filter_map(|line| line.strip_prefix("given ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["profile", profile] => given.app.profiles.push(profile.to_owned()),
            ["var", var] => {
                let (name, value) = var.split_once('=').unwrap();
                given.app.vars.insert(name.to_owned(), value.to_owned());
            }
            ["allow_binds", path] => given.context.host.allow_binds.push(path.to_owned()),
            ["loopback"] => given.context.host.publish_loopback_only = true,
            ["default_memory", size] => given.context.host.default_memory = Some(parse_size(size).unwrap()),
            ["caps", "optional"] => given.context.host.require_caps = false,
            ["memory", size] => given.context.memory_total = parse_size(size).unwrap(),
            ["others", size] => given.context.memory_of_other_apps = parse_size(size).unwrap(),
            ["cpus", count] => given.context.cpus = count.parse().unwrap(),
            ["journald"] => given.context.journald = true,
            ["slice"] => given.context.cgroup_parent = Some("landfall.slice".to_owned()),
            ["handed", service, path, volume] => {
                let volumes = given.context.handed_volumes.entry(service.to_owned()).or_default();
                volumes.insert(path.to_owned(), volume.to_owned());
            }
            ["image_volume", service, path] => {
                given.volumes.entry(service.to_owned()).or_default().push(path.to_owned());
            }
            ["set", service, set] => {
                let need = SecretNeed { service: service.to_owned(), files: BTreeMap::new(), live: None };
                let secrets = ServiceSecrets { set: set.to_owned(), need, open: None };
                given.context.secret_sets.insert(service.to_owned(), secrets);
            }
            ["pointer", image] => {
                let (service, image) = image.split_once('=').unwrap();
                given.pointer.insert(service.to_owned(), image.to_owned());
            }
            ["preview", memory, first, last] => {
                let memory = (memory != "-").then(|| parse_size(memory).unwrap());
                let ports = Ports::Block(first.parse().unwrap(), last.parse().unwrap());
                let caps = PreviewCaps { memory, services: BTreeMap::new() };
                given.app.preview = Some(Preview { of: "web".parse().unwrap(), ports, caps });
            }
            ["no", "facts"] => given.facts = false,
            _ => panic!("unknown: given {line}"),
        }
    }
    given
}

/// Lays the case out as the watcher stages a release.
fn stage(case: &Path, given: &Given) -> StagedRelease {
    let app: AppName = APP.parse().unwrap();
    let release: ReleaseId = "ab".repeat(32).parse().unwrap();
    let layout = &given.context.layout;
    let pointer = !given.pointer.is_empty();
    let root = layout.release(&app, &release);
    let project = if pointer { layout.host_app(&app) } else { root.join("project") };
    fs::create_dir_all(&project).unwrap();
    let mut staged = Vec::new();
    copy(case, &project, "", &mut staged);
    let source = if pointer {
        StagedSource::Pointer { images: given.pointer.clone() }
    } else {
        fs::create_dir_all(root.join("compose")).unwrap();
        fs::rename(project.join("compose.yaml"), root.join("compose/0.yaml")).unwrap();
        staged.retain(|file: &StagedFile| file.title != "compose.yaml" && !has_extension(&file.title, "env"));
        StagedSource::Bundle { compose: vec!["0.yaml".to_owned()], files: staged }
    };
    StagedRelease { format: 1, app, release, source, provenance: BTreeMap::new() }
}

fn copy(from: &Path, to: &Path, title: &str, staged: &mut Vec<StagedFile>) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let file = entry.file_name().to_string_lossy().into_owned();
        let below = if title.is_empty() { file.clone() } else { format!("{title}/{file}") };
        if entry.path().is_dir() {
            fs::create_dir_all(to.join(&file)).unwrap();
            copy(&entry.path(), &to.join(&file), &below, staged);
        } else if file != "expect" {
            fs::copy(entry.path(), to.join(&file)).unwrap();
            let digest = Digest::of(&fs::read(entry.path()).unwrap());
            staged.push(StagedFile { executable: has_extension(&file, "sh"), title: below, digest });
        }
    }
}

fn has_extension(title: &str, extension: &str) -> bool {
    Path::new(title).extension().is_some_and(|found| found == extension)
}

async fn run(plugin: &ComposePlugin, case: &Path, expect: &str) -> Result<Final, Refusal> {
    let root = tempfile::tempdir().unwrap();
    let given = given(expect, root.path());
    let staged = stage(case, &given);
    let app: AppName = APP.parse().unwrap();
    let (layout, host) = (&given.context.layout, &given.context.host);
    let project = translate::canonicalise(plugin, layout, &staged, &app, &given.app, host, &mut Vec::new()).await?;
    let mut images = BTreeMap::new();
    for (service, reference) in project.images().into_iter().filter(|_| given.facts) {
        let digest = Digest::of(reference.as_bytes());
        let pinned = if reference.contains('@') { reference.clone() } else { format!("{reference}@{digest}") };
        let facts = images.entry(reference).or_insert(ImageFacts {
            pinned,
            start: Some(ImageStart::default()),
            ..ImageFacts::default()
        });
        facts.volumes.extend(given.volumes.get(&service).cloned().unwrap_or_default());
    }
    let done = translate::finalise(&project, &images, &given.context)?;
    // What we write must be a compose file to Compose too, and must mean the same to it however it is read.
    let written = root.path().join("compose.yaml");
    let text = &yaml::compose_text(&done.model);
    fs::write(&written, text).unwrap();
    let vars = BTreeMap::new();
    let request = ConfigRequest { compose: &[written], project: root.path(), app: &app, profiles: &[], vars: &vars };
    let read = plugin.config(request).await.unwrap_or_else(|error| panic!("{}: {error}\n{text}", name(case)));
    assert_eq!(read.warnings, [""; 0], "{}", name(case));
    let read = read.text;
    let (ours, theirs): (Value, Value) =
        (serde_saphyr::from_str(text).unwrap(), serde_saphyr::from_str(&read).unwrap());
    for (service, keys) in ours["services"].as_object().unwrap() {
        for key in ["image", "command", "entrypoint", "environment", "labels", "mem_limit", "memswap_limit", "restart"]
        {
            assert_eq!(
                keys.get(key),
                theirs["services"][service].get(key),
                "{}: {service}.{key}\n{text}\n{read}",
                name(case)
            );
        }
    }
    let model = done.model.to_string().replace(&root.path().display().to_string(), "/ROOT");
    Ok(Final { model: serde_json::from_str(&model).unwrap(), ..done })
}

fn judge_refused(expect: &str, refusal: &Refusal, wrong: &mut Vec<String>) {
    let problem = |rule: &str, service: Option<&str>| match service {
        Some(service) => format!("{rule} {service}"),
        None => rule.to_owned(),
    };
    let found: BTreeSet<String> =
        refusal.problems.iter().map(|p| problem(p.rule.name(), p.service.as_deref())).collect();
    let wanted: BTreeSet<String> =
        expect.lines().filter_map(|line| line.strip_prefix("refused ")).map(|line| line.trim().to_owned()).collect();
    if found != wanted {
        wrong.push(format!("refused {found:?}, expected {wanted:?}: {refusal}"));
    }
    for text in expect.lines().filter_map(|line| line.strip_prefix("says ")) {
        if !refusal.to_string().contains(text) {
            wrong.push(format!("`{text}` is not in\n{refusal}"));
        }
    }
    if refusal.problems.iter().any(|p| p.next.is_empty() || p.what.is_empty() || p.key.is_empty()) {
        wrong.push(format!("something is left unsaid: {refusal}"));
    }
}

type Specs = BTreeMap<String, BTreeMap<String, String>>;

fn judge_accepted(case: &str, expect: &str, done: &Final, all: &Specs, wrong: &mut Vec<String>) {
    let text = yaml::compose_text(&done.model);
    let project: Value = serde_saphyr::from_str(&text).unwrap();
    let deployment = serde_json::to_value(&done.deployment).unwrap();
    for line in expect.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', ' '])) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "given" => {}
            "final" => judge_value(rest, &project, wrong),
            "deployment" => judge_value(rest, &deployment, wrong),
            "file" => {
                let [name, mode, content] = rest.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                    panic!("{case}: {line}")
                };
                let found = done.files.iter().any(|(path, bytes, bits)| {
                    path.ends_with(name) && bytes == content.as_bytes() && format!("{bits:04o}") == mode
                });
                if !found {
                    wrong.push(format!("no {line} among {:?}", done.files));
                }
            }
            "same" => {
                let [_, other, service] = rest.split(' ').collect::<Vec<_>>()[..] else { panic!("{case}: {line}") };
                if all[case][service] != all[other][service] {
                    wrong.push(line.to_owned());
                }
            }
            "refused" | "says" => wrong.push(format!("accepted, and expected: {line}")),
            _ => panic!("{case}: unknown line `{line}`"),
        }
    }
    if !wrong.is_empty() {
        wrong.push(text);
    }
}

fn judge_value(assertion: &str, value: &Value, wrong: &mut Vec<String>) {
    let (pointer, wanted) = if let Some(pointer) = assertion.strip_suffix(" absent") {
        (pointer, None)
    } else {
        let (pointer, wanted) = assertion.split_once(" = ").unwrap_or_else(|| panic!("{assertion}"));
        (pointer, Some(serde_json::from_str::<Value>(wanted).unwrap_or_else(|e| panic!("{assertion}: {e}"))))
    };
    let found = value.pointer(pointer);
    if found != wanted.as_ref() {
        wrong.push(format!("{assertion}\n  found {}", found.map_or_else(|| "nothing".to_owned(), Value::to_string)));
    }
}

#[tokio::test]
async fn every_case_does_as_it_says() {
    let plugin = &plugin().await;
    let runs = cases().into_iter().map(|case| async move {
        let expect = fs::read_to_string(case.join("expect")).unwrap_or_else(|e| panic!("{}: {e}", case.display()));
        (name(&case), run(plugin, &case, &expect).await, expect)
    });
    let results: Vec<_> = futures_util::stream::iter(runs).buffered(4).collect().await;
    let mut specs: Specs = BTreeMap::new();
    for (case, result, _) in &results {
        let Ok(done) = result else { continue };
        let of = done.deployment.services.iter().map(|(service, spec)| (service.clone(), spec.spec.clone()));
        specs.insert(case.clone(), of.collect());
    }
    let mut report = String::new();
    for (case, result, expect) in &results {
        let mut wrong = Vec::new();
        match result {
            Ok(done) => judge_accepted(case, expect, done, &specs, &mut wrong),
            Err(refusal) => judge_refused(expect, refusal, &mut wrong),
        }
        for line in wrong {
            report.push_str(&format!("{case}: {line}\n"));
        }
    }
    assert!(report.is_empty(), "\n{report}");
    hashes_do_not_move(&specs);
}

/// A contract: a hash that moves replaces every container in the field. `LANDFALL_BLESS=1` writes new cases down.
fn hashes_do_not_move(specs: &Specs) {
    let path = golden().join("hashes");
    let mut lines = String::new();
    for (case, services) in specs {
        for (service, spec) in services {
            lines.push_str(&format!("{case} {service} {spec}\n"));
        }
    }
    if std::env::var_os("LANDFALL_BLESS").is_some() {
        fs::write(&path, &lines).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    for (line, wanted) in lines.lines().zip(golden.lines()) {
        assert_eq!(line, wanted, "a spec hash moved");
    }
    assert_eq!(lines, golden, "cases came or went: look at the difference, then run with LANDFALL_BLESS=1");
}

/// `landfall check` has the files where a developer has them, and comes to the same hash.
#[tokio::test]
async fn a_plain_directory_is_judged_as_its_bundle_would_be() {
    let plugin = plugin().await;
    let app: AppName = APP.parse().unwrap();
    let hashes = fs::read_to_string(golden().join("hashes")).unwrap();
    for case in ["plain", "a-dot-env-file-is-not-read"] {
        let directory = golden().join(case);
        let given = given("", Path::new("/"));
        let compose = [directory.join("compose.yaml")];
        let mut warnings = Vec::new();
        let checked =
            translate::check(&plugin, &compose, &directory, &app, &given.app, &given.context, &mut warnings).await;
        let (done, _) = checked.unwrap();
        let spec = &done.deployment.services["web"].spec;
        let digest = Digest::of(b"nginx:1");
        // The images that `check` supposes are those that the cases suppose.
        assert!(done.deployment.services["web"].image.ends_with(digest.hex()));
        assert!(hashes.lines().any(|line| line == format!("{case} web {spec}")), "{case} {spec}");
    }
    let (given, gone) = (given("", Path::new("/")), golden().join("plain/gone.yaml"));
    let (plain, mut warnings) = (golden().join("plain"), Vec::new());
    let refused = translate::check(&plugin, &[gone], &plain, &app, &given.app, &given.context, &mut warnings).await;
    assert_eq!(refused.unwrap_err().problems[0].rule, Rule::Unreadable);
}

/// Names are resolved by Compose's own interpolation.
#[tokio::test]
async fn secrets_become_needs() {
    let case = golden().join("secrets");
    let root = tempfile::tempdir().unwrap();
    let given = given(&fs::read_to_string(case.join("expect")).unwrap(), root.path());
    let staged = stage(&case, &given);
    let (app, context) = (APP.parse().unwrap(), &given.context);
    let mut warnings = Vec::new();
    let plugin = &plugin().await;
    let read =
        translate::canonicalise(plugin, &context.layout, &staged, &app, &given.app, &context.host, &mut warnings);
    let project = read.await.unwrap();
    let [need] = project.needs() else { panic!("{:?}", project.needs()) };
    assert_eq!(need.service, "web");
    let files = need.files.iter().map(|(name, file)| {
        (name.as_str(), file.secret.to_string(), file.uid.unwrap_or(0), file.gid.unwrap_or(0), file.mode)
    });
    let wanted = [
        ("DB_PASSWORD", "stage-db-password".to_owned(), 0, 0, None),
        ("TOKEN", "token@0123456789abcdef0123456789abcdef".to_owned(), 0, 0, None),
        ("api-key", "kv2/api-key".to_owned(), 1000, 33, Some(0o440)),
    ];
    assert_eq!(files.collect::<Vec<_>>(), wanted);
}

#[test]
fn every_rule_has_a_case() {
    let mut seen = BTreeSet::new();
    for case in cases() {
        let expect = fs::read_to_string(case.join("expect")).unwrap();
        seen.extend(expect.lines().filter_map(|l| l.strip_prefix("refused ")?.split(' ').next().map(str::to_owned)));
    }
    let without: Vec<&str> = Rule::ALL.iter().map(|rule| rule.name()).filter(|name| !seen.contains(*name)).collect();
    assert!(without.is_empty(), "rules without a case in tests/golden: {without:?}");
}
