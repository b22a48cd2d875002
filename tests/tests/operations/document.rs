//! The commands of docs/operations.md: lines of its code blocks, and what stands between backticks, where it begins with a program's name
//! and has more than that. Pure text.

use anyhow::{Result, bail};

/// What a command begins with.
const PROGRAMS: &[&str] = &[
    "$EDITOR",
    "apt",
    "apt-get",
    "az",
    "chmod",
    "chown",
    "cp",
    "curl",
    "df",
    "docker",
    "du",
    "gpasswd",
    "journalctl",
    "landfall",
    "ln",
    "ls",
    "man",
    "mkdir",
    "modprobe",
    "mount",
    "mv",
    "nft",
    "rm",
    "sudo",
    "systemctl",
    "systemd-analyze",
    "systemd-creds",
    "timedatectl",
    "umount",
    "usermod",
];
const INDENT: &str = "    ";

/// A command and the line that it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Without what is said of it.
    pub command: String,
    /// Counted from 1.
    pub line: usize,
}

/// All of them, in order. A line of a code block that is neither a command nor a setting is an error: it may be a command that nobody tests.
pub fn commands(text: &str) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for (count, line) in text.lines().enumerate() {
        let number = count + 1;
        let mut push = |command: &str| found.push(Found { command: command.to_owned(), line: number });
        if let Some(typed) = line.strip_prefix(INDENT) {
            let typed = typed.split("  #").next().unwrap_or_default().trim();
            let first = typed.split(' ').next().unwrap_or_default();
            if PROGRAMS.contains(&first) {
                push(typed);
            } else if !typed.is_empty() && !first.contains([':', '=', '[', '{', '"']) {
                bail!("line {number}: `{first}` is no program that we know; next: name it in PROGRAMS of document.rs");
            }
            continue;
        }
        for typed in line.split('`').skip(1).step_by(2) {
            let (first, rest) = typed.split_once(' ').unwrap_or((typed, ""));
            if PROGRAMS.contains(&first) && !rest.is_empty() {
                push(typed);
            }
        }
    }
    Ok(found)
}

/// The block of settings that comes next behind a text.
pub fn block_behind(text: &str, before: &str) -> Option<String> {
    let lines = text[text.find(before)?..].lines().skip(1).skip_while(|line| !line.starts_with(INDENT));
    let block = lines.take_while(|line| line.is_empty() || line.starts_with(INDENT));
    Some(block.map(str::trim_start).chain([""]).collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_command_is_found_where_it_stands() {
    let text = "See `landfall status`, `landfall` and `idle x`.\n\n    sudo landfall verify     # it looks\n    vaults:\n      a: { b: c }\n    [Unit]\n\n\
        | `df -h` | `docker` |\n";
    let found: Vec<(String, usize)> = commands(text).unwrap().into_iter().map(|f| (f.command, f.line)).collect();
    let expected = [("landfall status", 1), ("sudo landfall verify", 3), ("df -h", 8)];
    assert_eq!(found, expected.map(|(command, line)| (command.to_owned(), line)));
    assert!(commands("    ip address\n").is_err());
    assert_eq!(block_behind("a `b`:\n\n    [Unit]\n    X=y\n\nc\n", "`b`").unwrap(), "[Unit]\nX=y\n\n");
}
