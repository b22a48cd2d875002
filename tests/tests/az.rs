//! The `az` commands that we give to people are commands of Azure's own client: those that `landfall init` prints and those of docs/azure.md, as
//! a shell reads them, and those of the fetcher's messages; beside them the template of Packer. Microsoft's azure-cli parses them with its own tables (`tests/python/parse_az.py`), and runs none. It
//! is no part of `make test`: `make test-az` installs that client first.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use landfall_tests::programs;
use serde_json::Value;

const EXPLAIN: &str = "secrets-fetcher/src/explain.rs";
const WALK: &str = "docs/azure.md";
const TEMPLATE: &str = "azure.pkr.hcl";
/// Writes down how it was called, a file for each call, and prints what a shell can take for a value.
const STAND_IN: &str = "#!/bin/sh\nprintf '%s\\0' \"$@\" >\"$CALLS/$(ls \"$CALLS\" | wc -l)\"\necho value\n";

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a repository").join(path)
}

#[test]
fn each_az_command_that_init_prints_is_one_and_means_what_it_should() -> Result<()> {
    let root = tempfile::tempdir()?;
    let words = "init --app web --channel ghcr.io/acme/deploy:prod --vault https://kv-acme.vault.azure.net --vm vm-1 --resource-group rg-acme";
    let mut init = Command::new(programs::find("landfall")?);
    let printed = init.arg("--root").arg(root.path()).args(words.split(' ')).output()?;
    ensure!(printed.status.success(), "{printed:?}");
    let calls = called(&String::from_utf8(printed.stdout)?)?;
    let parsed = parsed(&calls)?;
    let mut commands: Vec<&str> = parsed.iter().filter_map(|one| one["command"].as_str()).collect();
    commands.sort_unstable();
    ensure!(
        commands == ["keyvault show", "keyvault show", "role assignment create", "vm identity assign", "vm show"],
        "{commands:?}"
    );
    let of = |command: &str, option: &str| {
        let one = parsed.iter().find(|one| one["command"] == command);
        one.and_then(|one| one["options"][option].as_str()).unwrap_or_default().to_owned()
    };
    for (command, option, value) in [
        ("vm identity assign", "vm_name", "vm-1"),
        ("vm identity assign", "resource_group_name", "rg-acme"),
        ("role assignment create", "role", "Key Vault Secrets User"),
        ("role assignment create", "assignee_principal_type", "ServicePrincipal"),
        ("role assignment create", "assignee_object_id", "value"),
        ("role assignment create", "scope", "value"),
    ] {
        ensure!(of(command, option) == value, "`{command}`: {option} is `{}`: {parsed:#?}", of(command, option));
    }
    Ok(())
}

#[test]
fn each_az_command_of_a_message_is_one() -> Result<()> {
    let text = fs::read_to_string(repository(EXPLAIN))?;
    let lines: Vec<String> = text.split("`az ").skip(1).filter_map(|rest| rest.split('`').next()).map(filled).collect();
    ensure!(lines.len() >= 6, "{lines:?}");
    let calls = called(&format!("az {}", lines.join("\naz ")))?;
    ensure!(calls.len() >= lines.len(), "{calls:?} of {lines:?}");
    parsed(&calls).map(drop)
}

/// Each variable is set above where it is read, else the shell ends here.
#[test]
fn each_az_command_of_the_walk_through_is_one() -> Result<()> {
    let text = fs::read_to_string(repository(WALK))?;
    let lines = statements(&text)?;
    let calls = called(&format!("SUBSCRIPTION=acme\n{}", lines.join("\n")))?;
    let written: usize =
        text.lines().filter(|line| line.starts_with("    ")).map(|line| line.matches("az ").count()).sum();
    ensure!(calls.len() >= 40 && calls.len() == written, "{} calls of {written} written: {calls:#?}", calls.len());
    parsed(&calls).map(drop)
}

/// Packer itself cannot be had here: what its file is made of is checked, not what Azure's plugin says of it.
#[test]
fn the_template_of_packer_is_hcl_with_the_lists_of_the_image() -> Result<()> {
    let python = repository("target/hcl2/bin/python");
    ensure!(python.is_file(), "`{}` is not there; next: `make test-az`", python.display());
    let image = repository("packaging/image");
    let mut command = Command::new(python);
    let read = command.arg(repository("tests/python/read_hcl.py")).arg(image.join(TEMPLATE)).output()?;
    ensure!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let template: Value = serde_json::from_slice(&read.stdout)?;

    let steps = template["build"][0]["provisioner"].to_string();
    let install = steps.split("install.sh ").nth(1).and_then(|rest| rest.split(['"', '\\']).next()).unwrap_or_default();
    let lists: BTreeSet<String> = install.split(' ').skip(1).map(str::to_owned).collect();
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(&image)? {
        there.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    there.retain(|name| name.starts_with("packages"));
    ensure!(lists == there && there.len() >= 2, "the template installs {lists:?} of {there:?}");

    let variables: BTreeSet<String> = template["variable"]
        .as_array()
        .context("no variables")?
        .iter()
        .filter_map(|one| Some(one.as_object()?.keys().next()?.trim_matches('"').to_owned()))
        .collect();
    let text = fs::read_to_string(image.join(TEMPLATE))?;
    ensure!(words_behind(&text, "var.") == variables, "declared are {variables:?}");
    let typed = fs::read_to_string(repository(WALK))?;
    ensure!(words_behind(&typed, "-var ") == variables, "{WALK} sets others than {variables:?}");
    Ok(())
}

/// Each name that follows that sign.
fn words_behind(text: &str, sign: &str) -> BTreeSet<String> {
    text.split(sign)
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_lowercase()).next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn what_is_no_command_is_refused() {
    let foreign = "role assignment create --assignee-principal-type Robot --role x --assignee-object-id x --scope x";
    for line in ["vm identity give", "keyvault show --vault x", "role assignment create --role x", foreign] {
        let call: Vec<String> = line.split(' ').map(str::to_owned).collect();
        assert!(parsed(&[call]).is_err(), "{line}");
    }
}

/// What docs/azure.md has people type, but what is about files of theirs and our own program.
fn statements(text: &str) -> Result<Vec<String>> {
    let typed: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let mut statements = Vec::new();
    for line in typed.join("\n").replace("\\\n", " ").lines().filter(|line| !line.starts_with('#')) {
        let word = line.split_whitespace().next().unwrap_or_default();
        match word {
            "read" | "shred" | "landfall" | "make" | "packer" => {}
            _ if word == "az" || word.contains('=') => statements.push(line.to_owned()),
            _ => anyhow::bail!("no test knows `{line}`"),
        }
    }
    Ok(statements)
}

/// What a `format!` would put in is any word; its quotes are quotes.
fn filled(text: &str) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        filled.push_str(before);
        filled.push_str("word");
        rest = behind.split_once('}').map_or("", |(_, behind)| behind);
    }
    (filled + rest).replace("\\\"", "\"")
}

/// The words of each call of `az` that a shell makes of this text.
fn called(text: &str) -> Result<Vec<Vec<String>>> {
    let directory = tempfile::tempdir()?;
    let (programs, calls) = (directory.path().join("programs"), directory.path().join("calls"));
    for directory in [&programs, &calls] {
        fs::create_dir(directory)?;
    }
    for (name, script) in [("az", STAND_IN), ("landfall", "#!/bin/sh\n"), ("sudo", "#!/bin/sh\n")] {
        fs::write(programs.join(name), script)?;
        fs::set_permissions(programs.join(name), Permissions::from_mode(0o755))?;
    }
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let ran = Command::new("sh").args(["-euc", text]).env("PATH", path).env("CALLS", &calls).output()?;
    ensure!(ran.status.success(), "{text}: {ran:?}");
    let mut read = Vec::new();
    for entry in fs::read_dir(&calls)? {
        let words = fs::read_to_string(entry?.path())?;
        read.push(words.split_terminator('\0').map(str::to_owned).collect());
    }
    Ok(read)
}

/// What azure-cli makes of them; one that it does not take is an error.
fn parsed(calls: &[Vec<String>]) -> Result<Vec<Value>> {
    let python = repository("target/azure-cli/bin/python");
    ensure!(python.is_file(), "`{}` is not there; next: `make test-az`", python.display());
    let home = tempfile::tempdir()?;
    let mut command = Command::new("unshare");
    // Without a network: nothing can be run by mistake.
    command.args(["--net", "--map-root-user"]).arg(python).arg(repository("tests/python/parse_az.py"));
    command.env("AZURE_CONFIG_DIR", home.path()).env("AZURE_CORE_COLLECT_TELEMETRY", "no").env("HOME", home.path());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    for call in calls {
        writeln!(stdin, "{}", serde_json::to_string(call)?)?;
    }
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut answers = Vec::new();
    for (line, call) in String::from_utf8(output.stdout)?.lines().zip(calls) {
        let answer: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        ensure!(answer["error"].is_null(), "`az {}`: {}", call.join(" "), answer["error"]);
        answers.push(answer);
    }
    ensure!(answers.len() == calls.len(), "{} answers to {} commands", answers.len(), calls.len());
    Ok(answers)
}
