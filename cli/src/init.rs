//! `landfall init`: writes a first landfall.yaml with words to each key, and prints what is to be done in Azure and what to type next.
//! It never writes over a file of somebody's but by `--force`, which keeps a copy, and never a file that our own reader refuses. The file
//! that the package brings is nobody's, as long as nobody has edited it. It calls nothing in Azure. With `--cloud-init` it makes the
//! user-data of a machine to come in place of all that.

mod azure;
mod cloud_init;
mod template;

use std::path::{Path, PathBuf};

use clap::Args;
use landfall_core::config::{Channel, Config, VaultSource};
use landfall_core::ids::AppName;
use landfall_core::layout::Layout;
use landfall_core::publish;

use crate::failure::{Exit, Failed, chain};
use crate::terminal;

/// Everybody may read settings: no secret is in them.
const MODE: u32 = 0o644;
/// The vault that a reference without a name means.
const DEFAULT_VAULT: &str = "default";

/// Arguments of `init`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without arguments: a file in which everything is commented out. The daemons then wait for an edit."
)]
pub struct Init {
    /// The first app of this machine: the name of its Compose project.
    #[arg(long, requires = "channel")]
    pub app: Option<AppName>,
    /// What it follows, `registry/repository:tag`.
    #[arg(long, requires = "app", value_name = "REF")]
    pub channel: Option<Channel>,
    /// An Azure Key Vault with its secrets, `https://NAME.vault.azure.net`. The first is the `default` one.
    #[arg(long = "vault", value_name = "URL")]
    pub vaults: Vec<String>,
    /// This machine's name in Azure, for the commands that are printed. Without it: its host name.
    #[arg(long, value_name = "NAME", value_parser = azure::name)]
    pub vm: Option<String>,
    /// Its resource group, for the same.
    #[arg(long, value_name = "NAME", value_parser = azure::name)]
    pub resource_group: Option<String>,
    /// Print the user-data of a machine of this role for cloud-init, in place of writing the settings of this one.
    #[arg(long, value_name = "ROLE", requires = "values", conflicts_with_all = ["app", "channel", "vaults", "vm", "resource_group"])]
    pub cloud_init: Option<String>,
    /// What the user-data is made of: who logs in, and what each role follows and reads.
    #[arg(long, value_name = "FILE", requires = "cloud_init")]
    pub values: Option<PathBuf>,
    /// Write the user-data into this file, in place of printing it.
    #[arg(long, value_name = "FILE", requires = "cloud_init")]
    pub output: Option<PathBuf>,
    /// Write over a file that is there; what it was stays beside it, as landfall.yaml.bak for one.
    #[arg(long)]
    pub force: bool,
}

/// Writes the file, and prints what to do.
pub fn run(layout: &Layout, arguments: &Init) -> Result<Exit, Failed> {
    if let Some((role, values)) = arguments.cloud_init.as_ref().zip(arguments.values.as_ref()) {
        let text = cloud_init::user_data(values, role)?;
        match &arguments.output {
            Some(path) => eprintln!("{}", write(path, &text, arguments.force)?),
            None => terminal::out(&text),
        }
        return Ok(Exit::Done);
    }
    let path = layout.config_file();
    let vaults = named(&arguments.vaults);
    let app = arguments.app.as_ref().zip(arguments.channel.as_ref());
    let text = template::text(app, &vaults);
    let urls = judge(&path, &text)?;
    eprintln!("{}", write(&path, &text, arguments.force)?);
    let vm = arguments.vm.clone().or_else(host_name).unwrap_or_else(|| "VM".to_owned());
    let group = arguments.resource_group.as_deref().unwrap_or("RESOURCE-GROUP");
    terminal::out(&azure::steps(&vm, group, &urls, app.is_some()));
    Ok(Exit::Done)
}

/// Vaults with the names that references begin with: the first is the default, the others are called as their host is.
fn named(urls: &[String]) -> Vec<(String, String)> {
    let name = |(number, url): (usize, &String)| {
        let name = if number == 0 { DEFAULT_VAULT.to_owned() } else { azure::vault_name(url).to_ascii_lowercase() };
        (name, url.clone())
    };
    urls.iter().enumerate().map(name).collect()
}

/// Whether our reader takes it; the URLs of its vaults.
fn judge(path: &Path, text: &str) -> Result<Vec<String>, Failed> {
    let next = "correct the argument; nothing was written";
    let config = Config::parse(path, text).map_err(|error| Failed::usage(chain(&error)).next(next))?;
    let settings = config.settle().map_err(|why| Failed::usage(why).next(next))?;
    let url = |source: VaultSource| match source {
        VaultSource::KeyVault { url, .. } => Some(url),
        VaultSource::Directory(_) => None,
    };
    Ok(settings.vaults.into_values().filter_map(|vault| url(vault.source)).collect())
}

/// The file, in one piece or not at all.
fn write(path: &Path, text: &str, force: bool) -> Result<String, Failed> {
    let shown = path.display();
    let failed = |error: std::io::Error| {
        Failed::new(Exit::Failed, format!("cannot write `{shown}`: {error}")).next("run it with sudo")
    };
    if publish::write_new(path, text.as_bytes(), MODE).map_err(failed)? {
        return Ok(format!("`{shown}` is written"));
    }
    let before = std::fs::read(path).map_err(failed)?;
    if before == text.as_bytes() {
        return Ok(format!("`{shown}` is there already, and says this"));
    }
    if before == template::text(None, &[]).as_bytes() {
        publish::write(path, text.as_bytes(), MODE).map_err(failed)?;
        return Ok(format!("`{shown}` is written; nobody had edited what the package brought"));
    }
    if !force {
        return Err(Failed::usage(format!("`{shown}` is there already; nothing was written"))
            .next("edit it, or say `--force`, which keeps a copy of it beside it"));
    }
    let copy = PathBuf::from(format!("{shown}.bak"));
    if !publish::write_new(&copy, &before, MODE).map_err(failed)? {
        return Err(Failed::usage(format!("there is a copy from before, `{}`; nothing was written", copy.display()))
            .next("move it to another name, or remove it"));
    }
    publish::write(path, text.as_bytes(), MODE).map_err(failed)?;
    Ok(format!("`{shown}` is written; what it was is in `{}`", copy.display()))
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    azure::name(name.trim().split('.').next().unwrap_or_default()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vaults(urls: &[&str]) -> Vec<(String, String)> {
        named(&urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>())
    }

    fn settings(text: &str) -> landfall_core::config::Settings {
        let config = Config::parse(Path::new("landfall.yaml"), text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        config.settle().unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// What is commented out has no space behind its `#`: words have.
    fn uncommented(text: &str) -> String {
        let line = |line: &str| match line.split_once('#') {
            Some((margin, rest)) if margin.trim().is_empty() && !rest.starts_with([' ', '\n']) && !rest.is_empty() => {
                format!("{margin}{rest}\n")
            }
            _ => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    }

    #[test]
    fn what_is_commented_out_would_be_valid_too() {
        let (app, channel) = ("web".parse().unwrap(), "ghcr.io/acme/deploy:prod".parse().unwrap());
        let kv = ["https://kv-acme.vault.azure.net", "https://KV-two.vault.azure.net"];
        for app in [None, Some((&app, &channel))] {
            for vaults in [vaults(&[]), vaults(&kv)] {
                let text = template::text(app, &vaults);
                let (written, all) = (settings(&text), settings(&uncommented(&text)));
                assert_eq!((written.apps.len(), written.vaults.len()), (usize::from(app.is_some()), vaults.len()));
                assert_eq!(written.host, all.host, "the commented values are the defaults");
                assert!(!all.apps.is_empty() && !all.vaults.is_empty() && !all.registries.is_empty(), "{text}");
                for (name, app) in &written.apps {
                    assert_eq!((&app.poll, app.source), (&all.apps[name].poll, all.apps[name].source));
                }
                for (name, vault) in &written.vaults {
                    assert_eq!(vault, &all.vaults[name], "the commented values are the defaults");
                }
            }
        }
    }

    #[test]
    fn a_vault_that_is_none_is_told_and_nothing_is_written() {
        let root = tempfile::tempdir().unwrap();
        for url in ["http://kv.vault.azure.net", "kv", "https://kv\"\n  x: y"] {
            let text = template::text(None, &vaults(&[url]));
            assert!(judge(root.path(), &text).is_err(), "{url}");
        }
    }
}
