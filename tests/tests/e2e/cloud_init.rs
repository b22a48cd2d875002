//! The database's switch of `landfall init --cloud-init`, in one word of the values: what it makes of landfall.yaml is taken as it is and
//! given to the daemons, with the example that lies beside the values.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use landfall_tests::sandbox::Sandbox;
use landfall_tests::sandbox::vault::Grant;
use landfall_tests::suite::on_a_vm_of;
use landfall_tests::tour::reads;
use landfall_tests::vm::{ROLLOUT, Vm};
use landfall_tests::wait::eventually;
use serde_json::{Value, json};

const EXAMPLE: &str = "../../cloud-init/example";
const ELSEWHERE: &str = "postgres://elsewhere.example/app";
const BESIDE: &str = "postgres://database/app";

/// The landfall.yaml of the user-data that is made with this word, as it is.
fn landfall_yaml(vm: &Vm, sandbox: &Sandbox, database: &str) -> Result<String> {
    let key = format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{} ops", "A".repeat(43));
    // JSON is YAML.
    let values = json!({
        "app": vm.app.as_str(),
        "admins": { "ops": [key] },
        "roles": { "staging": {
            "channel": vm.channel(),
            "vault": sandbox.vault_url("kv")?,
            "allow": ["database-*"],
            "vars": { "PORT": vm.port().to_string() },
            "database": database,
        } },
    });
    let path = vm.directory().join("values.yaml");
    std::fs::write(&path, values.to_string())?;
    let path = path.to_str().context("the path is no text")?;
    let made = vm.landfall(&["init", "--cloud-init", "staging", "--values", path])?;
    ensure!(made.code == 0, "{made:?}");
    let user_data: Value = serde_saphyr::from_str(&made.stdout)?;
    let files = user_data["write_files"].as_array().context("no files")?;
    let file = files.iter().find(|file| file["path"] == "/etc/landfall/landfall.yaml").context("no landfall.yaml")?;
    Ok(file["content"].as_str().context("no content")?.to_owned())
}

/// Services that run, with the ids of their containers.
fn runs(vm: &Vm, services: &[&str]) -> Result<BTreeMap<String, String>> {
    eventually(ROLLOUT, &format!("{services:?} run and nothing else"), || {
        let serving = vm.engine.serving_ids(vm.app.as_str())?;
        ensure!(serving.keys().map(String::as_str).eq(services.iter().copied()), "{serving:?}");
        Ok(serving)
    })
}

/// The example with the sample's programs in place of an api and a Postgres.
fn with_our_images(vm: &Vm) -> Result<()> {
    let registry = vm.registry.address();
    for (from, to) in [
        (format!("{registry}/acme/api:1"), format!("{registry}/sample/api:v0")),
        ("postgres:17".to_owned(), format!("{registry}/sample/base:1")),
        ("DATABASE_URL_FILE".to_owned(), "SECRET_FILE".to_owned()),
        ("/var/lib/postgresql/data".to_owned(), "/data".to_owned()),
        (
            r#""pg_isready", "--username", "postgres""#.to_owned(),
            r#""/landfall-sample", "probe", "http://127.0.0.1:8080/health""#.to_owned(),
        ),
    ] {
        vm.project.edit("compose.yaml", &from, &to)?;
    }
    Ok(())
}

#[test]
fn one_word_switches_the_database_from_elsewhere_to_a_container_and_back() {
    on_a_vm_of(EXAMPLE, "switch", |vm| {
        with_our_images(vm)?;
        let sandbox = vm.sandbox("kv")?;
        sandbox.grant("kv", "system", Grant::GET)?;
        sandbox.set_secret("kv", "database-url-external", ELSEWHERE)?;
        // What a test wants quicker than a machine does.
        let drop_ins = vm.layout().config_drop_ins();
        std::fs::create_dir_all(&drop_ins)?;
        let quick =
            json!({ "apps": { vm.app.as_str(): { "poll": "250ms" } }, "vaults": { "default": { "refresh": "1s" } } });
        std::fs::write(drop_ins.join("90-quick.yaml"), quick.to_string())?;

        // Of the secrets for the container there is none yet: they are not missed.
        vm.write_settings(&landfall_yaml(vm, &sandbox, "external")?)?;
        vm.start_fetcher(&sandbox)?;
        vm.start()?;
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        reads(vm, ELSEWHERE)?;
        runs(vm, &["api"])?;

        sandbox.set_secret("kv", "database-url-container", BESIDE)?;
        sandbox.set_secret("kv", "database-password", "only the database has it")?;
        vm.write_settings(&landfall_yaml(vm, &sandbox, "container")?)?;
        reads(vm, BESIDE)?;
        let serving = runs(vm, &["api", "database"])?;
        // The same release: the machine alone says where the database is.
        vm.serves(&v1)?;
        let mounts = vm.engine.inspect(&serving["api"])?["Mounts"].to_string();
        ensure!(mounts.contains("DATABASE_URL") && !mounts.contains("DATABASE_PASSWORD"), "{mounts}");

        vm.write_settings(&landfall_yaml(vm, &sandbox, "external")?)?;
        reads(vm, ELSEWHERE)?;
        runs(vm, &["api"])?;
        vm.serves(&v1)
    });
}
