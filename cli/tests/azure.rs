//! docs/azure.md: what costs money says so, `landfall` lines can be typed, and names are those of the example of values. What `az` itself
//! takes is not judged here.

use std::fs;
use std::path::Path;

use clap::Parser as _;
use landfall::arguments::Cli;

/// From these on somebody pays.
const COST: [&str; 8] = [
    "az disk create",
    "az disk update",
    "az keyvault create",
    "az network nat gateway create",
    "az network public-ip create",
    "az sig image-version create",
    "az storage account create",
    "az vm create",
];
/// These are free, or end what costs.
const FREE: [&str; 22] = [
    "az account set",
    "az ad signed-in-user show",
    "az group create",
    "az group delete",
    "az keyvault secret set",
    "az keyvault show",
    "az login",
    "az network nsg create",
    "az network nsg rule create",
    "az network vnet create",
    "az network vnet subnet update",
    "az provider register",
    "az role assignment create",
    "az sig create",
    "az sig image-definition create",
    "az sig image-version show",
    "az storage account delete",
    "az storage account show",
    "az storage blob upload",
    "az storage container create",
    "az vm show",
    "az vm run-command invoke",
];
/// Free too, of the disk that moves.
const MOVE: [&str; 3] = ["az vm disk attach", "az vm disk detach", "az vm stop"];

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)).expect(name)
}

/// Lines to type, each with the one before it; those that go on are one.
fn typed(page: &str) -> Vec<(String, String)> {
    let joined = page.replace(" \\\n      ", " ");
    let lines: Vec<&str> = joined.lines().collect();
    let pairs =
        lines.windows(2).filter_map(|pair| Some((pair[0].trim().to_owned(), pair[1].strip_prefix("    ")?.to_owned())));
    pairs.collect()
}

#[test]
fn what_costs_money_says_so() {
    let typed = typed(&document("docs/azure.md"));
    let mut seen = Vec::new();
    for (before, line) in typed.iter().filter(|(_, line)| !line.starts_with('#')) {
        let Some(at) = line.find("az ").filter(|at| *at == 0 || line[..*at].ends_with("$(")) else { continue };
        let words = line[at..].split(' ').take_while(|word| !word.starts_with("--"));
        let command = words.collect::<Vec<_>>().join(" ");
        let costs = COST.contains(&command.as_str());
        assert!(
            costs || FREE.contains(&command.as_str()) || MOVE.contains(&command.as_str()),
            "does it cost? `{command}`"
        );
        assert_eq!(costs, before.starts_with("# costs: "), "`{line}` stands behind `{before}`");
        seen.push(command);
    }
    for command in COST.iter().chain(&FREE).chain(&MOVE) {
        assert!(seen.iter().any(|one| one == command), "nobody types `{command}`");
    }
    let machines = |role: &str| {
        let made =
            |line: &str| line.starts_with("az vm create") && line.contains(&format!("--custom-data {role}.yaml"));
        typed.iter().filter(|(_, line)| made(line)).count()
    };
    assert_eq!((machines("production"), machines("staging")), (2, 1));
}

#[test]
fn our_own_lines_can_be_typed() {
    let typed = typed(&document("docs/azure.md"));
    let ours: Vec<&String> = typed.iter().map(|(_, line)| line).filter(|line| line.starts_with("landfall ")).collect();
    assert_eq!(ours.len(), 3, "{ours:?}");
    for line in ours {
        if let Err(error) = Cli::try_parse_from(line.split(' ')) {
            panic!("`{line}`: {error}");
        }
    }
}

#[test]
fn names_are_those_of_the_example() {
    let (page, values) = (document("docs/azure.md"), document("cloud-init/values.yaml"));
    for name in
        ["kv-acme-staging", "kv-acme-production", "ghcr-read-token", "ops", "ghcr.io/acme/deploy:prod", "data_disk"]
    {
        assert!(page.contains(name) && values.contains(name), "{name}");
    }
    for secret in ["database-url-container", "database-url-external", "database-password"] {
        assert!(page.contains(secret) && document("cloud-init/example/compose.yaml").contains(secret), "{secret}");
    }
}
