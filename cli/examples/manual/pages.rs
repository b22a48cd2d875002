//! What is generated: `landfall(1)`, a page for each of its commands, `landfall.yaml(5)`, completions. Nothing of the machine that
//! it runs on may get into them: the same sources give the same bytes.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;
use landfall::arguments::Cli;

const README: &str = include_str!("../../../README.md");
/// The head of the table that is the reference of the configuration.
const REFERENCE: &str = "| key | type | default | meaning |";

/// Writes all of it below `share`.
pub fn write(share: &Path) -> io::Result<()> {
    let man1 = made(share.join("man/man1"))?;
    clap_mangen::generate_to(Cli::command(), &man1)?;
    fs::write(made(share.join("man/man5"))?.join("landfall.yaml.5"), configuration(README))?;
    for (shell, directory, name) in [
        (Shell::Bash, "bash-completion/completions", "landfall"),
        (Shell::Zsh, "zsh/vendor-completions", "_landfall"),
        (Shell::Fish, "fish/vendor_completions.d", "landfall.fish"),
    ] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "landfall", &mut text);
        fs::write(made(share.join(directory))?.join(name), text)?;
    }
    Ok(())
}

fn made(directory: impl AsRef<Path>) -> io::Result<std::path::PathBuf> {
    fs::create_dir_all(&directory)?;
    Ok(directory.as_ref().to_owned())
}

/// `landfall.yaml(5)`: the reference of README as a manual page.
pub fn configuration(readme: &str) -> String {
    let mut page = String::from(HEAD);
    let table = readme.split_once(REFERENCE).map_or("", |(_, rest)| rest);
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [key, kind, default, meaning] = cells[..] else { continue };
        let notes: Vec<String> = [(kind, ""), (default, "default ")]
            .iter()
            .filter(|(text, _)| !text.is_empty())
            .map(|(text, word)| format!("{word}{}", roff(text)))
            .collect();
        page.push_str(&format!(".TP\n{}\n{}\n.br\n{}\n", roff(key), notes.join("; "), roff(meaning)));
    }
    page.push_str(TAIL);
    page
}

/// Markdown of one table cell: `` `code` `` in bold, links as their text.
fn roff(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some((before, link)) = rest.split_once('[')
        && let Some((name, after)) = link.split_once("](")
        && let Some((_, after)) = after.split_once(')')
        && !before.contains('`')
        && !name.contains('`')
    {
        text.push_str(before);
        text.push_str(name);
        rest = after;
    }
    text.push_str(rest);
    let mut out = String::new();
    for (index, part) in text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").split('`').enumerate() {
        let bold = index % 2 == 1;
        out.push_str(&if bold { format!("\\fB{part}\\fR") } else { part.to_owned() });
    }
    // A line that begins with a dot would be a request.
    if out.starts_with('.') { format!("\\&{out}") } else { out }
}

const HEAD: &str = r#".TH landfall.yaml 5 "" "Landfall"
.SH NAME
landfall.yaml \- what a machine with Landfall runs
.SH SYNOPSIS
.nf
/etc/landfall/landfall.yaml
/etc/landfall/landfall.d/*.yaml
.fi
.SH DESCRIPTION
The main file is read first, then the drop\-ins in the order of their file names: maps merge by key, everything else is replaced.
Unknown keys are errors. All daemons look for changes every few seconds; while the files have a mistake the last valid settings
stay in force.
.PP
Sizes are written as \fB512M\fR or \fB1.5G\fR (powers of 1024), durations as \fB250ms\fR, \fB30s\fR or \fB1h30m\fR.
.PP
\fBlandfall check\fR judges the files.
.SH KEYS
"#;

const TAIL: &str = r#".SH EXAMPLE
.nf
apps:
  web:
    channel: registry.acme.example/deploy:staging
    profiles: [edge]
    vars: { PORT: "8080" }
.fi
.SH SEE ALSO
\fBlandfall\fR(1), \fBlandfall\-check\fR(1), \fBlandfall\-agent\fR(8), /usr/share/doc/landfall/README.md
"#;
