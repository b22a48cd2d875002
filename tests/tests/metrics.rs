//! What is shipped for monitoring: the metrics of a real agent, the alert rules, the dashboard and the document that explains them
//! must speak of the same things. The judge is Prometheus' own promtool.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use landfall_core::protocol::HistoryEvent;
use landfall_tests::programs;
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{SOON, Vm};
use landfall_tests::wait::eventually;
use serde_json::Value;

/// What else in the documents is written so.
const OTHERS: [&str; 2] = ["landfall_guard", "landfall_0"];
/// What others write and our rules use.
const FOREIGN: [&str; 1] = ["node_textfile_mtime_seconds"];

fn repository(path: &str) -> PathBuf {
    programs::tests_directory().join("..").join(path)
}

fn text(path: &str) -> Result<String> {
    let path = repository(path);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn promtool(arguments: &[&str], input: &str) -> Result<()> {
    let mut child = Command::new(programs::promtool()?)
        .args(arguments)
        .current_dir(repository("."))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no stdin")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    // `check metrics` exits with 3 where it has advice.
    ensure!(output.status.success(), "promtool {arguments:?}: {said}");
    Ok(())
}

fn rules() -> Result<Vec<Value>> {
    let read: Value = serde_saphyr::from_str(&text("packaging/usr/share/landfall/alerts.yml")?)?;
    let groups = read["groups"].as_array().context("no groups")?;
    Ok(groups.iter().filter_map(|group| group["rules"].as_array()).flatten().cloned().collect())
}

fn word<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key].as_str().with_context(|| format!("no `{key}` in {value}"))
}

/// The names of metrics in a text.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let metrics = words.filter(|word| word.starts_with("landfall_") || word.starts_with("node_textfile_"));
    metrics.map(|word| word.trim_end_matches("_sum").trim_end_matches("_count").to_owned()).collect()
}

/// The samples of the agent's file, by name with labels.
fn samples(vm: &Vm) -> Result<BTreeMap<String, f64>> {
    let page = std::fs::read_to_string(vm.layout().agent_metrics())?;
    let sample = |line: &str| -> Result<(String, f64)> {
        let (name, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
        Ok((name.to_owned(), value.parse()?))
    };
    page.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

fn shows(vm: &Vm, sample: &str, wanted: f64) -> Result<()> {
    let (name, labels) = sample.split_once('{').context("no labels")?;
    let key = format!("{name}{{app=\"{}\"{}{labels}", vm.app, if labels == "}" { "" } else { "," });
    eventually(SOON, &format!("`{key}` is {wanted}"), || {
        let found = samples(vm)?.get(&key).copied();
        ensure!(found == Some(wanted), "{found:?}");
        Ok(())
    })
}

#[test]
fn each_alert_fires_and_does_not_as_its_stories_say() -> Result<()> {
    promtool(&["check", "rules", "packaging/usr/share/landfall/alerts.yml"], "")?;
    promtool(&["test", "rules", "tests/fixtures/alerts-test.yml"], "")?;
    let stories: Value = serde_saphyr::from_str(&text("tests/fixtures/alerts-test.yml")?)?;
    let stories = stories["tests"].as_array().context("no tests")?;
    let cases: Vec<&Value> = stories.iter().filter_map(|story| story["alert_rule_test"].as_array()).flatten().collect();
    for rule in rules()? {
        let name = word(&rule, "alert")?;
        for fires in [true, false] {
            let told = |case: &&Value| case["exp_alerts"].as_array().is_some_and(|alerts| alerts.is_empty() != fires);
            let found = cases.iter().any(|case| case["alertname"] == name && told(case));
            ensure!(found, "no story of `{name}` in which it {}", if fires { "fires" } else { "is silent" });
        }
    }
    Ok(())
}

#[test]
fn each_alert_says_what_it_is_and_has_its_section() -> Result<()> {
    let operations = text("docs/operations.md")?;
    let (_, alerts) = operations.split_once("\n## Alerts\n").context("no section `Alerts`")?;
    let alerts = alerts.split("\n## ").next().unwrap_or_default();
    let mut sections: BTreeSet<&str> = alerts.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    for rule in rules()? {
        let (name, annotations) = (word(&rule, "alert")?, &rule["annotations"]);
        ensure!(!word(annotations, "summary")?.is_empty() && !word(annotations, "description")?.is_empty(), "{name}");
        ensure!(matches!(word(&rule["labels"], "severity")?, "warning" | "critical"), "{name}");
        let wanted = format!("docs/operations.md#{}", name.to_lowercase());
        ensure!(word(annotations, "runbook")? == wanted, "the runbook of `{name}` is not {wanted}");
        ensure!(sections.remove(name), "`{name}` has no section of its own");
    }
    ensure!(sections.is_empty(), "sections of alerts that there are not: {sections:?}");
    Ok(())
}

#[test]
fn what_a_real_agent_writes_is_good_and_all_that_is_shipped_speaks_of_nothing_else() {
    on_a_vm("metrics", |vm| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        shows(vm, r#"landfall_rollouts_total{outcome="live"}"#, 1.0)?;
        shows(vm, r#"landfall_rollouts_total{outcome="rolled-back"}"#, 0.0)?;
        shows(vm, r#"landfall_service_ready_replicas{service="api"}"#, 1.0)?;
        let page = std::fs::read_to_string(vm.layout().agent_metrics())?;
        promtool(&["check", "metrics"], &page)?;
        let found = samples(vm)?;
        let of = |name: &str, more: &str| {
            let key = format!("{name}{{app=\"{}\"{more}}}", vm.app);
            found.get(&key).copied().with_context(|| format!("no `{key}` in\n{page}"))
        };
        let status = vm.status()?;
        let deployment = status.deployment.context("no deployment")?;
        let ids = format!(",release=\"{}\",deployment=\"{}\"", v1.release.short(), deployment.short());
        ensure!(of("landfall_release_info", &ids)?.to_bits() == 1_f64.to_bits());
        let used = of("landfall_service_memory_bytes", r#",service="api""#)?;
        let cap = of("landfall_service_memory_cap_bytes", r#",service="api""#)?;
        ensure!((100_000.0..cap).contains(&used), "{used} of {cap} bytes");
        let polled = of("landfall_last_good_poll_timestamp_seconds", "")?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
        ensure!((now - 300.0..now + 1.0).contains(&polled), "polled at {polled}, now is {now}");
        let disk = found.iter().find(|(key, _)| key.starts_with("landfall_disk_used_ratio")).context("no disk")?;
        ensure!((0.001..1.0).contains(disk.1), "{disk:?}");

        let written: BTreeSet<String> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .map(str::to_owned)
            .chain(FOREIGN.map(str::to_owned))
            .collect();
        for shipped in ["packaging/usr/share/landfall/alerts.yml", "packaging/usr/share/landfall/dashboard.json"] {
            let unknown: Vec<String> = named(&text(shipped)?).difference(&written).cloned().collect();
            ensure!(unknown.is_empty(), "{shipped} speaks of {unknown:?}");
        }
        // The guard's table and the package's file are no metrics.
        let told: BTreeSet<String> =
            named(&text("docs/operations.md")?).into_iter().filter(|name| !OTHERS.contains(&name.as_str())).collect();
        let different: Vec<&String> = told.symmetric_difference(&written).collect();
        ensure!(different.is_empty(), "docs/operations.md and what is written differ: {different:?}");
        Ok(())
    });
}

#[test]
fn a_release_that_was_taken_back_is_counted_and_counted_on_by_the_next_agent() {
    on_a_vm("metrics-back", |vm| {
        vm.live(&vm.publish_version("v1", &[])?)?;
        let seq = vm.last_seq()?;
        vm.publish_version("v2", &[("MODE", "crash")])?;
        vm.recorded(seq, HistoryEvent::RolledBack, None)?;
        let same = |vm: &Vm| -> Result<()> {
            shows(vm, r#"landfall_rollouts_total{outcome="rolled-back"}"#, 1.0)?;
            shows(vm, r#"landfall_rollout_duration_seconds_count{outcome="rolled-back"}"#, 1.0)?;
            shows(vm, r#"landfall_rollout_failures_total{reason="exited"}"#, 1.0)?;
            shows(vm, "landfall_newest_release_quarantined{}", 1.0)
        };
        same(vm)?;
        vm.stop_agent()?;
        ensure!(vm.layout().agent_metrics().is_file(), "its age is how others see that no agent runs");
        let before = std::fs::metadata(vm.layout().agent_metrics())?.modified()?;
        vm.start_agent()?;
        eventually(SOON, "the next agent writes", || {
            ensure!(std::fs::metadata(vm.layout().agent_metrics())?.modified()? > before, "not yet");
            Ok(())
        })?;
        same(vm)?;

        vm.write_settings("apps: [")?;
        eventually(SOON, "a mistake in the settings is seen", || {
            let valid = samples(vm)?.get("landfall_settings_valid").copied();
            ensure!(valid == Some(0.0), "{valid:?}");
            Ok(())
        })
    });
}

#[test]
fn the_dashboard_can_be_imported_and_each_of_its_queries_parses() -> Result<()> {
    let dashboard: Value = serde_json::from_str(&text("packaging/usr/share/landfall/dashboard.json")?)?;
    ensure!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 36), "an old schema");
    let variables = dashboard["templating"]["list"].as_array().context("no variables")?;
    let sources = variables.iter().filter(|v| v["type"] == "datasource" && v["query"] == "prometheus");
    ensure!(sources.map(|v| &v["name"]).eq(["datasource"]), "not one variable for the data source");
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let (mut ids, mut taken, mut queries) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for panel in panels {
        let title = word(panel, "title")?;
        ensure!(ids.insert(panel["id"].as_u64().context("no id")?), "`{title}` has the id of another");
        let at = |key: &str| panel["gridPos"][key].as_u64().with_context(|| format!("`{title}` has no `{key}`"));
        let (left, top, width, height) = (at("x")?, at("y")?, at("w")?, at("h")?);
        ensure!(width > 0 && height > 0 && left + width <= 24, "`{title}` is wider than the grid");
        for place in (left..left + width).flat_map(|x| (top..top + height).map(move |y| (x, y))) {
            ensure!(taken.insert(place), "`{title}` lies on another panel at {place:?}");
        }
        let Some(targets) = panel["targets"].as_array() else {
            ensure!(panel["type"] == "row", "`{title}` shows nothing");
            continue;
        };
        let mut letters = BTreeSet::new();
        for target in targets {
            ensure!(letters.insert(word(target, "refId")?), "`{title}`: one `refId` twice");
            ensure!(target["datasource"]["uid"] == "${datasource}", "`{title}` has a data source of its own");
            queries.push(word(target, "expr")?.to_owned());
        }
    }
    ensure!(queries.len() >= panels.len(), "few queries: {queries:?}");
    // A rule file is what this promtool parses queries in.
    let rules: Vec<Value> = queries
        .iter()
        .enumerate()
        .map(|(count, query)| serde_json::json!({ "record": format!("panel:{count}"), "expr": query }))
        .collect();
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(&file, serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string())?;
    promtool(&["check", "rules", file.path().to_str().context("no path")?], "")
}
