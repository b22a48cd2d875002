//! The manual: every command has its page with every option, every key of README's reference is in `landfall.yaml(5)`; and what the journal's catalog tells people to type can be typed.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory as _, Parser as _};
use landfall::arguments::Cli;

#[path = "../examples/manual/pages.rs"]
mod pages;

const CATALOG: &str = include_str!("../../packaging/usr/lib/systemd/catalog/landfall.catalog");

/// Every command below `command`, with the name of its page.
fn commands(command: &Command, name: &str, found: &mut Vec<(String, Command)>) {
    found.push((name.to_owned(), command.clone()));
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        commands(verb, &format!("{name}-{}", verb.get_name()), found);
    }
}

fn plain(page: &str) -> String {
    page.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "").replace("\\fI", "")
}

#[test]
fn every_command_has_a_page_with_all_its_options() {
    let share = tempfile::tempdir().unwrap();
    pages::write(share.path()).unwrap();
    let mut all = Vec::new();
    commands(&Cli::command(), "landfall", &mut all);
    assert!(all.len() > 15);
    for (name, command) in &all {
        let page = fs::read_to_string(share.path().join(format!("man/man1/{name}.1"))).expect(name);
        let page = plain(&page);
        for option in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(page.contains(&format!("--{option}")), "{name}.1 has no `--{option}`:\n{page}");
        }
    }
    let pages = fs::read_dir(share.path().join("man/man1")).unwrap().count();
    assert_eq!(pages, all.len(), "there are pages of no command");
    for completion in [
        "bash-completion/completions/landfall",
        "zsh/vendor-completions/_landfall",
        "fish/vendor_completions.d/landfall.fish",
    ] {
        let text = fs::read_to_string(share.path().join(completion)).expect(completion);
        for (_, command) in &all {
            assert!(text.contains(command.get_name()), "{completion} lacks `{}`", command.get_name());
        }
    }
}

#[test]
fn the_page_of_the_configuration_has_every_key_of_the_reference() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let page = plain(&pages::configuration(&readme));
    let rows = readme.lines().skip_while(|line| !line.starts_with("| key | type")).skip(2);
    let keys: Vec<&str> = rows.map_while(|row| row.strip_prefix("| `")?.split('`').next()).collect();
    assert!(keys.len() > 20, "{keys:?}");
    for key in keys {
        assert!(page.contains(key), "landfall.yaml(5) has no `{key}`");
    }
}

#[test]
fn what_the_catalog_says_to_type_can_be_typed() {
    let typed: Vec<&str> = CATALOG.lines().filter(|line| line.starts_with("    landfall ")).map(str::trim).collect();
    assert!(typed.len() > 20);
    for line in typed {
        let line = line.replace("@LANDFALL_APP@", "web").replace("@LANDFALL_SERVICE@", "api");
        let line = line.replace("@CHANNEL@", "registry.acme.example/deploy:prod").replace('"', "");
        if let Err(error) = Cli::try_parse_from(line.split(' ')) {
            panic!("`{line}`: {error}");
        }
    }
}
